"""Ground truth tables of a phantom, written in parts so that they never have to fit in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.phantom.plan import PIXEL_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from napari_teramind.atlas import StructureTable
    from napari_teramind.phantom.cells import Cells
    from napari_teramind.phantom.expression import Profiles
    from napari_teramind.phantom.transcripts import Transcripts


class PartTable:
    """A table of a brain as a folder of parquet files, which any reader takes for one table.

    Parameters
    ----------
    store : path
        Folder of the brain.
    name : str
        Name of the table.
    """

    def __init__(self, store: Path, name: str) -> None:
        self.folder = store / "tables" / f"{name}.parquet"

    def write(self, part: str, frame: pd.DataFrame) -> None:
        """Write one part; a part that is there is replaced, never left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Parquet readers pass over files whose names begin with a dot.
        partial = self.folder / f".{part}.partial"
        frame.to_parquet(partial, index=False)
        partial.replace(self.folder / f"{part}.parquet")

    def clean(self) -> None:
        """Remove what a killed run left half-written."""
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()


def transcript_frame(found: Transcripts, z: int, genes: Sequence[str]) -> pd.DataFrame:
    """Transcripts as a table: slice, y_um, x_um, gene, cell (0 for none), nuclear."""
    import pandas as pd

    return pd.DataFrame(
        {
            "slice": np.full(len(found), z, np.uint16),
            "y_um": found.y.astype(np.float64) * PIXEL_SIZE,
            "x_um": found.x.astype(np.float64) * PIXEL_SIZE,
            "gene": pd.Categorical.from_codes(found.gene.astype(np.int32), pd.Index(genes)),
            "cell": found.cell,
            "nuclear": found.nuclear,
        }
    )


def cell_frame(cells: Cells, z: int, profiles: Profiles, table: StructureTable) -> pd.DataFrame:
    """Cells as a table: id (as in the label image ``nuclei``), place, type, structure, sizes."""
    import pandas as pd

    names = [cell_type.name for cell_type in profiles.types]
    return pd.DataFrame(
        {
            "id": cells.id,
            "slice": np.full(len(cells), z, np.uint16),
            "y_um": cells.y * PIXEL_SIZE,
            "x_um": cells.x * PIXEL_SIZE,
            "type": pd.Categorical.from_codes(cells.type, pd.Index(names)),
            "structure": cells.structure,
            # With its type stated, as a tile may hold no cell at all.
            "acronym": pd.array([table[int(i)].acronym for i in cells.structure], dtype="string"),
            "nucleus_diameter_um": 2 * cells.radius * PIXEL_SIZE,
            "body_diameter_um": 2 * cells.body * PIXEL_SIZE,
        }
    )

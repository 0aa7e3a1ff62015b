"""Transcripts of any number: sorted by tile on disk, counted tile by tile.

Memory holds one batch, a buffer of fixed size and the counts of one tile, however many there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.brain import layout
from napari_teramind.brain.importers.batches import Batch
from napari_teramind.brain.importers.report import TranscriptCounts
from napari_teramind.brain.layout import BIN, ceil_div
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from napari_teramind.brain.writer import BrainWriter

BLANK = re.compile(r"blank([-_ ]?\d+)?", re.IGNORECASE)
"""Names of control barcodes that stand for no gene, on MERSCOPE."""
CONTROL = re.compile(
    r"blank([-_ ]?\w+)?|(neg|system)[-_ ]?control.*|negprb.*|negative[-_ ]?\d*|falsecode.*"
    r"|antisense[-_ ].*|(unassigned|deprecated)[-_ ]?codeword.*|intergenic[-_ ]?region.*",
    re.IGNORECASE,
)
"""Names of what stands for no gene, as the makers of several instruments call it."""

_READ_BYTES = 1 << 21
_BUFFER_BYTES = 1 << 25
_MAX_GENES = 1 << 16
MAX_PLANES = 1000
"""Slices that a table may tell apart."""


@dataclass
class Panel:
    """The genes met so far, with a code each; blank and unknown ones are only counted.

    Attributes
    ----------
    wanted : sequence of str or None
        Gene list given by the user; None takes every gene of the tables that is not blank.
    controls : pattern
        Which names are those of blank ones.
    """

    wanted: Sequence[str] | None = None
    controls: re.Pattern[str] = BLANK
    _codes: dict[str, int] = field(default_factory=dict)
    _kinds: list[int] = field(default_factory=list)
    _rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self._known = None if self.wanted is None else set(self.wanted)

    def encode(self, batch: Batch) -> np.ndarray:
        """Return the panel's code of every row (-1 without a gene) and count rows per gene."""
        lookup: np.ndarray = np.full(len(batch.gene.names) + 1, -1, dtype=np.int64)
        for i, name in enumerate(batch.gene.names):
            if name:
                lookup[i] = self._codes.setdefault(name, len(self._codes))
        if len(self._codes) > _MAX_GENES:
            raise UserError(
                f"The tables name more than {_MAX_GENES:,} genes: the column of genes does not hold"
                " gene symbols."
            )
        codes: np.ndarray = lookup[batch.gene.codes]
        grown = np.zeros(len(self._codes), dtype=np.int64)
        grown[: self._rows.size] = self._rows
        self._rows = grown + np.bincount(codes[codes >= 0], minlength=grown.size)
        return codes

    def is_blank(self, name: str) -> bool:
        """Say whether a name is a control barcode's."""
        listed = self._known is not None and name in self._known
        return self.controls.fullmatch(name) is not None and not listed

    def is_unknown(self, name: str) -> bool:
        """Say whether a gene is not in the list given."""
        return self._known is not None and name not in self._known and not self.is_blank(name)

    def kinds(self) -> np.ndarray:
        """Kind of every code: 0 kept, 1 blank, 2 unknown."""
        new = list(self._codes)[len(self._kinds) :]
        self._kinds += [2 * self.is_unknown(name) + self.is_blank(name) for name in new]
        return np.array(self._kinds, dtype=np.int64)

    def genes(self) -> list[str]:
        """Return the panel: the list given, or all genes met in alphabetical order."""
        if self.wanted is not None:
            return list(self.wanted)
        return sorted(name for name in self._codes if not self.is_blank(name))

    def order(self) -> np.ndarray:
        """Index in `genes` of every code, -1 for those left out."""
        index = {name: i for i, name in enumerate(self.genes())}
        return np.array([index.get(name, -1) for name in self._codes], dtype=np.int64)

    def rows(self) -> dict[str, int]:
        """Rows per gene met, whatever its kind."""
        return dict(zip(self._codes, self._rows.tolist(), strict=True))

    def table(self) -> pd.DataFrame:
        """Return a row per gene met: its rows, and whether it is in the panel."""
        import pandas as pd

        kinds = np.array(["panel", "blank", "unknown"])[self.kinds()]
        rows = self.rows()
        return pd.DataFrame({"gene": list(rows), "rows": list(rows.values()), "kind": kinds})

    def found(self) -> dict[str, Any]:
        """Return what an `ImportReport` says of genes."""
        rows, genes = self.rows(), self.genes()
        return {
            "genes": len(genes),
            "blank_genes": {name: n for name, n in rows.items() if self.is_blank(name)},
            "unknown_genes": {name: n for name, n in rows.items() if self.is_unknown(name)},
            "silent_genes": [name for name in genes if name not in rows],
        }

    def check(self) -> None:
        """Raise a UserError if nothing is left of the tables."""
        if not self.genes():
            raise UserError("The tables hold blank barcodes only: there is no gene to import.")
        if self._known is not None and not self._known & set(self._codes):
            raise UserError(
                f"None of the {len(self._known)} genes in the list occurs in the tables, which name"
                f" {', '.join(sorted(self._codes)[:3])} and others: check the list."
            )


class Spill:
    """Transcripts sorted into files, one a slice and tile, in a folder that the caller removes.

    Parameters
    ----------
    folder : Path
        Empty folder.
    tile : int
        Side of a tile in bins, at most 256.

    Attributes
    ----------
    tile : int
        The same.
    """

    def __init__(self, folder: Path, tile: int) -> None:
        self._folder, self.tile = folder, tile
        self._buffer: dict[tuple[int, int, int, int], list[np.ndarray]] = {}
        self._buffered = 0

    def add(
        self, region: int, plane: np.ndarray, row: np.ndarray, column: np.ndarray, code: np.ndarray
    ) -> None:
        """Keep transcripts of a region: index of the plane, bin and gene code of each."""
        if code.size == 0:
            return
        t = self.tile
        key = ((code * t + row % t) * t + column % t).astype(np.uint32)
        units = np.stack([plane, row // t, column // t], axis=1)
        order = np.lexsort(units.T[::-1])
        units, key = units[order], key[order]
        starts = np.flatnonzero(np.any(np.diff(units, axis=0, prepend=-1), axis=1))
        for start, end in zip(starts, [*starts[1:], len(key)], strict=True):
            p, r, c = (int(v) for v in units[start])
            self._buffer.setdefault((region, p, r, c), []).append(key[start:end])
        self._buffered += key.nbytes
        if self._buffered > _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Move the buffer to disk."""
        for unit, parts in self._buffer.items():
            with self._path(*unit).open("ab") as file:
                for part in parts:
                    file.write(part.tobytes())
        self._buffer.clear()
        self._buffered = 0

    def _path(self, region: int, plane: int, row: int, column: int) -> Path:
        return self._folder / f"{region}_{plane}_{row}_{column}.u32"

    def count(self, region: int, plane: int) -> int:
        """Count the transcripts of a plane, after `flush`."""
        files = self._folder.glob(f"{region}_{plane}_*.u32")
        return sum(file.stat().st_size for file in files) // 4

    def holds(self, region: int, planes: Sequence[int], row: int, column: int) -> bool:
        """Say whether a tile has transcripts in some planes, after `flush`."""
        return any(self._path(region, plane, row, column).exists() for plane in planes)

    def counts(
        self,
        region: int,
        planes: Sequence[int],
        row: int,
        column: int,
        order: np.ndarray,
        genes: int,
    ) -> np.ndarray:
        """Count the transcripts of a tile in some planes, after `flush`.

        Parameters
        ----------
        region, row, column : int
            The tile.
        planes : sequence of int
            The planes.
        order : ndarray of int
            Index in the panel of every gene code.
        genes : int
            Genes in the panel.

        Returns
        -------
        ndarray of uint32, (genes, tile, tile)
        """
        area = self.tile**2
        counts = np.zeros(genes * area, dtype=np.uint32)
        paths = [self._path(region, plane, row, column) for plane in planes]
        for path in paths:
            if not path.exists():
                continue
            with path.open("rb") as file:
                while data := file.read(_READ_BYTES):
                    keys = np.frombuffer(data, dtype=np.uint32).astype(np.int64)
                    np.add.at(counts, order[keys // area] * area + keys % area, 1)
        return counts.reshape(genes, self.tile, self.tile)


class Binner:
    """Sends the rows of one region's table to their bins and keeps account of the others.

    Parameters
    ----------
    panel, spill, counts
        Shared by all regions.
    region : int
        Index of the region.
    pixels : callable
        Maps (n, 2) places (x, y), micrometers, to pixels (u, v).
    shape : tuple of int
        (y, x) of the pixels on which they lie.
    heights : str
        Column of the planes, for messages.

    Attributes
    ----------
    planes : list of float
        Distinct heights met, in order of appearance: the index is the plane's in
        the spill. One plane 0.0 if planes are not told apart.
    """

    def __init__(
        self,
        panel: Panel,
        spill: Spill,
        counts: TranscriptCounts,
        region: int,
        pixels: Callable[[np.ndarray], np.ndarray],
        shape: tuple[int, int],
        heights: str = "global_z",
    ) -> None:
        self._heights = heights
        self._panel, self._spill, self._counts = panel, spill, counts
        self._region, self._pixels, self._shape = region, pixels, shape
        self.planes: list[float] = []

    def add(self, batch: Batch) -> None:
        """Bin a batch.

        Pixel i covers the coordinates [i, i + 1): a transcript at coordinate u is in pixel
        floor(u) and in bin floor(u / 16), and is inside if 0 <= u < size.
        """
        counts = self._counts
        codes = self._panel.encode(batch)
        z = np.zeros(len(codes)) if batch.z is None else batch.z
        valid = (codes >= 0) & np.isfinite(batch.x) & np.isfinite(batch.y) & np.isfinite(z)
        # The last entry is the kind of rows without a gene, whose code is -1.
        kinds = np.append(self._panel.kinds(), 0)[codes] * valid
        kept = valid & (kinds == 0)
        u, v = np.full((2, len(codes)), -1.0)
        u[kept], v[kept] = self._pixels(np.stack([batch.x[kept], batch.y[kept]], axis=1)).T
        height, width = self._shape
        inside = kept & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        counts.rows += len(codes)
        counts.invalid += int((~valid).sum())
        counts.blank += int((kinds == 1).sum())
        counts.unknown += int((kinds == 2).sum())
        counts.outside += int((kept & ~inside).sum())
        self._spill.add(
            self._region,
            self._plane_index(z[inside]),
            np.floor(v[inside] / BIN).astype(np.int64),
            np.floor(u[inside] / BIN).astype(np.int64),
            codes[inside],
        )

    def _plane_index(self, z: np.ndarray) -> np.ndarray:
        values, inverse = np.unique(z, return_inverse=True)
        new = [value for value in values.tolist() if value not in self.planes]
        if len(self.planes) + len(new) > MAX_PLANES:
            raise UserError(
                f"The column {self._heights} has more than {MAX_PLANES} different values: it does"
                " not hold planes; import without telling them apart."
            )
        self.planes += new
        index = np.array([self.planes.index(value) for value in values.tolist()], dtype=np.int64)
        return index[inverse]


def write_genes(
    writer: BrainWriter, panel: Panel, spill: Spill, z: int, region: int, planes: Sequence[int]
) -> None:
    """Count the transcripts of a slice tile by tile, and write those tiles that have any.

    Parameters
    ----------
    writer
        Of the brain.
    panel, spill
        What was read of all tables.
    z : int
        The slice.
    region, planes
        Where its transcripts are in the spill.
    """
    order, genes, tile = panel.order(), len(panel.genes()), spill.tile
    height, width = bins_of(writer.shape[1:])
    for y0, y1, x0, x1 in layout.tiles(0, height, 0, width, tile):
        row, column = y0 // tile, x0 // tile
        if spill.holds(region, planes, row, column):
            counts = spill.counts(region, planes, row, column, order, genes)
            writer.write_genes(z, y0, x0, counts[:, : y1 - y0, : x1 - x0])


def bins_of(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the number of bins (rows, columns) that cover an image."""
    return ceil_div(shape[0], BIN), ceil_div(shape[1], BIN)

"""Regions of structures, in gene bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.attention.tiles import Mask, Region
from napari_teramind.brain.bins import bin_labels, structure_table
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.brain import BrainStore
    from napari_teramind.brain.bins import BinBox


def structure_mask(
    brain: BrainStore, structures: Sequence[str], region: Region
) -> tuple[Region, Mask]:
    """Shrink a region to some structures, and say which bins lie in them.

    Raises
    ------
    UserError
        If the atlas has no such structure, or no bin of the region lies in any of them.
    """
    if not structures:
        raise UserError("No structure was named; give acronyms, as SNc, or none for all bins.")
    table = structure_table(brain)
    ids = np.fromiter(
        sorted(set().union(*(table.within(acronym) for acronym in structures))), np.int64
    )
    labels = bin_labels(brain)

    def mask(box: BinBox, slices: range) -> NDArray[np.bool_]:
        return np.isin(labels(box, slices), ids)

    b0, _, c0, _ = region.box
    z0, z1 = region.slices
    rows = np.zeros(region.shape[1], bool)
    columns = np.zeros(region.shape[2], bool)
    levels = []
    for z in range(z0, z1):
        found = mask(region.box, range(z, z + 1))[0]
        rows |= found.any(axis=1)
        columns |= found.any(axis=0)
        levels += [z] if found.any() else []
    if not levels:
        raise UserError(
            f"No bin of the region lies in {' or '.join(structures)}; choose another structure,"
            " region or slices."
        )
    y, x = np.flatnonzero(rows), np.flatnonzero(columns)
    box = (b0 + int(y[0]), b0 + int(y[-1]) + 1, c0 + int(x[0]), c0 + int(x[-1]) + 1)
    return Region(box, (levels[0], levels[-1] + 1)), mask

"""Regions of structures, in gene bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.attention.tiles import Mask, Region
from napari_teramind.brain.bins import bin_labels, structure_extent, structure_ids
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
    ids, labels = structure_ids(brain, structures), bin_labels(brain)

    def mask(box: BinBox, slices: range) -> NDArray[np.bool_]:
        return np.isin(labels(box, slices), ids)

    box, levels = structure_extent(brain, structures, region.box, region.slices)
    return Region(box, levels), mask

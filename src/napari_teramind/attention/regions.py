"""Structures of a brain on its gene bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.atlas import StructureTable, table_from_frame
from napari_teramind.attention.tiles import Mask, Region
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.attention.counts import BinBox
    from napari_teramind.brain import BrainStore

BinLabels = Callable[["BinBox", range], "NDArray[np.integer]"]
"""labels(box, slices) -> structure ids (z, y, x) of bins."""


def structure_table(brain: BrainStore) -> StructureTable:
    """Structures that a brain's labels stand for, with their tree.

    Raises
    ------
    UserError
        If the brain has no structures.
    """
    frame = brain.structure_table
    if frame is None or frame.empty:
        raise UserError(
            f"{brain.path} has no atlas structures: import the brain with its structures, or give"
            " an atlas."
        )
    return table_from_frame(frame, f"the structures of {brain.path}")


def bin_labels(brain: BrainStore) -> BinLabels:
    """Return a reader of the structure in which a bin's centre lies.

    Raises
    ------
    UserError
        If the brain has no structures.
    """
    structure_table(brain)
    image = brain.structures
    assert image is not None
    array = image.levels[0]
    scale, origin = image.scale()[-2:], image.translation()[-2:]
    bin_scale, bin_origin = brain.genes.scale()[-2:], brain.genes.translation()[-2:]

    def places(axis: int, start: int, stop: int) -> NDArray[np.int64]:
        world = bin_origin[axis] + np.arange(start, stop) * bin_scale[axis]
        found = np.floor((world - origin[axis]) / scale[axis] + 0.5).astype(np.int64)
        clipped: NDArray[np.int64] = np.clip(found, 0, array.shape[axis + 1] - 1)
        return clipped

    def read(box: BinBox, slices: range) -> NDArray[np.integer]:
        rows, columns = places(0, *box[:2]), places(1, *box[2:])
        block = np.asarray(
            array[
                slices.start : slices.stop,
                rows[0] : rows[-1] + 1,
                columns[0] : columns[-1] + 1,
            ]
        )
        picked = block[:, (rows - rows[0])[:, None], (columns - columns[0])[None, :]]
        return np.asarray(picked)

    return read


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

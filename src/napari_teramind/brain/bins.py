"""Structures of a brain on its gene bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.atlas import StructureTable, table_from_frame
from napari_teramind.brain.layout import BIN, ceil_div
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.brain.multiscale import MultiscaleImage
    from napari_teramind.brain.store import BrainStore

BinBox = tuple[int, int, int, int]
"""(b0, b1, c0, c1): rows and columns of bins, half open."""

BinLabels = Callable[[BinBox, range], "NDArray[np.integer]"]
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
    assert brain.structures is not None
    return _labels_on(brain.structures, brain.genes)


def pixel_labels(brain: BrainStore, image: MultiscaleImage) -> BinLabels:
    """Return a reader of a brain's label image on the pixels of its stains.

    Parameters
    ----------
    brain
        The store.
    image
        One of its label images, of whatever resolution.

    Returns
    -------
    callable
        As :data:`BinLabels`, but that boxes count full-resolution pixels.
    """
    return _labels_on(image, brain.stains)


def _labels_on(image: MultiscaleImage, grid: MultiscaleImage) -> BinLabels:
    """Return a reader of the labels in which the centres of a grid's pixels lie."""
    array = image.levels[0]
    scale, origin = image.scale()[-2:], image.translation()[-2:]
    step, first = grid.scale()[-2:], grid.translation()[-2:]

    def places(axis: int, start: int, stop: int) -> NDArray[np.int64]:
        world = first[axis] + np.arange(start, stop) * step[axis]
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


def label_places(
    ids: NDArray[np.integer], labels: NDArray[np.integer], origin: str
) -> NDArray[np.int64]:
    """Return the place of every label among the ids; the number of ids for label 0.

    Parameters
    ----------
    ids
        Known ids, ascending.
    labels
        Ids of pixels, any shape.
    origin
        What the ids are, for messages.

    Raises
    ------
    UserError
        If a label is neither 0 nor known.
    """
    found = np.searchsorted(ids, labels)
    strange = (labels != 0) & (np.append(ids, 0)[found] != labels)
    if strange.any():
        raise UserError(
            f"The labels hold the id {labels[strange].min()}, which {origin} lack; import the"
            " brain's structures again."
        )
    return np.where(labels == 0, len(ids), found)


def structure_ids(brain: BrainStore, structures: Sequence[str]) -> NDArray[np.int64]:
    """Ids of some structures and of everything inside them.

    Raises
    ------
    UserError
        If the brain has no structures, or not these.
    """
    table = structure_table(brain)
    return np.fromiter(
        sorted(set().union(*(table.within(acronym) for acronym in structures))), np.int64
    )


def structure_extent(
    brain: BrainStore, structures: Sequence[str], box: BinBox, slices: tuple[int, int]
) -> tuple[BinBox, tuple[int, int]]:
    """Shrink a box of bins, and a range of slices, to what holds some structures.

    Raises
    ------
    UserError
        If a structure is not known, or none lies there.
    """
    ids, labels = structure_ids(brain, structures), bin_labels(brain)
    b0, b1, c0, c1 = box
    rows, columns = np.zeros(b1 - b0, bool), np.zeros(c1 - c0, bool)
    levels = []
    for z in range(*slices):
        found = np.isin(labels(box, range(z, z + 1))[0], ids)
        rows |= found.any(axis=1)
        columns |= found.any(axis=0)
        levels += [z] if found.any() else []
    if not levels:
        raise UserError(
            f"No bin of the region lies in {' or '.join(structures)}; choose another structure,"
            " region or slices."
        )
    y, x = np.flatnonzero(rows), np.flatnonzero(columns)
    shrunk = (b0 + int(y[0]), b0 + int(y[-1]) + 1, c0 + int(x[0]), c0 + int(x[-1]) + 1)
    return shrunk, (levels[0], levels[-1] + 1)


def structure_box(
    brain: BrainStore, structures: Sequence[str], slices: tuple[int, int] | None = None
) -> tuple[BinBox, tuple[int, int]]:
    """Return the pixels (y0, y1, x0, x1) and slices (z0, z1) that hold some structures.

    Parameters
    ----------
    brain
        The store.
    structures
        Acronyms; their parts belong to them.
    slices
        Look in these only; all if not given.

    Raises
    ------
    UserError
        If a structure is not known, or none lies there.
    """
    depth, height, width = brain.shape
    everything = (0, ceil_div(height, BIN), 0, ceil_div(width, BIN))
    box, levels = structure_extent(brain, structures, everything, slices or (0, depth))
    y0, y1, x0, x1 = (edge * BIN for edge in box)
    return (y0, min(height, y1), x0, min(width, x1)), levels

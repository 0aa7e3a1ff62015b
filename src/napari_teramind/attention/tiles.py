"""Where maps are computed: regions of a brain, and the tiles of bins that they are cut into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_teramind.brain.bins import BinBox
from napari_teramind.brain.layout import BIN, ceil_div

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_teramind.brain import BrainStore

Mask = Callable[[BinBox, range], "NDArray[np.bool_]"]
"""mask(box, slices) -> (z, y, x): which bins are wanted."""

TILE = 256
"""Side of a unit in bins: the side of a shard."""


@dataclass(frozen=True)
class Unit:
    """A tile of bins of the slices of one group.

    Attributes
    ----------
    row, column : int
        Tile, counted from the corner of the region.
    box
        Its bins in the brain.
    slices : range
        Its slices, those of one group that lie in the region.
    first : int
        First slice of the group.
    """

    row: int
    column: int
    box: BinBox
    slices: range
    first: int


@dataclass(frozen=True)
class Region:
    """What is to be computed: a box of bins and a range of slices.

    Attributes
    ----------
    box
        Bins, half open.
    slices
        (z0, z1), half open.
    """

    box: BinBox
    slices: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns of bins."""
        b0, b1, c0, c1 = self.box
        return self.slices[1] - self.slices[0], b1 - b0, c1 - c0

    def units(self, image_slices: int, tile: int = TILE) -> Iterator[Unit]:
        """Cut the region into units: group by group, rows of tiles in turn."""
        b0, b1, c0, c1 = self.box
        z0, z1 = self.slices
        for first in range(z0 // image_slices * image_slices, z1, image_slices):
            slices = range(max(first, z0), min(first + image_slices, z1))
            for row in range(ceil_div(b1 - b0, tile)):
                for column in range(ceil_div(c1 - c0, tile)):
                    y, x = b0 + row * tile, c0 + column * tile
                    box = (y, min(y + tile, b1), x, min(x + tile, c1))
                    yield Unit(row, column, box, slices, first)


def region_of(
    brain: BrainStore, roi: tuple[int, int, int, int] | None, slices: tuple[int, int] | None
) -> Region:
    """Bins that a region in pixels touches; the whole brain if nothing is given.

    Raises
    ------
    UserError
        If the region is empty or leaves the brain.
    """
    depth, height, width = brain.shape
    roi = roi if roi is not None else (0, height, 0, width)
    slices = slices if slices is not None else (0, depth)
    brain.check_roi(roi, slices)
    y0, y1, x0, x1 = roi
    return Region((y0 // BIN, ceil_div(y1, BIN), x0 // BIN, ceil_div(x1, BIN)), slices)

"""Nuclei of planes of any size: found tile by tile, each counted once, by its centroid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_teramind.evaluate.nuclei import (
    WHITE,
    blur_margin,
    blurred,
    grey_histogram,
    settled_threshold,
    smallest_area,
    watershed,
)
from napari_teramind.evaluate.tiles import TILE, Box, cut, widened, within

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN_UM = 20.0
"""Micrometers around a tile that are looked at too: more than a nucleus and its neighbours."""

Borders = tuple[bool, bool, bool, bool]
"""Whether the plane ends at the first row of a tile, the last, the first column, the last."""
Read = Callable[[Box], "NDArray[np.uint8]"]
Find = Callable[["NDArray[np.uint8]", Borders], "NDArray[np.integer]"]
"""find(tile with its margin, borders) -> labels (y, x), 0 for background."""


class Method(Protocol):
    """A way to find nuclei."""

    def plane(self, read: Read, counts: Callable[[Box], NDArray[np.bool_]], box: Box) -> Find:
        """Look at a plane as a whole, and return what finds the nuclei of a tile of it.

        Parameters
        ----------
        read
            Reads the DAPI of a box.
        counts
            Says which pixels of a box are compared.
        box
            The plane.
        """


class Watershed:
    """Finds nuclei as :func:`~napari_teramind.evaluate.nuclei.find_nuclei` does.

    The threshold is that of the pixels of the plane that are compared.

    Parameters
    ----------
    pixel_size
        Micrometers per pixel.
    tile
        Side of the tiles in px that a plane's threshold is gathered from.
    """

    def __init__(self, pixel_size: float, tile: int = TILE) -> None:
        self._pixel, self._tile = pixel_size, tile

    def plane(self, read: Read, counts: Callable[[Box], NDArray[np.bool_]], box: Box) -> Find:
        """Return what finds the nuclei of a tile; see :class:`Method`."""
        histogram = grey_histogram(np.zeros(0))
        margin = blur_margin(self._pixel)
        for tile in cut(box, self._tile):
            compared = counts(tile)
            if compared.any():
                wide = widened(tile, margin, box)
                smooth = blurred(read(wide), self._pixel)[within(tile, wide)]
                histogram += grey_histogram(smooth[compared], WHITE)
        threshold = settled_threshold(histogram)

        def find(block: NDArray[np.uint8], borders: Borders) -> NDArray[np.integer]:
            return watershed(block, self._pixel, threshold, borders=borders)

        return find


class Tally:
    """Numbers and areas of nuclei by part of a plane.

    Areas are kept as counts of pixels, so that memory grows with the number of different areas and
    not with that of nuclei.
    """

    def __init__(self) -> None:
        self._count: Counter[int] = Counter()
        self._areas: Counter[tuple[int, int]] = Counter()

    def add(self, parts: NDArray[np.integer], areas: NDArray[np.integer]) -> None:
        """Add nuclei: the part each lies in, and its area in px, 0 where it is not known."""
        self._count.update(parts.tolist())
        known = areas > 0
        self._areas.update(zip(parts[known].tolist(), areas[known].tolist(), strict=True))

    def count(self, parts: Sequence[int] | None = None) -> int:
        """Count the nuclei of some parts, or of all."""
        wanted = None if parts is None else set(parts)
        return sum(n for part, n in self._count.items() if wanted is None or part in wanted)

    def areas(self, parts: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """Return the areas (px) in some parts, or in all, and how many nuclei have each."""
        wanted = None if parts is None else set(parts)
        found: Counter[int] = Counter()
        for (part, area), n in self._areas.items():
            if wanted is None or part in wanted:
                found[area] += n
        return list(found.keys()), list(found.values())


def tally_nuclei(
    read: Read,
    counts: Callable[[Box], NDArray[np.bool_]],
    part: Callable[[Box], NDArray[np.integer]],
    box: Box,
    pixel_size: float,
    method: Method,
    tile: int = TILE,
    tick: Callable[[], None] | None = None,
) -> Tally:
    """Count and measure the nuclei of a plane.

    A nucleus counts where its centroid is compared, and belongs to the part in which that lies. Its
    area is known if the plane's border does not cut it and it is larger than dirt.

    Parameters
    ----------
    read
        Reads the DAPI of a box, (y, x).
    counts
        Says which pixels of a box are compared.
    part
        The part that every pixel of a box belongs to.
    box
        The plane.
    pixel_size
        Micrometers per pixel.
    method
        How nuclei are found.
    tile
        Side of a tile in px.
    tick
        Called before every tile.
    """
    tally = Tally()
    find = method.plane(read, counts, box)
    margin = round(MARGIN_UM / pixel_size)
    least = smallest_area() / pixel_size**2
    for core in cut(box, tile):
        if tick is not None:
            tick()
        compared = counts(core)
        if not compared.any():
            continue
        wide = widened(core, margin, box)
        borders = (
            wide[0] == box[0],
            wide[1] == box[1],
            wide[2] == box[2],
            wide[3] == box[3],
        )
        labels = find(read(wide), borders)
        rows, columns, areas, whole = _measured(labels)
        here = within(core, wide)
        rows, columns = rows - here[0].start, columns - here[1].start
        inside = (rows >= 0) & (rows < compared.shape[0])
        inside &= (columns >= 0) & (columns < compared.shape[1])
        rows, columns = rows[inside], columns[inside]
        kept = compared[rows, columns]
        known = (whole & (areas > least))[inside][kept]
        tally.add(part(core)[rows[kept], columns[kept]], areas[inside][kept] * known)
    return tally


def _measured(
    labels: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return of every nucleus row and column of its centroid, area, and whether it is whole.

    In whole numbers, so that it comes out the same in whatever tile it is seen.
    """
    areas = np.bincount(labels.ravel())
    there = np.flatnonzero(areas)
    there = there[there > 0]
    area = areas[there]
    centres = []
    for axis in (0, 1):
        along = np.arange(labels.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
        place = np.broadcast_to(along, labels.shape)
        total = np.bincount(labels.ravel(), place.ravel())[there].astype(np.int64)
        centres.append((2 * total + area) // (2 * area))
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    cut_through = np.unique(np.concatenate(edges))
    return centres[0], centres[1], area, ~np.isin(there, cut_through)

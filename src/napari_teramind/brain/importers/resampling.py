"""Pixels of an image looked up for the pixels of another grid, linearly between their centres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_STEP = 64
_TOLERANCE = 0.05
"""Pixels that a place between points of the lattice may be off: far less than what a lens blurs."""
_MOST_PIXELS = 1 << 25
"""Of an image in memory at once; a block that needs more is made in parts."""
_MOST_MADE = 1 << 22
"""Pixels made at once: their coordinates take some thirty times as many bytes."""

Box = tuple[int, int, int, int]
"""(y0, y1, x0, x1), half open."""


@dataclass(frozen=True)
class Grid:
    """Pixels on which images that lie elsewhere are resampled.

    Attributes
    ----------
    origin_um
        (x, y) of the first pixel's outer corner.
    pixel_size
        Micrometers per pixel.
    shape
        (y, x).
    """

    origin_um: tuple[float, float]
    pixel_size: float
    shape: tuple[int, int]

    def centres(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """Return the places (n, 2) as (x, y), micrometers, of the centres of rows and columns."""
        y, x = np.meshgrid(ys + 0.5, xs + 0.5, indexing="ij")
        points = np.stack([x.ravel(), y.ravel()], axis=1) * self.pixel_size
        found: np.ndarray = points + self.origin_um
        return found


@dataclass(frozen=True)
class Resampler:
    """An image on a grid.

    Memory: a block, and the part of the image that it comes from, at most `_MOST_PIXELS`.

    Attributes
    ----------
    grid
        What it is resampled to.
    sources
        Takes places (n, 2) as (x, y), micrometers on the grid, to the image's coordinates (u, v);
        its pixel i covers [i, i + 1).
    shape
        (y, x) of the image.
    """

    grid: Grid
    sources: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, int]

    def read(self, box: Box, kind: np.dtype[Any], read: Callable[[Box], np.ndarray]) -> np.ndarray:
        """Return a box of the grid's pixels; black outside the image.

        Parameters
        ----------
        box
            Which.
        kind
            Type of the image.
        read
            Gives a box of the image's own pixels.
        """
        from scipy import ndimage

        y0, y1, x0, x1 = box
        if (y1 - y0) * (x1 - x0) > _MOST_MADE:
            return self._read_in_parts(box, kind, read)
        u, v = self._places(box)
        height, width = self.shape
        window = (*_reach(v, height), *_reach(u, width))
        rows, columns = window[1] - window[0], window[3] - window[2]
        if rows <= 0 or columns <= 0:
            return np.zeros((y1 - y0, x1 - x0), kind)
        if rows * columns > _MOST_PIXELS and max(y1 - y0, x1 - x0) > 1:
            return self._read_in_parts(box, kind, read)
        found = ndimage.map_coordinates(
            read(window).astype(np.float32),
            (v - window[0] - 0.5, u - window[2] - 0.5),
            order=1,
            mode="nearest",
        )
        found[(v < 0) | (v > height) | (u < 0) | (u > width)] = 0
        resampled: np.ndarray = np.rint(found) if kind.kind in "ui" else found
        return resampled.astype(kind)

    def _read_in_parts(
        self, box: Box, kind: np.dtype[Any], read: Callable[[Box], np.ndarray]
    ) -> np.ndarray:
        y0, y1, x0, x1 = box
        if y1 - y0 >= x1 - x0:
            middle = (y0 + y1) // 2
            halves, axis = [(y0, middle, x0, x1), (middle, y1, x0, x1)], 0
        else:
            middle = (x0 + x1) // 2
            halves, axis = [(y0, y1, x0, middle), (y0, y1, middle, x1)], 1
        return np.concatenate([self.read(half, kind, read) for half in halves], axis)

    def _places(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Return the image's coordinates (u, v) of the centres of a box of the grid's pixels.

        Exact on a lattice, linear in between; the lattice is made finer until that is exact enough.
        """
        y0, y1, x0, x1 = box
        step = _STEP
        while True:
            ys, xs = np.arange(y0, y1 + step, step), np.arange(x0, x1 + step, step)
            lattice = self._exact(ys, xs)
            if step == 1:
                break
            middles = self._exact(ys[:-1] + step / 2, xs[:-1] + step / 2)
            between = (
                lattice[:-1, :-1] + lattice[1:, :-1] + lattice[:-1, 1:] + lattice[1:, 1:]
            ) / 4
            if np.abs(middles - between).max() <= _TOLERANCE:
                break
            step //= 2
        down, across = _weights(y1 - y0, len(ys), step), _weights(x1 - x0, len(xs), step)
        u, v = (down @ lattice[..., i] @ across.T for i in (0, 1))
        return u, v

    def _exact(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """Return the image's coordinates (rows, columns, 2) of the centres of some pixels."""
        return self.sources(self.grid.centres(ys, xs)).reshape(len(ys), len(xs), 2)


def _weights(pixels: int, points: int, step: int) -> np.ndarray:
    """Return the matrix (pixels, points) of linear interpolation between every step-th pixel."""
    place = np.arange(pixels) / step
    first = np.floor(place).astype(int)
    weights = np.zeros((pixels, points))
    weights[np.arange(pixels), first] = 1 - (place - first)
    weights[np.arange(pixels), first + 1] += place - first
    return weights


def _reach(coordinates: np.ndarray, length: int) -> tuple[int, int]:
    """Return the pixels (first, end) that linear interpolation at some coordinates needs."""
    first = int(np.floor(max(coordinates.min() - 0.5, 0)))
    end = int(np.ceil(min(coordinates.max() + 0.5, length)))
    return min(first, length), max(end, 0)

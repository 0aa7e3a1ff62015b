"""Regions on the pixels of a brain: as they are, or resampled to a grid that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from napari_teramind.brain.importers.manifest import Manifest, SliceEntry
from napari_teramind.brain.importers.region import Region
from napari_teramind.brain.importers.resampling import Box, Grid, Resampler
from napari_teramind.brain.importers.warps import Chain, Warp, identity, mirror, read_warp
from napari_teramind.errors import UserError

_OUTLINE = 64
_MOST_TIMES = 8
"""Sides of a grid, of the largest mosaic's; more means a registration in other units."""


class Placed(Protocol):
    """A region on the pixels of the brain."""

    @property
    def region(self) -> Region:
        """Which."""

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of the pixels on which it lies."""

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places (x, y) of its table, micrometers, to pixels (u, v).

        Pixel i covers [i, i + 1).
        """

    def read(self, stain: str, planes: list[int], project: str, box: Box) -> np.ndarray:
        """Read a stain's pixels, of several planes projected into one; black outside the mosaic."""


@dataclass(frozen=True)
class AsItIs:
    """A region whose mosaic's pixels are the brain's.

    Attributes
    ----------
    region
        The region; its first pixel is the brain's.
    """

    region: Region

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of the mosaic."""
        return self.region.shape

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places (x, y) of its table, micrometers, to pixels (u, v)."""
        return self.region.to_mosaic(points)

    def read(self, stain: str, planes: list[int], project: str, box: Box) -> np.ndarray:
        """Read a stain's pixels; black outside the mosaic."""
        y0, y1, x0, x1 = box
        height, width = self.region.shape
        block = np.zeros((y1 - y0, x1 - x0), self.region.dtype(stain))
        inside = (y0, min(y1, height), x0, min(x1, width))
        if inside[0] < inside[1] and inside[2] < inside[3]:
            found = self.region.read(stain, planes, project, inside)
            block[: found.shape[0], : found.shape[1]] = found
        return block


@dataclass(frozen=True)
class Registered:
    """A region resampled to a grid.

    Attributes
    ----------
    region, warp, grid
        What lies where.
    """

    region: Region
    warp: Warp
    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of the grid."""
        return self.grid.shape

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places (x, y) of its table, micrometers, to pixels (u, v)."""
        common = self.warp.to_common(points)
        found: np.ndarray = (common - self.grid.origin_um) / self.grid.pixel_size
        return found

    def read(self, stain: str, planes: list[int], project: str, box: Box) -> np.ndarray:
        """Read a stain's pixels; black outside the mosaic."""
        own = Resampler(self.grid, self._sources, self.region.shape)
        return own.read(
            box,
            self.region.dtype(stain),
            lambda window: self.region.read(stain, planes, project, window),
        )

    def _sources(self, points: np.ndarray) -> np.ndarray:
        return self.region.to_mosaic(self.warp.to_own(points))


def common_grid(
    regions: Sequence[Region],
    warps: Sequence[Warp],
    origin_um: tuple[float, float] | None = None,
    size_um: tuple[float, float] | None = None,
) -> Grid:
    """Return the grid that holds all slices, with pixels as large as the first region's.

    Parameters
    ----------
    regions, warps
        The slices.
    origin_um, size_um : tuple of float, optional
        (x, y) of the grid; what all slices need if not given.

    Raises
    ------
    UserError
        If the grid would be far larger than any slice, as where units were mistaken.
    """
    size = regions[0].pixel_size
    ends = np.array(
        [_extent(region, warp) for region, warp in zip(regions, warps, strict=True)]
    )  # (slices, 2, 2)
    low = np.asarray(origin_um) if origin_um else ends[:, 0].min(axis=0)
    wide = np.asarray(size_um) if size_um else ends[:, 1].max(axis=0) - low
    largest = max(side * region.pixel_size for region in regions for side in region.shape)
    if not (wide.min() > 0 and wide.max() <= _MOST_TIMES * largest):
        raise UserError(
            f"The registrations spread the slices over {wide[0]:,.0f} x {wide[1]:,.0f} um, where"
            f" the largest slice has {largest:,.0f} um: check their units (units_um) and direction"
            " (inverse)."
        )
    # What is left of a rounding error must not make a row of its own.
    across, down = (int(np.ceil(side / size - 1e-6)) for side in wide)
    return Grid((float(low[0]), float(low[1])), size, (down, across))


def _extent(region: Region, warp: Warp) -> np.ndarray:
    """Return the corners ((x, y), (x, y)) of a registered mosaic, micrometers."""
    height, width = region.shape
    along, ends = np.linspace(0, 1, _OUTLINE), np.repeat((0.0, 1.0), _OUTLINE)
    twice = np.concatenate([along, along])
    edge = np.concatenate([np.stack([twice, ends], 1), np.stack([ends, twice], 1)])
    outline = warp.to_common(region.from_mosaic(edge * (width, height)))
    return np.stack([outline.min(axis=0), outline.max(axis=0)])


def place_regions(regions: Sequence[Region], manifest: Manifest) -> list[Placed]:
    """Put regions on the brain's pixels: their own, or those of a grid that they share.

    Raises
    ------
    UserError
        If a registration cannot be read or makes no sense.
    """
    if not manifest.registered:
        return [AsItIs(region) for region in regions]
    warps = [_warp(*pair) for pair in zip(regions, manifest.slices, strict=True)]
    given = manifest.grid
    asked = (None, None) if given is None else (given.origin_um, given.size_um)
    grid = common_grid(regions, warps, *asked)
    return [Registered(*pair, grid) for pair in zip(regions, warps, strict=True)]


def _warp(region: Region, entry: SliceEntry) -> Warp:
    corners = region.from_mosaic(np.array([[0, 0], region.shape[::-1]], float))
    flipped = mirror(entry.flip, corners.min(axis=0), corners.max(axis=0))
    if entry.transform is None:
        return Chain(flipped, identity())
    return Chain(flipped, read_warp(entry.transform, entry.units_um, entry.inverse))


def registrations(
    entries: Sequence[SliceEntry], placed: Sequence[Placed]
) -> list[dict[str, Any] | None]:
    """Say how slices were placed, with what the files of their registrations hold."""
    return [_said(entry, each) for entry, each in zip(entries, placed, strict=True)]


def _said(entry: SliceEntry, placed: Placed) -> dict[str, Any] | None:
    if not isinstance(placed, Registered):
        return None
    said = entry.model_dump(mode="json", include={"flip", "transform", "inverse", "units_um"})
    text = None if entry.transform is None else entry.transform.read_text(encoding="utf-8-sig")
    return said | {"file": text, "grid": asdict(placed.grid)}

"""A pyramid that grows while its finest level is written, each coarser shard from memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr

from napari_teramind.brain.pyramid import Unit, mean_halve, put_shard, tile_side, unit_region

# Levels from this one on are written in parts, so that a picture is seen early; together they are
# a few hundredths of the result. Finer ones are written once.
_EARLY_LEVEL = 3
_PARTS = 8


class GrowingPyramid:
    """Builds the coarser levels of an image from the shards of its finest level, as they come.

    A coarser shard waits in memory until all that lies under it is there, and is written whole.
    Its values are those of `mean_halve` applied level by level.

    Parameters
    ----------
    levels
        Arrays (c, z, y, x), finest first, with shards of one side.
    """

    def __init__(self, levels: Sequence[zarr.Array[Any]]) -> None:
        self._levels = levels
        self._tile = tile_side(levels[0])
        self._waiting: dict[tuple[int, Unit], np.ndarray] = {}
        self._missing: dict[tuple[int, Unit], int] = {}

    def add(self, unit: Unit, block: np.ndarray) -> None:
        """Take a finished shard of level 0, (c, h, w)."""
        z, row, column = unit
        y, x = row * self._tile, column * self._tile
        for level in range(1, len(self._levels)):
            block = mean_halve(block)
            y, x = y // 2, x // 2
            self._paste(level, z, y, x, block, unit)

    def _paste(self, level: int, z: int, y: int, x: int, block: np.ndarray, unit: Unit) -> None:
        """Put a piece where it belongs in its shard; a piece lies in one shard."""
        array = self._levels[level]
        side = tile_side(array)
        parent = (z, y // side, x // side)
        key = (level, parent)
        if key not in self._waiting:
            region = unit_region(array, parent)
            shape = [len(range(n)[index]) for n, index in _slices(array.shape, region)]
            self._waiting[key] = np.zeros(shape, array.dtype)
            self._missing[key] = self._pieces(level, parent)
        shard = self._waiting[key]
        top, left = y - parent[1] * side, x - parent[2] * side
        height, width = block.shape[-2:]
        shard[:, top : top + height, left : left + width] = block
        self._missing[key] -= 1
        left_over, total = self._missing[key], self._pieces(level, parent)
        part = max(1, total // _PARTS)
        if left_over == 0 or (level >= _EARLY_LEVEL and (total - left_over) % part == 0):
            put_shard(array, parent, shard)
        if left_over == 0:
            del self._waiting[key], self._missing[key]

    def _pieces(self, level: int, unit: Unit) -> int:
        """Count the shards of level 0 that lie under a shard of a coarser level."""
        side = tile_side(self._levels[level]) * 2**level
        count = 1
        for index, length in zip(unit[1:], self._levels[0].shape[-2:], strict=True):
            covered = min((index + 1) * side, length) - index * side
            count *= -(-covered // self._tile)
        return count


def _slices(shape: tuple[int, ...], region: tuple[Any, ...]) -> list[tuple[int, slice]]:
    """Pair the lengths of the axes that stay with their slices."""
    return [(n, index) for n, index in zip(shape, region, strict=True) if isinstance(index, slice)]

"""Coarser levels: means of stains and genes, majorities of labels; streamed shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

Reduce = Callable[[np.ndarray], np.ndarray]
Unit = tuple[int, int, int]
"""Slice, row and column of a shard."""

# Channels that are halved at a time: bounds the memory of panels with hundreds of genes.
_CHANNELS = 32


def mean_halve(block: np.ndarray) -> np.ndarray:
    """Halve y and x (the last two axes) of uint8 or float by means of 2 x 2 pixels.

    At an odd edge the mean is over the pixels that exist. Integers are rounded half up.
    """
    wide = np.uint16 if block.dtype == np.uint8 else np.float32
    a, b, c, d = _corners(_even(block))
    total: np.ndarray = np.add(a, b, dtype=wide)
    total += c
    total += d
    if wide is np.uint16:
        total += 2
        total >>= 2
    else:
        total /= 4
    return total.astype(block.dtype, copy=False)


def majority_halve(block: np.ndarray) -> np.ndarray:
    """Halve y and x by the most frequent of 2 x 2 labels: no id is invented.

    Of two labels with two pixels each, the one of the upper left pixel wins.
    """
    a, b, c, d = _corners(_even(block))
    first = (a == b) | (a == c) | (a == d)
    second = (b == c) | (b == d)
    return np.where(first, a, np.where(second, b, np.where(c == d, c, a)))


def _even(block: np.ndarray) -> np.ndarray:
    pad = [(0, 0)] * (block.ndim - 2) + [(0, side % 2) for side in block.shape[-2:]]
    return np.pad(block, pad, mode="edge") if any(after for _, after in pad) else block


def _corners(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (
        block[..., ::2, ::2],
        block[..., ::2, 1::2],
        block[..., 1::2, ::2],
        block[..., 1::2, 1::2],
    )


def tile_side(array: zarr.Array[Any]) -> int:
    """Side in pixels of an array's shards."""
    assert array.shards is not None
    return int(array.shards[-1])


def unit_region(array: zarr.Array[Any], unit: Unit) -> tuple[Any, ...]:
    """Index of a shard in an array (c, z, y, x) or (z, y, x), all channels."""
    side = tile_side(array)
    z, row, column = unit
    place = (z, slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
    return (slice(None), *place) if array.ndim == 4 else place


def put_shard(array: zarr.Array[Any], unit: Unit, block: np.ndarray) -> None:
    """Write a whole shard of an array on this computer, be what is there readable or not."""
    region = unit_region(array, unit)
    try:
        array[region] = block
    except OSError:
        raise
    except Exception:
        # Zarr reads a shard before it writes it, which fails in many ways where it is damaged.
        if not isinstance(array.store, LocalStore):
            raise
        z, row, column = unit
        place = (z, row, column) if array.ndim == 3 else (0, z, row, column)
        key = array.metadata.encode_chunk_key(place)
        Path(array.store.root, array.path, key).unlink(missing_ok=True)
        array[region] = block


def coarser_units(units: Iterable[Unit]) -> list[Unit]:
    """Units of the next level that lie over some units of this one."""
    return sorted({(z, row // 2, column // 2) for z, row, column in units})


def build_unit(
    source: zarr.Array[Any], target: zarr.Array[Any], unit: Unit, reduce: Reduce
) -> None:
    """Make one shard of a level from the level below it and write it once, complete.

    Memory is bounded by one shard of the target and a few channels of its four sources.
    """
    z, row, column = unit
    side = tile_side(target)
    height, width = target.shape[-2:]
    y0, x0 = row * side, column * side
    y1, x1 = min(y0 + side, height), min(x0 + side, width)
    region = (slice(2 * y0, 2 * y1), slice(2 * x0, 2 * x1))
    if source.ndim == 3:
        put_shard(target, unit, reduce(np.asarray(source[(z, *region)])))
        return
    channels = source.shape[0]
    block = np.empty((channels, y1 - y0, x1 - x0), dtype=target.dtype)
    for c in range(0, channels, _CHANNELS):
        group = slice(c, min(c + _CHANNELS, channels))
        block[group] = reduce(np.asarray(source[(group, z, *region)]))
    put_shard(target, unit, block)

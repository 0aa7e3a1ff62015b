"""From any intensities to 8 bits: percentiles of all pixels of a stain, measured in a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_teramind.errors import UserError

_BINS = 65_536

Blocks = Callable[[], Iterable[np.ndarray]]
"""Gives the pixels of a stain in blocks, anew at every call."""


@dataclass(frozen=True)
class Ramp:
    """Maps intensities to 0..255, linearly from `low` to `high`, rounded and clipped.

    8-bit input has no ramp: `identity` leaves it as it is.
    """

    low: float = 0.0
    high: float = 255.0
    identity: bool = False

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Convert a block to uint8; NaN becomes 0."""
        if self.identity:
            return block.astype(np.uint8, copy=False)
        scaled = (block.astype(np.float32) - np.float32(self.low)) * np.float32(
            255 / (self.high - self.low)
        )
        clipped: np.ndarray = np.nan_to_num(np.clip(np.rint(scaled), 0, 255))
        return clipped.astype(np.uint8)


def check_percentiles(percentiles: tuple[float, float]) -> None:
    """Raise a UserError unless percentiles ascend within 0 and 100."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise UserError(
            f"Percentiles {low:g} and {high:g} make no sense: give two ascending numbers from 0"
            " to 100, as 0.1 and 99.9."
        )


def measure_ramp(
    blocks: Blocks, dtype: np.dtype[Any], percentiles: tuple[float, float], what: str
) -> Ramp:
    """Find the ramp of a stain from percentiles of its pixels that are not zero.

    Pixels of exactly zero are those that were never imaged (mosaics are rectangles, tissue is
    not); counting them would make the ramp depend on how much of the rectangle is empty.

    Parameters
    ----------
    blocks : callable
        Gives the pixels in blocks.
    dtype : dtype
        Their type: unsigned 8 bit is left as it is; other integers and floats are converted.
    percentiles : tuple of float
        Lower and upper percentile.
    what : str
        Name of the stain, for messages.

    Raises
    ------
    UserError
        If the type cannot be converted.
    """
    if dtype == np.uint8:
        return Ramp(identity=True)
    if dtype.kind not in "uif":
        raise UserError(
            f"{what} has pixels of type {dtype}: convert the image to 8- or 16-bit integers."
        )
    if dtype == np.uint16:
        start, width = 0.0, 1.0
    else:
        start, end = _extent(blocks())
        width = (end - start) / (_BINS - 1) or 1.0
    histogram = _histogram(blocks(), start, width)
    low, high = (start + width * _quantile(histogram, q) for q in percentiles)
    return Ramp(low, high if high > low else low + 1.0)


def _seen(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        values = block[block != 0]
        yield values[np.isfinite(values)] if values.dtype.kind == "f" else values


def _extent(blocks: Iterable[np.ndarray]) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for values in _seen(blocks):
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 1.0)


def _histogram(blocks: Iterable[np.ndarray], start: float, width: float) -> np.ndarray:
    histogram = np.zeros(_BINS, dtype=np.int64)
    for values in _seen(blocks):
        if values.dtype != np.uint16:
            values = np.rint((values.astype(np.float64) - start) / width).astype(np.int64)
        histogram += np.bincount(values, minlength=_BINS)
    return histogram


def _quantile(histogram: np.ndarray, percentile: float) -> int:
    """Bin that holds a percentile (the lower value where it falls between two)."""
    total = int(histogram.sum())
    if total == 0:
        return 0
    rank = percentile / 100 * (total - 1)
    return int(np.searchsorted(np.cumsum(histogram), rank, side="right"))

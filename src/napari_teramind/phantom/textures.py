"""Textures of nuclei, cytoplasm and neuropil: large periodic fields, of which pieces are cut."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_teramind.phantom.plan import PIXEL_SIZE, generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float32]

HALF = 2
"""Cell bodies and neuropil are drawn at half resolution."""
_TEXTURE = 768
# Sets these random numbers apart from those of any phantom.
_KEY = 0x7E57


def crop(texture: Image, rows: slice, columns: slice, bits: int) -> Image:
    """Take a random piece of a texture, in one of eight orientations."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    room = _TEXTURE - max(height, width)
    y0, x0 = bits * 7919 % room, bits * 104729 % room
    piece = texture
    if bits & 0x100:
        piece = piece.T
    if bits & 0x200:
        piece = piece[::-1]
    if bits & 0x400:
        piece = piece[:, ::-1]
    return piece[y0 : y0 + height, x0 : x0 + width]


@cache
def chromatin(centres: int) -> Image:
    """Chromatin with this many chromocentres in an ordinary nucleus (70 um^2); mean about 1."""
    rng = generator(_KEY, 1, centres)
    area = (_TEXTURE * PIXEL_SIZE) ** 2
    n = int(centres * area / 70)
    spots = np.zeros((3, _TEXTURE, _TEXTURE), np.float32)
    y, x = rng.integers(0, _TEXTURE, (2, n))
    kind = rng.integers(0, 3, n)
    np.add.at(spots, (kind, y, x), rng.uniform(0.5, 1.2, n).astype(np.float32))
    image = np.zeros((_TEXTURE, _TEXTURE), np.float32)
    for spot, radius_um, height in zip(spots, (0.45, 0.6, 0.8), (0.26, 0.28, 0.28), strict=True):
        sigma = radius_um / PIXEL_SIZE
        image += height * 2 * np.pi * sigma**2 * gaussian_filter(spot, sigma, mode="wrap")
    grain = rng.standard_normal((_TEXTURE, _TEXTURE)).astype(np.float32)
    fine = gaussian_filter(grain, 0.30 / PIXEL_SIZE, mode="wrap")
    coarse = gaussian_filter(grain[::-1], 1.0 / PIXEL_SIZE, mode="wrap")
    image += 0.80 + 0.035 * fine / fine.std() + 0.06 * coarse / coarse.std()
    return _floor(image, 0.2)


@cache
def cytoplasm() -> Image:
    """Mottled cytoplasm; mean 1."""
    rng = generator(_KEY, 2)
    grain = rng.standard_normal((2, _TEXTURE, _TEXTURE)).astype(np.float32)
    fine = gaussian_filter(grain[0], 0.22 / PIXEL_SIZE / HALF, mode="wrap")
    coarse = gaussian_filter(grain[1], 1.0 / PIXEL_SIZE / HALF, mode="wrap")
    return _floor(1 + 0.055 * fine / fine.std() + 0.07 * coarse / coarse.std(), 0.2)


@cache
def neuropil() -> Image:
    """Uneven neuropil at half resolution; mean 1."""
    rng = generator(_KEY, 3)
    grain = rng.standard_normal((2, _TEXTURE, _TEXTURE)).astype(np.float32)
    fine = gaussian_filter(grain[0], 0.3 / PIXEL_SIZE / HALF, mode="wrap")
    coarse = gaussian_filter(grain[1], 2.0 / PIXEL_SIZE / HALF, mode="wrap")
    return _floor(1 + 0.14 * fine / fine.std() + 0.20 * coarse / coarse.std(), 0.1)


def _floor(image: Image, lowest: float) -> Image:
    return np.asarray(np.maximum(image, lowest), np.float32)

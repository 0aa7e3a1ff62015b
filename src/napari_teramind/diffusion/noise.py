"""Initial noise that depends only on the seed and the absolute place.

Equal places get equal noise whatever region is asked for, so any region of interest can equal the
same crop of the whole brain (DESIGN 4.3).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from napari_teramind.errors import UserError

BLOCK = 64
"""Side in pixels of the blocks that one Philox counter covers."""

PUBLISHED_TILE = 256


def noise_field(
    kind: str, seed: int, stains: int, slices: range, box: tuple[int, int, int, int], depth: int
) -> np.ndarray:
    """Draw the standard normal noise of a box.

    Parameters
    ----------
    kind
        ``"philox"`` (:func:`philox_block`) or ``"published"`` (:func:`published_tile`).
    seed
        Any integer of 64 bits; must be 0 for published noise, which has none.
    stains
        Number of image channels.
    slices
        Absolute slice numbers; they may lie beyond the brain.
    box
        (y0, y1, x0, x1) in absolute pixels, half open; it may reach beyond the brain.
    depth
        Number of slices of the brain (published noise is drawn for all of them at once).

    Returns
    -------
    ndarray
        (stains, len(slices), y1 - y0, x1 - x0) float32.
    """
    y0, y1, x0, x1 = box
    side = {"philox": BLOCK, "published": PUBLISHED_TILE}.get(kind)
    if side is None:
        raise UserError(f"The noise '{kind}' is not known; use 'philox' or 'published'.")
    if kind == "published" and seed != 0:
        raise UserError("Published noise has no seed; use seed 0 or noise 'philox'.")
    out = np.empty((stains, len(slices), y1 - y0, x1 - x0), np.float32)
    for row in range(y0 // side, -(-y1 // side)):
        ys = slice(max(y0, row * side), min(y1, (row + 1) * side))
        for column in range(x0 // side, -(-x1 // side)):
            xs = slice(max(x0, column * side), min(x1, (column + 1) * side))
            inside = np.s_[
                ys.start - row * side : ys.stop - row * side,
                xs.start - column * side : xs.stop - column * side,
            ]
            target = np.s_[:, :, ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0]
            if kind == "philox":
                for stain in range(stains):
                    for k, z in enumerate(slices):
                        out[stain, k][target[2:]] = philox_block(seed, stain, z, row, column)[
                            inside
                        ]
            else:
                tile = published_tile(row, column, stains, depth)[inside]
                index = [[s * depth + z % depth for z in slices] for s in range(stains)]
                out[target] = np.moveaxis(tile[..., index], (0, 1), (2, 3))
    return out


@lru_cache(maxsize=4096)
def philox_block(seed: int, stain: int, z: int, row: int, column: int) -> np.ndarray:
    """Noise of one 64 x 64 px block of one stain and slice.

    Philox 4x64-10 (Salmon et al. 2011; NumPy's bit stream, which does not change between versions)
    with key (seed, 0) and counter (0, column, row, 2^32 stain + slice), all modulo 2^64, gives 2048
    words. With h and l the upper and lower 32 bits of a word, u = (h + 1/2) / 2^32 and
    v = l / 2^32, Box and Muller's sqrt(-2 ln u) cos(2 pi v) fills the upper half of the block,
    row by row, and sqrt(-2 ln u) sin(2 pi v) the lower half.

    Returns
    -------
    ndarray
        (64, 64) float32, not to be written to.
    """
    wrap = 2**64
    counter = [0, column % wrap, row % wrap, (stain * 2**32 + z) % wrap]
    generator = np.random.Philox(
        key=np.array([seed % wrap, 0], np.uint64), counter=np.array(counter, np.uint64)
    )
    words = generator.random_raw(BLOCK * BLOCK // 2)
    u = ((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32
    v = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**32
    radius = np.sqrt(-2 * np.log(u))
    normal = np.concatenate([radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)])
    block = normal.astype(np.float32).reshape(BLOCK, BLOCK)
    block.flags.writeable = False
    return block


@lru_cache(maxsize=8)
def published_tile(row: int, column: int, stains: int, depth: int) -> np.ndarray:
    """Noise of one 256 x 256 px tile of all slices, as the published run draws it.

    seed = (1103515245 i + 12345) mod 2^31 with i = 416 row + column, then one CPU
    ``torch.randn((256, 256, stains * depth))``; last axis = stain * depth + slice.

    Returns
    -------
    ndarray
        (256, 256, stains * depth) float32, not to be written to.
    """
    seed = (1103515245 * (416 * row + column) + 12345) % 2**31
    generator = torch.Generator(device="cpu").manual_seed(seed)
    tile = torch.randn(
        (PUBLISHED_TILE, PUBLISHED_TILE, stains * depth), generator=generator
    ).numpy()
    tile.flags.writeable = False
    return tile

"""Training samples: blocks of a brain, and the crops drawn from them (DESIGN section 3).

Needs NumPy only. Everything is drawn from counters: sample ``i`` of seed ``s`` is the same whatever
was drawn before, so a resumed run goes on exactly where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_teramind.model.config import BIN, ModelConfig


@dataclass(frozen=True)
class Block:
    """A piece of a brain from which crops are drawn.

    Attributes
    ----------
    stains
        (stains, M, y, x) uint8.
    genes
        (genes, S, y/16, x/16) counts of the slices around, on the same place.
    corners
        (n, 2) upper left corners, in bins, of the crops that may be drawn.
    """

    stains: np.ndarray
    genes: np.ndarray
    corners: np.ndarray


@dataclass(frozen=True)
class Sample:
    """One block of n x n shifted patches of a padded crop.

    Attributes
    ----------
    clean
        (stains, M, np, np) float32 in [-1, 1]; 0 in the crop's padding.
    genes
        (genes, S, np/16, np/16) float32; 0 in the padding.
    mask
        (np, np) float32; 0 in the padding.
    """

    clean: np.ndarray
    genes: np.ndarray
    mask: np.ndarray


def allowed_corners(
    bins: tuple[int, int, int, int],
    crop: int,
    exclude: tuple[int, int, int, int] | None,
    tissue: np.ndarray | None = None,
) -> np.ndarray:
    """Corners of crops that stay in a box of bins, avoid a held-out field, and hold tissue.

    Parameters
    ----------
    bins
        The box (y0, y1, x0, x1).
    crop
        Side of a crop in bins.
    exclude
        Held-out pixels (y0, y1, x0, x1) of the brain, or None.
    tissue
        (y1 - y0, x1 - x0) bool: a crop's centre must lie on tissue. None: anywhere.

    Returns
    -------
    ndarray
        (n, 2) int corners relative to the box.
    """
    y0, y1, x0, x1 = bins
    if y1 - y0 < crop or x1 - x0 < crop:
        return np.empty((0, 2), int)
    ys, xs = np.mgrid[0 : y1 - y0 - crop + 1, 0 : x1 - x0 - crop + 1]
    keep = np.ones(ys.shape, bool)
    if exclude is not None:
        top, bottom, left, right = (
            exclude[0] // BIN - y0,
            -(-exclude[1] // BIN) - y0,
            exclude[2] // BIN - x0,
            -(-exclude[3] // BIN) - x0,
        )
        keep &= (ys + crop <= top) | (ys >= bottom) | (xs + crop <= left) | (xs >= right)
    if tissue is not None:
        keep &= tissue[crop // 2 :, crop // 2 :][: keep.shape[0], : keep.shape[1]]
    return np.stack([ys[keep], xs[keep]], axis=1)


def draw(
    block: Block, config: ModelConfig, crop: int, rng: np.random.Generator, across: int = 2
) -> Sample:
    """Draw a crop, a random block of its shifted patches, a turn and a flip.

    Only the patches that the loss sees are cut out; the crop itself is never made. The grid
    of positions is symmetric, so turning the patches equals turning the crop first.

    Parameters
    ----------
    block
        Where to draw from; must have at least one corner.
    config
        Shape of the network.
    crop
        Side of a crop in px.
    rng
        Source of all choices.
    across
        Shifted patches on a side of the block, at most ``crop / p + 1``.
    """
    p, side = config.patch, across * config.patch
    top, left = block.corners[rng.integers(len(block.corners))] * BIN
    # Offset inside the crop of the shifted patches: from -p/2 in steps of p.
    dy, dx = (int(n) * p - p // 2 for n in rng.integers(crop // p + 2 - across, size=2))
    clean = np.zeros((config.stains, config.image_slices, side, side), np.float32)
    genes = np.zeros((config.genes, config.gene_slices, side // BIN, side // BIN), np.float32)
    mask = np.zeros((side, side), np.float32)
    ys = slice(max(dy, 0), min(dy + side, crop))
    xs = slice(max(dx, 0), min(dx + side, crop))
    to = np.s_[ys.start - dy : ys.stop - dy, xs.start - dx : xs.stop - dx]
    mask[to] = 1
    pixels = block.stains[:, :, top + ys.start : top + ys.stop, left + xs.start : left + xs.stop]
    clean[:, :, *to] = pixels / np.float32(127.5) - 1
    to_bins = tuple(slice(s.start // BIN, s.stop // BIN) for s in to)
    genes[:, :, *to_bins] = block.genes[
        :,
        :,
        (top + ys.start) // BIN : (top + ys.stop) // BIN,
        (left + xs.start) // BIN : (left + xs.stop) // BIN,
    ]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    return Sample(*(_turned(array, turns, flip) for array in (clean, genes, mask)))


def _turned(array: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """Turn by 90 degrees ``turns`` times and mirror, in the last two axes."""
    array = np.rot90(array, turns, axes=(-2, -1))
    return np.ascontiguousarray(array[..., ::-1] if flip else array)

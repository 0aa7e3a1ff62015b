"""Transforms for looking at maps. They are never baked into data.

Paper: log2(n_genes * sum over the pair + 1), 0 where not both genes occur, then a Gaussian of
sigma 2 on maps at half the bin resolution (a quarter for the relief); expression log2(count + 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGMA = 2.0
"""Standard deviation of the paper's smoothing, in pixels of the map shown."""


def displayed_attention(
    attention: NDArray[np.float32], counts: NDArray[np.float32], genes: int
) -> NDArray[np.float32]:
    """Attention as the paper shows it, before smoothing.

    Parameters
    ----------
    attention
        (2, ...), both genes' values.
    counts
        (2, ...), their counts: where either is 0 the result is 0.
    genes
        Number of genes in the panel.
    """
    shown = np.log2(genes * attention.sum(axis=0) + 1)
    return np.where((counts > 0).all(axis=0), shown, 0).astype(np.float32)


def displayed_expression(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log2(count + 1)."""
    return np.log2(counts + 1).astype(np.float32)


def smoothed(image: NDArray[np.float32], sigma: float = SIGMA) -> NDArray[np.float32]:
    """Smooth y and x (the last two axes) by a Gaussian; ``sigma`` in pixels."""
    from scipy.ndimage import gaussian_filter

    sigmas = [0.0] * (image.ndim - 2) + [sigma, sigma]
    return np.asarray(gaussian_filter(image, sigmas), np.float32)

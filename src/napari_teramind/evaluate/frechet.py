"""The Fréchet distance of two sets of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Moments:
    """Mean and covariance of feature vectors that come in parts (Chan, Golub and LeVeque 1979).

    Memory grows with the square of the number of features, not with that of vectors.

    Attributes
    ----------
    n : int
        Vectors so far.
    """

    def __init__(self) -> None:
        self.n = 0
        self._mean: NDArray[np.float64] = np.zeros(0)
        self._spread: NDArray[np.float64] = np.zeros((0, 0))

    def add(self, features: NDArray[np.floating]) -> None:
        """Add vectors (n, features)."""
        if not len(features):
            return
        block = features.astype(np.float64)
        mean = block.mean(axis=0)
        centred = block - mean
        spread = centred.T @ centred
        if self.n:
            shift, total = mean - self._mean, self.n + len(block)
            spread += self._spread + np.outer(shift, shift) * (self.n * len(block) / total)
            mean = self._mean + shift * (len(block) / total)
        self._mean, self._spread = mean, spread
        self.n += len(block)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean vector, (features,)."""
        return self._mean

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance, (features, features); needs two vectors."""
        return self._spread / (self.n - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of two normal distributions (Dowson and Landau 1982).

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``: what the FID of Heusel et al. (2017) computes
    from features of an Inception network.

    Parameters
    ----------
    a, b
        Of at least two vectors each.

    Returns
    -------
    float
        0 for equal distributions.
    """
    # (S1 S2)^(1/2) has the trace of (R S2 R)^(1/2) with R = S1^(1/2), which is symmetric: its
    # eigenvalues are real and come out well even where covariances are singular.
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    middle = root @ b.covariance @ root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((middle + middle.T) / 2), 0)).sum()
    apart = a.mean - b.mean
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return max(0.0, float(apart @ apart + traces - 2 * shared))

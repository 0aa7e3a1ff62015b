"""A region of a small phantom as if something had generated it: shared by tests of evaluation."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

ROI, SLICES = (100, 600, 130, 800), (0, 2)


def softened(stains: np.ndarray, seed: int = 0) -> np.ndarray:
    """Blur stains and add noise, as something generated that is not quite right."""
    noise = np.random.default_rng(seed).normal(0, 4, stains.shape)
    soft = gaussian_filter(stains.astype(float), (0, 0, 1.5, 1.5)) + noise
    return np.asarray(soft.clip(0, 255).astype(np.uint8))

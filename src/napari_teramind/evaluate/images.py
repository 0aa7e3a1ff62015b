"""Image metrics, per stain, as everyone computes them (scikit-image)."""

from __future__ import annotations

import numpy as np


def psnr(real: np.ndarray, made: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two images of one shape in dB; the peak is 255.

    Parameters
    ----------
    real, made : ndarray of uint8 or float, any shape
    """
    from skimage.metrics import peak_signal_noise_ratio

    return float(
        peak_signal_noise_ratio(real.astype(np.float64), made.astype(np.float64), data_range=255)
    )


def ssim(real: np.ndarray, made: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of two planes of grey levels 0 to 255.

    Parameters
    ----------
    real, made : ndarray, (y, x)
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(real.astype(np.float64), made.astype(np.float64), data_range=255)
    )

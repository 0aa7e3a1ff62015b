"""Image metrics, per stain, as everyone computes them (scikit-image)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_teramind.evaluate.tiles import Box, narrowed, widened, within

WINDOW = 7
"""Side of the square over which SSIM compares, in px: scikit-image's default."""
MARGIN = WINDOW // 2
"""Pixels around a tile that its SSIM needs; the mean leaves out as many along the border."""

_LEVELS = 256


def psnr(real: np.ndarray, made: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two images of one shape in dB; the peak is 255.

    Infinite for equal images.

    Parameters
    ----------
    real, made : ndarray of uint8 or float, any shape
    """
    from skimage.metrics import peak_signal_noise_ratio

    a, b = real.astype(np.float64), made.astype(np.float64)
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(a, b, data_range=255))


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


def ssim_map(real: np.ndarray, made: np.ndarray) -> NDArray[np.float64]:
    """Structural similarity of every pixel; see :func:`ssim`.

    Parameters
    ----------
    real, made : ndarray, (y, x)
        At least `WINDOW` px a side.

    Returns
    -------
    ndarray, (y, x)
        Right where the whole window lies within the planes: `MARGIN` px from their border.
    """
    from skimage.metrics import structural_similarity

    _, found = structural_similarity(
        real.astype(np.float64), made.astype(np.float64), data_range=255, full=True
    )
    return np.asarray(found)


@dataclass(frozen=True)
class Scores:
    """How near two images of some pixels are.

    Attributes
    ----------
    n, ssim_n : int
        Pixels compared, and those whose SSIM is known.
    psnr : float
        From the mean squared error over all pixels, dB; infinite where they are equal.
    ssim : float
        Mean of the SSIM map over the pixels; NaN if it is known of none.
    means : tuple of float
        Mean grey levels of the reference and of the result.
    distance : float
        First Wasserstein distance of their grey levels.
    """

    n: int
    ssim_n: int
    psnr: float
    ssim: float
    means: tuple[float, float]
    distance: float


class PlaneScores:
    """Scores of a plane and of parts of it, gathered tile by tile.

    Whatever the tiles, the scores of the whole plane are those of scikit-image. Memory grows with
    the number of parts alone.

    Parameters
    ----------
    box
        The plane.
    parts
        Number of parts.
    """

    def __init__(self, box: Box, parts: int) -> None:
        self._box = box
        self._grey = np.zeros((2, parts, _LEVELS), np.int64)
        self._squares = np.zeros(parts)
        self._ssim = np.zeros((2, parts))

    def add(
        self,
        tile: Box,
        real: NDArray[np.uint8],
        made: NDArray[np.uint8],
        counts: NDArray[np.bool_],
        part: NDArray[np.integer],
    ) -> None:
        """Add a tile.

        Parameters
        ----------
        tile
            Which.
        real, made
            The tile with `MARGIN` px around it, as far as the plane goes.
        counts
            (y, x) of the tile alone: which pixels are compared.
        part
            (y, x) of the tile alone: the part that each belongs to.
        """
        wide = widened(tile, MARGIN, self._box)
        here = within(tile, wide)
        owner = part[counts].astype(np.int64)
        a, b = real[here][counts], made[here][counts]
        parts = self._squares.size
        for k, grey in enumerate((a, b)):
            found = np.bincount(owner * _LEVELS + grey, minlength=parts * _LEVELS)
            self._grey[k] += found.reshape(parts, _LEVELS)
        squares = (a.astype(np.int32) - b) ** 2
        self._squares += np.bincount(owner, squares, minlength=parts)
        inner = narrowed(tile, MARGIN, self._box)
        if inner is None:
            return
        around = within(widened(inner, MARGIN, self._box), wide)
        alike = ssim_map(real[around], made[around])[MARGIN:-MARGIN, MARGIN:-MARGIN]
        at = within(inner, tile)
        owner = part[at][counts[at]].astype(np.int64)
        self._ssim[0] += np.bincount(owner, alike[counts[at]], minlength=parts)
        self._ssim[1] += np.bincount(owner, minlength=parts)

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels compared of every part."""
        return np.asarray(self._grey[0].sum(axis=1))

    def blank(self) -> bool:
        """Whether nothing was compared, or the reference is black throughout."""
        return not self._grey[0, :, 1:].any()

    def scores(self, parts: NDArray[np.integer] | None = None) -> Scores | None:
        """Return the scores of some parts together, or of all; None if they have no pixel."""
        from scipy.stats import wasserstein_distance

        at = np.arange(self._squares.size) if parts is None else parts
        grey = self._grey[:, at].sum(axis=1)
        n = int(grey[0].sum())
        if not n:
            return None
        error = float(self._squares[at].sum()) / n
        total, known = self._ssim[:, at].sum(axis=1)
        levels = np.arange(_LEVELS)
        means = tuple(float(levels @ row) / n for row in grey)
        return Scores(
            n=n,
            ssim_n=int(known),
            psnr=float(10 * np.log10(255**2 / error)) if error else float("inf"),
            ssim=float(total / known) if known else float("nan"),
            means=(means[0], means[1]),
            distance=float(wasserstein_distance(levels, levels, grey[0], grey[1])),
        )

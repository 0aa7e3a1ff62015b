"""Nuclei by threshold and watershed: needs no weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_teramind.brain.layout import PIXEL_SIZE

# Chosen on phantom and real DAPI: blur against chromocentres and grain, then one seed a nucleus.
_BLUR_UM, _SEED_BLUR_UM = 0.43, 0.54
APART_UM = 1.8
"""Least distance between the middles of two nuclei."""
DIRT_UM = 3.0
"""Diameter below which what is found is dirt: it counts, but has no area."""

WHITE = 255.0
_BINS = 1024
# Rounds after which a threshold that has not settled is taken as it is.
_SETTLING = 20


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of a plane.

    Attributes
    ----------
    labels
        (y, x) int, 0 for background.
    count
        Nuclei found, those that the border cuts included.
    areas_um2
        Areas of nuclei that the border does not cut and that are larger than dirt, square
        micrometers.
    """

    labels: np.ndarray
    count: int
    areas_um2: np.ndarray

    @property
    def diameters_um(self) -> np.ndarray:
        """Diameters of circles of the same areas, micrometers."""
        return np.asarray(2 * np.sqrt(self.areas_um2 / np.pi))


def find_nuclei(
    dapi: np.ndarray,
    pixel_size: float = PIXEL_SIZE,
    threshold: float | None = None,
    apart_um: float = APART_UM,
) -> Nuclei:
    """Find nuclei by a threshold and a watershed of the distance to the background.

    Parameters
    ----------
    dapi
        (y, x) grey levels.
    pixel_size
        Micrometers per pixel.
    threshold
        Grey level above which a blurred pixel is nucleus; default: :func:`settled_threshold` of
        this plane.
    apart_um
        Least distance between the middles of two nuclei, micrometers.
    """
    from skimage import measure, segmentation

    if threshold is None:
        smooth = blurred(dapi, pixel_size)
        white = max(WHITE, float(smooth.max()))
        threshold = settled_threshold(grey_histogram(smooth, white), white)
    labels = watershed(dapi, pixel_size, threshold, apart_um)
    whole = measure.regionprops(segmentation.clear_border(labels))
    areas = np.array([region.area for region in whole]) * pixel_size**2
    large = areas[areas > smallest_area()] if len(areas) else areas
    return Nuclei(labels, int(labels.max()), large)


def smallest_area() -> float:
    """Area of the largest dirt, square micrometers."""
    return float(np.pi / 4 * DIRT_UM**2)


def blurred(dapi: np.ndarray, pixel_size: float = PIXEL_SIZE) -> NDArray[np.float64]:
    """Blur a plane (y, x) as it is before a threshold divides it; grey levels stay in their range.

    A pixel depends on :func:`blur_margin` pixels around it.
    """
    from skimage import filters

    return np.asarray(filters.gaussian(dapi, _BLUR_UM / pixel_size, preserve_range=True))


def blur_margin(pixel_size: float) -> int:
    """Pixels around a pixel on which its blurred value depends (scikit-image cuts at 4 sigma)."""
    return int(4 * _BLUR_UM / pixel_size + 0.5)


def grey_histogram(smooth: np.ndarray, white: float = WHITE) -> NDArray[np.int64]:
    """Count the blurred grey levels 0 to ``white``; counts of parts of a plane add up."""
    return np.histogram(smooth, _BINS, (0, white))[0].astype(np.int64)


def settled_threshold(histogram: NDArray[np.int64], white: float = WHITE) -> float:
    """Otsu's threshold of grey levels, those above twice the threshold taken as twice.

    Very bright nuclei, in division, then raise it less, so that fewer faint ones are lost.
    Repeated until it stays where it is.

    Parameters
    ----------
    histogram
        From :func:`grey_histogram`, with the same ``white``.

    Returns
    -------
    float
        Infinite where all pixels are alike.
    """
    from skimage import filters

    if np.count_nonzero(histogram) < 2:
        return float("inf")
    step = white / _BINS
    levels = (np.arange(_BINS) + 0.5) * step
    threshold = float(filters.threshold_otsu(hist=(histogram, levels)))
    for _ in range(_SETTLING):
        top = min(int(2 * threshold / step), _BINS - 1)
        cut = np.append(histogram[:top], histogram[top:].sum())
        before = threshold
        threshold = float(filters.threshold_otsu(hist=(cut, levels[: top + 1])))
        if threshold == before:
            break
    return threshold


def otsu_threshold(dapi: np.ndarray, pixel_size: float = PIXEL_SIZE) -> float:
    """Otsu's threshold of the blurred grey levels of a plane (y, x); infinite where it is even."""
    from skimage import filters

    smooth = blurred(dapi, pixel_size)
    return float(filters.threshold_otsu(smooth)) if np.ptp(smooth) else float("inf")


def watershed(
    dapi: np.ndarray,
    pixel_size: float,
    threshold: float,
    apart_um: float = APART_UM,
    borders: tuple[bool, bool, bool, bool] = (True, True, True, True),
) -> NDArray[np.int64]:
    """Label nuclei.

    Parameters
    ----------
    dapi
        (y, x) grey levels.
    pixel_size
        Micrometers per pixel.
    threshold
        Grey level above which a blurred pixel is nucleus.
    apart_um
        Least distance between the middles of two nuclei, micrometers.
    borders
        Whether the image ends at the first row, the last, the first column, the last. Where it
        does, a nucleus whose middle lies nearer than the least distance of two is not found; where
        a tile ends that is cut out of an image, it is.

    Returns
    -------
    ndarray of int, (y, x)
        0 for background.
    """
    from scipy import ndimage
    from skimage import feature, filters, measure, segmentation

    mask = ndimage.binary_fill_holes(blurred(dapi, pixel_size) > threshold)
    distance = filters.gaussian(ndimage.distance_transform_edt(mask), _SEED_BLUR_UM / pixel_size)
    apart = max(1, round(apart_um / pixel_size))
    pieces = measure.label(mask)
    top, bottom, left, right = (apart if border else 0 for border in borders)
    inside = np.zeros(mask.shape, bool)
    inside[top : mask.shape[0] - bottom, left : mask.shape[1] - right] = True
    peaks = feature.peak_local_max(
        distance, min_distance=apart, labels=np.where(inside, pieces, 0), exclude_border=False
    )
    seeds = np.zeros(dapi.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(segmentation.watershed(-distance, seeds, mask=mask))

"""Nuclei by threshold and watershed: needs no weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_teramind.brain.layout import PIXEL_SIZE

# Chosen on phantom and real DAPI: blur against chromocentres and grain, then one seed a nucleus.
_BLUR_UM, _SEED_BLUR_UM, _APART_UM = 0.43, 0.54, 2.4
_DIRT_UM = 3.0


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
    dapi: np.ndarray, pixel_size: float = PIXEL_SIZE, threshold: float | None = None
) -> Nuclei:
    """Find nuclei by a threshold and a watershed of the distance to the background.

    Parameters
    ----------
    dapi
        (y, x) grey levels.
    pixel_size
        Micrometers per pixel.
    threshold
        Grey level above which a blurred pixel is nucleus; default: Otsu's of this plane.
    """
    from scipy import ndimage
    from skimage import feature, filters, measure, segmentation

    smooth = filters.gaussian(dapi, _BLUR_UM / pixel_size, preserve_range=True)
    if threshold is None:
        threshold = filters.threshold_otsu(smooth) if np.ptp(smooth) else np.inf
    mask = ndimage.binary_fill_holes(smooth > threshold)
    distance = filters.gaussian(ndimage.distance_transform_edt(mask), _SEED_BLUR_UM / pixel_size)
    peaks = feature.peak_local_max(
        distance, min_distance=round(_APART_UM / pixel_size), labels=measure.label(mask)
    )
    seeds = np.zeros(dapi.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = np.asarray(segmentation.watershed(-distance, seeds, mask=mask))
    whole = measure.regionprops(segmentation.clear_border(labels))
    areas = np.array([region.area for region in whole]) * pixel_size**2
    large = areas[areas > np.pi / 4 * _DIRT_UM**2] if len(areas) else areas
    return Nuclei(labels, int(labels.max()), large)

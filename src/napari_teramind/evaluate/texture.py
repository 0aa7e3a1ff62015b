"""Features of patches, for distances between the looks of real and generated tissue.

The *texture distance* is the Fréchet distance of the features of :class:`Texture`, a fixed
extractor that needs no weights. It is not the FID, and its values do not compare with any FID.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_teramind.evaluate.tiles import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGMAS = (1.0, 2.0, 4.0, 8.0)
"""Scales of the texture features in px: 0.1 to 0.9 um, from grain to the size of a nucleus."""
SHARE = 0.5
"""Share of a patch that must be compared for the patch to count."""


class Extractor(Protocol):
    """What makes features of patches."""

    @property
    def side(self) -> int:
        """Side of a patch in px."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the distances that its features give."""

    def __call__(self, patches: NDArray[np.uint8]) -> Mapping[str, NDArray[np.floating]]:
        """Return for every metric the features (n, features) of patches (n, y, x)."""


class Texture:
    """Intensity and gradient statistics of patches of 64 x 64 px at four scales: 14 features.

    Of the grey levels g of a patch: the mean and the standard deviation of g; and for every
    sigma of `SIGMAS` (px) the mean and the standard deviation of ``sigma |grad(G * g)|`` and the
    mean of ``sigma^2 |lap(G * g)|``, G a Gaussian of that sigma, the patch mirrored at its border.
    The powers of sigma make scales comparable (Lindeberg 1998).
    """

    side = 64
    metrics = ("texture_distance",)

    def __call__(self, patches: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Return the features of patches (n, y, x); see the class."""
        return {"texture_distance": texture_features(patches)}


def texture_features(patches: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the features (n, 14) of patches (n, y, x); see :class:`Texture`."""
    from scipy import ndimage

    grey = patches.astype(np.float64)
    over = (1, 2)
    found = [grey.mean(over), grey.std(over)]
    # Truncated kernels let a little of the mean through.
    grey -= grey.mean(over, keepdims=True)
    for sigma in SIGMAS:

        def derived(y: int, x: int, sigma: float = sigma) -> NDArray[np.float64]:
            return np.asarray(
                ndimage.gaussian_filter(grey, sigma, order=(y, x), mode="reflect", axes=over)
            )

        slope = sigma * np.hypot(derived(1, 0), derived(0, 1))
        curve = sigma**2 * np.abs(derived(2, 0) + derived(0, 2))
        found += [slope.mean(over), slope.std(over), curve.mean(over)]
    return np.stack(found, axis=1)


def whole_patches(tile: Box, counts: NDArray[np.bool_], side: int) -> Iterator[tuple[slice, slice]]:
    """Find the patches of a tile that count.

    Parameters
    ----------
    tile
        Cut along a grid of which ``side`` is a divisor.
    counts
        (y, x), which of its pixels are compared.
    side
        Side of a patch in px. Patches lie on a grid that begins at the brain's pixel (0, 0).

    Yields
    ------
    tuple of slice
        Rows and columns within the tile: patches that lie in it whole, at least `SHARE` of which
        is compared.
    """
    y0, y1, x0, x1 = tile
    for y in range(-(-y0 // side) * side, y1 - side + 1, side):
        for x in range(-(-x0 // side) * side, x1 - side + 1, side):
            place = (slice(y - y0, y - y0 + side), slice(x - x0, x - x0 + side))
            if counts[place].mean() >= SHARE:
                yield place

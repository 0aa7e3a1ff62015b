"""Pictures of stains for pages: in the stains' colours, at any zoom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_teramind.brain import MultiscaleImage

Box = tuple[float, float, float, float]
"""(y0, y1, x0, x1) in micrometers of the world."""


def coloured(
    planes: np.ndarray, colors: list[str], windows: list[tuple[float, float]]
) -> np.ndarray:
    """Add up stains in their colours.

    Parameters
    ----------
    planes : ndarray, (stains, y, x)
    colors : list of str
        Six hexadecimal digits each.
    windows : list of tuple
        Values that are black and fully bright.

    Returns
    -------
    ndarray of uint8, (y, x, 3)
    """
    light = np.zeros((*planes.shape[1:], 3))
    for plane, color, (low, high) in zip(planes, colors, windows, strict=True):
        share = np.clip((plane.astype(float) - low) / max(high - low, 1e-9), 0, 1)
        light += share[..., None] * np.frombuffer(bytes.fromhex(color), np.uint8)
    return np.clip(light, 0, 255).astype(np.uint8)


def view(image: MultiscaleImage, z: int, box: Box, most: int = 512) -> np.ndarray:
    """Return a part of a slice at the finest level of detail that is not too large.

    Parameters
    ----------
    image : MultiscaleImage
        Stains, (c, z, y, x).
    z : int
        Slice of the image.
    box : tuple of float
        What to see; what the image does not have is black.
    most : int
        Pixels a side.

    Returns
    -------
    ndarray of uint8, (y, x, 3)
    """
    colors = [channel.color for channel in image.channels]
    windows = [channel.window for channel in image.channels]
    for level in range(len(image.levels)):
        (dy, dx), (oy, ox) = image.scale(level)[-2:], image.translation(level)[-2:]
        # The first pixel's centre lies at the translation.
        y0, y1 = (round((edge - oy) / dy + 0.5) for edge in box[:2])
        x0, x1 = (round((edge - ox) / dx + 0.5) for edge in box[2:])
        if max(y1 - y0, x1 - x0) <= most:
            break
    array = image.levels[level]
    planes = np.zeros((len(colors), y1 - y0, x1 - x0), array.dtype)
    inside = (max(y0, 0), min(y1, array.shape[-2]), max(x0, 0), min(x1, array.shape[-1]))
    if inside[0] < inside[1] and inside[2] < inside[3]:
        planes[:, inside[0] - y0 : inside[1] - y0, inside[2] - x0 : inside[3] - x0] = array[
            :, z, inside[0] : inside[1], inside[2] : inside[3]
        ]
    return coloured(planes, colors, windows)

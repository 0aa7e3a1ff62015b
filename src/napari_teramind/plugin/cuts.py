"""Parts of image layers, cut out of any of their levels of detail, in their place in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Image

LOOK = ("colormap", "contrast_limits", "gamma", "opacity")


@dataclass(frozen=True)
class Cut:
    """A part of a layer that has yet to be read.

    Attributes
    ----------
    layer
        Of which layer.
    view
        What to read, lazily: an array of (z, y, x).
    affine
        (4, 4) from the part's pixels to the world.
    """

    layer: Image
    view: Any
    affine: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory that it will take."""
        return int(np.prod(self.view.shape, dtype=np.int64)) * np.dtype(self.view.dtype).itemsize

    @property
    def empty(self) -> bool:
        """Whether the layer has nothing there."""
        return 0 in self.view.shape

    def read(self) -> np.ndarray:
        """Read it."""
        return np.asarray(self.view)

    @property
    def look(self) -> dict[str, Any]:
        """What makes a layer with the part look like its layer."""
        return {name: getattr(self.layer, name) for name in LOOK}


def cut(layer: Image, low: Sequence[float], high: Sequence[float], level: int = 0) -> Cut:
    """Return the part of a layer that lies in a box, as far as the layer reaches.

    Parameters
    ----------
    layer
        A layer of three axes.
    low, high
        Corners (z, y, x) of the box in the world; a flat box takes the pixels that it lies in.
    level
        Of detail; 0 is the finest.
    """
    array = layer.data[level] if layer.multiscale else layer.data
    factors = np.asarray(layer.downsample_factors[level]) if layer.multiscale else np.ones(3)
    corners = [layer.world_to_data(corner) for corner in product(*zip(low, high, strict=True))]
    # Pixel i of a level reaches from i - 0.5 to i + 0.5; what ends on an edge ends before it.
    inside = [(np.asarray(end) + 0.5) / factors for end in (np.min(corners, 0), np.max(corners, 0))]
    first = np.floor(inside[0] + 1e-6).astype(int)
    last = np.maximum(np.floor(inside[1] - 1e-6).astype(int), first) + 1
    first, last = (np.clip(end, 0, array.shape) for end in (first, last))
    view = array[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    to_data = np.eye(4)
    to_data[:3, :3] = np.diag(factors)
    to_data[:3, 3] = (first + 0.5) * factors - 0.5
    return Cut(layer, view, _to_world(layer) @ to_data)


def _to_world(layer: Image) -> np.ndarray:
    """Return the matrix (4, 4) from a layer's full-resolution pixels to the world."""
    origin = np.asarray(layer.data_to_world((0, 0, 0)))
    steps = [np.asarray(layer.data_to_world(tuple(unit))) - origin for unit in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.stack(steps, axis=1), origin
    return matrix


def finest_cuts(
    layers: Sequence[Image],
    low: Sequence[float],
    high: Sequence[float],
    most_bytes: int,
    most_side: int,
) -> tuple[list[Cut], int]:
    """Cut a box out of layers at the finest level of detail that fits.

    Parameters
    ----------
    layers
        Layers of three axes; those that have nothing there are left out.
    low, high
        Corners of the box in the world.
    most_bytes
        For all cuts together.
    most_side
        Pixels of a cut along any axis.

    Returns
    -------
    tuple
        The cuts, and how many times coarser than the finest layer they are.
    """
    if not layers:
        return [], 1
    sizes = [float(np.abs(_to_world(layer)[:3, 2]).max()) for layer in layers]
    # A layer of larger pixels need not be made coarser before the others have become so.
    ahead = [round(float(np.log2(size / min(sizes)))) for size in sizes]
    depth = max(
        n + (len(layer.data) if layer.multiscale else 1)
        for n, layer in zip(ahead, layers, strict=True)
    )
    for coarser in range(depth):
        found = []
        for layer, n in zip(layers, ahead, strict=True):
            levels = len(layer.data) if layer.multiscale else 1
            found.append(cut(layer, low, high, min(max(0, coarser - n), levels - 1)))
        found = [part for part in found if not part.empty]
        sides = [side for part in found for side in part.view.shape]
        if sum(part.bytes for part in found) <= most_bytes and max(sides, default=0) <= most_side:
            return found, 2**coarser
    return [], 2**depth

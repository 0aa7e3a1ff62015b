"""The relief of a slice, as in the paper's Fig. 7: attention as hills above and below its image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.plugin.attention import View, contrast, shown_levels
from napari_teramind.plugin.layers import AXES, TAG, UNITS, LayerTuple, brain_key

if TYPE_CHECKING:
    from napari_teramind.attention import StoredMaps
    from napari_teramind.attention.pairs import MapName, Pair
    from napari_teramind.brain import BrainStore, MultiscaleImage

WIDEST = 512
"""Points a side of a relief at most, and twice as many pixels of the image."""
HEIGHT, GAP = 0.25, 0.02
"""Of the highest hill and of the plain over the image, relative to the slice's width."""
KIND = "relief"


def relief_layers(brain: BrainStore, maps: StoredMaps, pair: Pair, z: int) -> list[LayerTuple]:
    """Return surfaces: the image of a slice, the first map above it and the second below.

    With one map only there is nothing below.

    Parameters
    ----------
    brain, maps
        The brain and one of its results.
    pair
        Which pair.
    z
        Slice of the brain, one that the result covers.
    """
    names = list(dict.fromkeys(c.map for c in maps.channels if c.pair == pair))
    pairwise = [name for name in names if name != "ensemble"]
    tag = {"brain": brain_key(brain.path), "kind": KIND, "name": maps.name}
    layers = [_picture(brain, z, tag)]
    for name, sign in zip(pairwise or names, (1, -1), strict=False):
        assert name is not None
        layers.append(_hills(brain, maps, pair, name, z, sign, tag))
    return layers


def _hills(
    brain: BrainStore,
    maps: StoredMaps,
    pair: Pair,
    name: MapName,
    z: int,
    sign: int,
    tag: dict[str, Any],
) -> LayerTuple:
    """Make the hills of a map; napari's z grows towards us, so what is above has more of it."""
    view = View(pair, name, "attention")
    shown = shown_levels(maps, view)
    k = next((k for k, a in enumerate(shown) if max(a.shape[1:]) <= WIDEST), len(shown) - 1)
    level, whole = shown[k], slice(None)
    heights = level[z - maps.region.slices[0], whole, whole]
    top = max(contrast(level, "attention")[1], float(heights.max()))
    width = brain.shape[2] * brain.pixel_size
    ys, xs = (
        origin + np.arange(count) * scale
        for origin, scale, count in zip(
            maps.image.translation(k)[-2:], maps.image.scale(k)[-2:], heights.shape, strict=True
        )
    )
    y, x = np.meshgrid(ys, xs, indexing="ij")
    up = GAP + HEIGHT * heights / top
    vertices = np.column_stack([(_z(brain, z) + sign * width * up).ravel(), y.ravel(), x.ravel()])
    place = "above" if sign > 0 else "below"
    meta = _meta(f"{view.title}, relief {place}", tag) | {
        "colormap": "inferno",
        "contrast_limits": (0.0, top),
        "blending": "additive",
        "shading": "none",
    }
    return (vertices.astype(np.float32), _faces(*heights.shape), heights.ravel()), meta, "surface"


def _picture(brain: BrainStore, z: int, tag: dict[str, Any]) -> LayerTuple:
    """Make a flat surface that carries the stains of a slice."""
    image = brain.stains
    k = next(
        (k for k, a in enumerate(image.levels) if max(a.shape[-2:]) <= 2 * WIDEST),
        len(image.levels) - 1,
    )
    rgb = _blended(image, k, z)
    rows, columns = rgb.shape[:2]
    y0, x0 = image.translation(k)[-2:]
    dy, dx = image.scale(k)[-2:]
    ys, xs = (y0 - dy / 2, y0 + (rows - 0.5) * dy), (x0 - dx / 2, x0 + (columns - 0.5) * dx)
    corners = [(ys[i], xs[j]) for i, j in ((0, 0), (0, 1), (1, 1), (1, 0))]
    vertices = np.array([(_z(brain, z), y, x) for y, x in corners], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    meta = _meta(f"slice {z}, image", tag) | {
        "texture": rgb,
        "texcoords": np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32),
        "blending": "additive",
        "shading": "none",
    }
    return (vertices, faces, np.ones(4, np.float32)), meta, "surface"


def _blended(image: MultiscaleImage, level: int, z: int) -> np.ndarray:
    """Add the stains up in their colours, as the layers do: (y, x, 3), 0 to 1."""
    planes = np.asarray(image.levels[level][:, z], np.float32)
    total = np.zeros((*planes.shape[1:], 3), np.float32)
    for plane, channel in zip(planes, image.channels, strict=True):
        low, high = channel.window
        color = np.array([int(channel.color[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        total += np.clip((plane - low) / max(high - low, 1e-6), 0, 1)[..., None] * color
    return np.clip(total, 0, 1).astype(np.float32)


def _faces(rows: int, columns: int) -> np.ndarray:
    """Two triangles for every cell of a grid."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, below, across = corner + 1, corner + columns, corner + columns + 1
    return np.concatenate(
        [np.column_stack([corner, right, across]), np.column_stack([corner, across, below])]
    )


def _z(brain: BrainStore, z: int) -> float:
    return float(brain.stains.translation(0)[-3] + z * brain.stains.scale(0)[-3])


def _meta(name: str, tag: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "metadata": {TAG: tag}, "units": UNITS, "axis_labels": AXES}

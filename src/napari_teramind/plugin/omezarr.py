"""Any OME-Zarr image, 0.4 or 0.5, as layers that are read as they are looked at."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_teramind.brain.multiscale import MultiscaleImage
from napari_teramind.plugin.lazy import LazyView

if TYPE_CHECKING:
    from napari_teramind.plugin.layers import LayerTuple


MOST_VISIBLE = 3
MOST_CHANNELS = 16
"""Channels that are shown: a panel of 500 genes is an image too."""
LEFT_OUT = "channels left out"
"""Key under which the layers' metadata say how many channels are not shown."""


def is_image(root: zarr.Group) -> bool:
    """Whether a group says that it is an OME-Zarr image."""
    attributes: dict[str, Any] = root.attrs.asdict()
    return "multiscales" in attributes.get("ome", attributes)


def image_layers(root: zarr.Group, path: str) -> list[LayerTuple]:
    """Return the first channels of an image, or a label image.

    Parameters
    ----------
    root
        The image's group.
    path
        A folder, a zip file, or an address that fsspec understands.

    Raises
    ------
    UserError
        If there is no OME-Zarr image that can be read.
    """
    image = MultiscaleImage(root, path)
    axes = [i for i, axis in enumerate(image.axes) if axis != "c"]
    title = image.name or PurePosixPath(path.rstrip("/")).name
    common: dict[str, Any] = {
        "scale": [image.scale(0)[i] for i in axes],
        "translate": [image.translation(0)[i] for i in axes],
        "units": ["um" if image.axes[i] in "zyx" else "pixel" for i in axes],
        "axis_labels": [image.axes[i] for i in axes],
        "metadata": {"path": path},
    }
    return layers_of(image, title, common)


def layers_of(image: MultiscaleImage, title: str, common: dict[str, Any]) -> list[LayerTuple]:
    """Return the first channels of an image, or a label image, in a place that is known.

    Parameters
    ----------
    image
        The image.
    title
        What it is called, where its channels have no names.
    common
        What napari is told of every layer.
    """
    labels = "image-label" in image.attributes.get("ome", image.attributes)
    if labels and np.issubdtype(image.dtype, np.integer):
        return [_layer(image, None, common | {"name": title}, "labels")]
    if "c" not in image.axes:
        return [_layer(image, None, common | {"name": title}, "image")]
    layers: list[LayerTuple] = []
    count = image.shape[image.axes.index("c")]
    common = common | {"metadata": common["metadata"] | {LEFT_OUT: max(0, count - MOST_CHANNELS)}}
    for i in range(min(count, MOST_CHANNELS)):
        meta = common | {"name": f"{title} {i}" if count > 1 else title}
        if i < len(image.channels):
            channel = image.channels[i]
            meta |= {
                "name": channel.name or meta["name"],
                "colormap": f"#{channel.color}",
            }
            if image.has_window(i):  # napari looks at the pixels otherwise
                meta["contrast_limits"] = channel.window
        meta |= {"blending": "additive", "visible": i < MOST_VISIBLE}
        layers.append(_layer(image, i, meta, "image"))
    return layers


def _layer(
    image: MultiscaleImage, channel: int | None, meta: dict[str, Any], kind: str
) -> LayerTuple:
    views = []
    for level in image.levels:
        spans: list[Any] = [(0, size) for size in level.shape]
        if channel is not None:
            spans[image.axes.index("c")] = channel
        views.append(LazyView(level, spans))
    many = len(views) > 1
    return (views if many else views[0]), meta | {"multiscale": many}, kind

"""Where to generate: the current view, or a rectangle that the user draws; no Qt here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.plugin.layers import AXES, TAG, UNITS, tag_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer, Shapes

    from napari_teramind.brain import BrainStore

Roi = tuple[int, int, int, int]
ToGrid = Callable[[np.ndarray], np.ndarray]

ROI_NAME = "ROI"
ROI_COLOR = "#F0E442"
LINE_PX = 2


def clip_roi(corner: Any, opposite: Any, shape: tuple[int, int]) -> Roi | None:
    """Turn two corners in (fractional) pixels into the whole pixels of the brain between them.

    Parameters
    ----------
    corner, opposite
        (y, x) of any two opposite corners; pixel i reaches from i - 0.5 to i + 0.5.
    shape
        Height and width of the brain.

    Returns
    -------
    tuple or None
        (y0, y1, x0, x1), half open; None if nothing of the brain lies between the corners.
    """
    ends = []
    for a, b, length in zip(corner, opposite, shape, strict=True):
        low, high = sorted((a, b))
        start = max(0, math.floor(low + 1))
        stop = min(length, math.floor(high + 1))
        if start >= stop:
            return None
        ends += [start, stop]
    y0, y1, x0, x1 = ends
    return y0, y1, x0, x1


def to_grid(stain: Layer | None, brain: BrainStore) -> ToGrid:
    """Return the way from world positions (z, y, x) to slices and full-resolution pixels.

    Parameters
    ----------
    stain
        A layer that shows a stain of the brain, which the user may have moved; None if there is
        none, and the brain lies where it says itself.
    brain
        The brain.
    """
    if stain is not None:
        return lambda world: np.asarray(stain.world_to_data(world))[-3:]
    scale, origin = brain.stains.scale(0)[-3:], brain.stains.translation(0)[-3:]
    return lambda world: (np.asarray(world)[-3:] - origin) / scale


def view_roi(viewer: Viewer, grid: ToGrid, shape: tuple[int, int]) -> Roi | None:
    """Return the part of the brain that the canvas shows; None in 3D, or if it shows none."""
    if viewer.dims.ndisplay != 2 or tuple(viewer.dims.displayed) != tuple(
        range(viewer.dims.ndim - 2, viewer.dims.ndim)
    ):
        return None
    camera = viewer.scene.camera
    center = np.asarray(camera.center[-2:])
    half = np.asarray(viewer.canvas.size) / camera.zoom / 2
    corners = [grid(np.array([0, *(center + sign * half)]))[1:] for sign in (-1, 1)]
    return clip_roi(corners[0], corners[1], shape)


def rectangle_roi(layer: Shapes, grid: ToGrid, shape: tuple[int, int]) -> Roi | None:
    """Return the part of the brain under the last shape that was drawn; None if there is none."""
    if not layer.data:
        return None
    vertices = np.asarray(layer.data[-1])
    corners = [
        grid(np.array([0, *layer.data_to_world(v)[-2:]]))[1:]
        for v in (vertices.min(axis=0), vertices.max(axis=0))
    ]
    return clip_roi(corners[0], corners[1], shape)


def roi_layer(viewer: Viewer) -> Shapes | None:
    """Return the layer on which the user draws the rectangle, if it is there."""
    for layer in viewer.layers:
        if tag_of(layer).get("kind") == "roi":
            return layer
    return None


def draw_rectangle(viewer: Viewer) -> Shapes:
    """Let the user draw a rectangle, on a layer of ours that lies on top."""
    layer = roi_layer(viewer)
    if layer is None:
        layer = viewer.add_shapes(
            name=ROI_NAME,
            ndim=2,  # so that it is seen on every slice
            axis_labels=AXES[-2:],
            units=UNITS[-2:],
            edge_color=ROI_COLOR,
            face_color="transparent",
            metadata={TAG: {"kind": "roi"}},
        )
    layer.current_edge_width = LINE_PX / viewer.scene.camera.zoom
    layer.visible = True
    viewer.layers.selection.active = layer
    layer.mode = "add_rectangle"
    return layer


def keep_last(layer: Shapes) -> None:
    """Remove all shapes but the last, so that what is outlined is what is generated."""
    if len(layer.data) > 1:
        layer.selected_data = set(range(len(layer.data) - 1))
        layer.remove_selected()


def keep_line_thin(layer: Shapes, zoom: float) -> None:
    """Give the outline the same width on the screen at every zoom."""
    widths = [LINE_PX / zoom] * len(layer.data)
    if widths != list(layer.edge_width):
        layer.edge_width = widths
        layer.refresh()  # napari keeps the new width but does not draw it

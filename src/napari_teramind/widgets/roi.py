"""Where to generate: the current view, or a rectangle that the user draws; no Qt here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.plugin.layers import AXES, TAG, UNITS, tag_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer, Shapes

    from napari_teramind.brain import BrainStore

Roi = tuple[int, int, int, int]
ToGrid = Callable[[np.ndarray], np.ndarray]

LINE_PX = 2

SHAPES = {
    "Rectangle": "add_rectangle",
    "Ellipse": "add_ellipse",
    "Polygon": "add_polygon",
    "Freehand": "add_polygon_lasso",
}
"""Shapes to draw, and napari's modes for them."""
_ELLIPSE_CORNERS = 48


@dataclass(frozen=True)
class Drawing:
    """A layer that the user draws one shape on.

    Attributes
    ----------
    kind
        How we find it again.
    name, color
        Of the layer.
    """

    kind: str
    name: str
    color: str


ROI = Drawing("roi", "ROI", "#F0E442")
EDIT = Drawing("edit", "Edit region", "#56B4E9")


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


def outline(layer: Shapes, grid: ToGrid) -> tuple[tuple[float, float], ...]:
    """Return the corners (y, x) of the last shape, in pixels of the brain counted from its edge.

    Nothing is returned for an upright rectangle: the region says it all.
    """
    if not layer.data:
        return ()
    vertices, shape = np.asarray(layer.data[-1])[:, -2:], str(layer.shape_type[-1])
    if shape == "ellipse":
        center = vertices.mean(axis=0)
        a, b = (vertices[1] - vertices[0]) / 2, (vertices[3] - vertices[0]) / 2
        angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
        vertices = center + np.cos(angles)[:, None] * a + np.sin(angles)[:, None] * b
    elif shape == "rectangle" and all(
        np.isclose(edge, 0, atol=1e-6).any() for edge in np.diff(vertices, axis=0)
    ):
        return ()
    pixels = [grid(np.array([0, *layer.data_to_world(v)[-2:]]))[1:] + 0.5 for v in vertices]
    return tuple((float(y), float(x)) for y, x in pixels)


def drawn_layer(viewer: Viewer, drawing: Drawing = ROI) -> Shapes | None:
    """Return the layer on which the user draws, if it is there."""
    for layer in viewer.layers:
        if tag_of(layer).get("kind") == drawing.kind:
            return layer
    return None


def draw_shape(viewer: Viewer, drawing: Drawing = ROI, shape: str = "Rectangle") -> Shapes:
    """Let the user draw a shape, one of `SHAPES`, on a layer of ours that lies on top."""
    layer = drawn_layer(viewer, drawing)
    if layer is None:
        layer = viewer.add_shapes(
            name=drawing.name,
            ndim=2,  # so that it is seen on every slice
            axis_labels=AXES[-2:],
            units=UNITS[-2:],
            edge_color=drawing.color,
            face_color="transparent",
            metadata={TAG: {"kind": drawing.kind}},
        )
    layer.current_edge_width = LINE_PX / viewer.scene.camera.zoom
    layer.visible = True
    viewer.layers.selection.active = layer
    layer.mode = SHAPES[shape]
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

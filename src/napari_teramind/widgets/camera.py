"""Going to places: the camera and the slice in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari import Viewer

SHARE_2D, SHARE_3D = 0.5, 0.45
"""How much of the canvas a place fills: less in 3D, so that it is seen where it lies."""


def show_all(viewer: Viewer, angles: tuple[float, float, float], share: float) -> None:
    """Let the canvas show all visible layers in 3D, from somewhere; the view fits at any angle."""
    # A flat layer, as the one that a region is drawn on, lies on every slice: it has no place in z.
    extents = [
        layer.extent.world[:, -3:]
        for layer in tuple(viewer.layers)
        if layer.visible and layer.ndim >= 3
    ]
    if not extents:
        return
    low, high = np.min([e[0] for e in extents], axis=0), np.max([e[1] for e in extents], axis=0)
    viewer.scene.camera.angles = angles
    go_to(viewer, tuple(low), tuple(high), share)


def go_to(
    viewer: Viewer,
    low: tuple[float, ...],
    high: tuple[float, ...],
    share: float | None = None,
) -> None:
    """Let the canvas show a box of the world.

    Parameters
    ----------
    viewer
        The viewer; what is not displayed goes to the middle of the box.
    low, high
        Corners (z, y, x), micrometers.
    share
        How much of the canvas the box fills; None: as one goes to a structure.
    """
    lead = viewer.dims.ndim - 3
    centre = (np.asarray(low) + np.asarray(high)) / 2
    for axis in viewer.dims.not_displayed:
        if axis >= lead:
            viewer.dims.set_point(axis, float(centre[axis - lead]))
    shown = [axis - lead for axis in viewer.dims.displayed]
    sides = np.abs(np.asarray(high) - np.asarray(low))[shown]
    canvas = np.asarray(viewer.canvas.size, float)
    if len(shown) == 2:
        zoom = (share or SHARE_2D) * float((canvas / np.maximum(sides, 1e-6)).min())
        viewer.scene.camera.center = (0.0, *centre[shown])
    else:
        zoom = (share or SHARE_3D) * float(canvas.min() / max(np.linalg.norm(sides), 1e-6))
        viewer.scene.camera.center = tuple(centre[shown])
    viewer.scene.camera.zoom = zoom

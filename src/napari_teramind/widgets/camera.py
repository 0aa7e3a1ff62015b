"""Going to places: the camera and the slice in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari import Viewer

SHARE_2D, SHARE_3D = 0.5, 0.45
"""How much of the canvas a place fills: less in 3D, so that it is seen where it lies."""


def go_to(viewer: Viewer, low: tuple[float, ...], high: tuple[float, ...]) -> None:
    """Let the canvas show a box of the world.

    Parameters
    ----------
    viewer
        The viewer; what is not displayed goes to the middle of the box.
    low, high
        Corners (z, y, x), micrometers.
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
        zoom = SHARE_2D * float((canvas / np.maximum(sides, 1e-6)).min())
        viewer.scene.camera.center = (0.0, *centre[shown])
    else:
        zoom = SHARE_3D * float(canvas.min() / max(np.linalg.norm(sides), 1e-6))
        viewer.scene.camera.center = tuple(centre[shown])
    viewer.scene.camera.zoom = zoom

"""The region that a viewer's panels are about: a rectangle in the plane, a range of slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_teramind.plugin.layers import tag_of
from napari_teramind.widgets import roi as rois

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_teramind.brain import BrainStore
    from napari_teramind.widgets.session import Session

OUTSIDE = "Nothing of the brain lies in what you drew: move it, or draw again."
SETTLE_MS = 80
"""How long the view must rest before the numbers follow it."""


class Region(QObject):
    """What is to be generated, for all panels of one viewer."""

    changed = Signal()
    drawing = Signal()
    """The user draws the region, or has it drawn around a structure."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._from_view = True
        self._shapes: Shapes | None = None
        self._slices: tuple[int, int] | None = None  # None: the slice in view
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.changed)
        viewer = session.viewer
        if viewer is None:
            return
        for emitter in (
            viewer.scene.camera.events.center,
            viewer.scene.camera.events.zoom,
            viewer.canvas.events.size,
            viewer.dims.events.ndisplay,
            viewer.dims.events.order,
        ):
            emitter.connect(self._on_view)
        viewer.dims.events.point.connect(self._on_slice)
        viewer.layers.events.removed.connect(self._on_removed)

    # In the plane

    @property
    def from_view(self) -> bool:
        """Whether the region is the current view; else it is the rectangle that was drawn."""
        return self._from_view

    @from_view.setter
    def from_view(self, value: bool) -> None:
        if value != self._from_view:
            self._from_view = value
            self.changed.emit()

    @property
    def is_drawn(self) -> bool:
        """Whether the region is a shape, and there is one, wherever it lies."""
        return not self._from_view and self._shapes is not None and len(self._shapes.data) > 0

    def roi(self) -> rois.Roi | None:
        """Return the rectangle in pixels (y0, y1, x0, x1), or None if there is none yet."""
        viewer, brain = self._session.viewer, self._session.brain
        if viewer is None or brain is None:
            return None
        grid, plane = self.to_grid(brain), brain.shape[1:]
        if self._from_view:
            return rois.view_roi(viewer, grid, plane)
        return None if self._shapes is None else rois.rectangle_roi(self._shapes, grid, plane)

    def to_grid(self, brain: BrainStore) -> rois.ToGrid:
        """Return the way from world positions to slices and pixels of a brain."""
        stains = self._session.layers("stain")
        return rois.to_grid(stains[0] if stains else None, brain)

    def outline_px(self) -> tuple[tuple[float, float], ...]:
        """Return the corners of the shape that was drawn, if the rectangle does not say it all."""
        brain = self._session.brain
        if brain is None or self._from_view or self._shapes is None:
            return ()
        return rois.outline(self._shapes, self.to_grid(brain))

    def draw(self, shape: str = "Rectangle") -> None:
        """Let the user draw the region, as one of `roi.SHAPES`."""
        viewer = self._session.viewer
        if viewer is None:
            return
        layer = rois.draw_shape(viewer, shape=shape)
        if layer is not self._shapes:
            self._shapes = layer
            layer.events.data.connect(self._on_shapes)
        self._from_view = False
        self.drawing.emit()
        self.changed.emit()

    def outline(self, box: tuple[float, float, float, float]) -> None:
        """Take a rectangle as if the user had drawn it, on the slice in view.

        Parameters
        ----------
        box
            Outer edges (y0, y1, x0, x1), micrometers in the brain's own world.
        """
        brain = self._session.brain
        if brain is None:
            return
        self.draw()
        if self._shapes is None:
            return
        corners = np.array([[box[i], box[j]] for i, j in ((0, 2), (0, 3), (1, 3), (1, 2))])
        self._shapes.add(self._to_world(corners, brain), shape_type="rectangle")
        self.follow_slice()

    def _to_world(self, corners: np.ndarray, brain: BrainStore) -> np.ndarray:
        """Follow a stain that the user has moved."""
        stains = self._session.layers("stain")
        if not stains:
            return corners
        scale, origin = brain.stains.scale(0)[-2:], brain.stains.translation(0)[-2:]
        pixels = (corners - origin) / scale
        return np.array([stains[0].data_to_world((0, *pixel))[-2:] for pixel in pixels])

    # Slices

    @property
    def slices(self) -> tuple[int, int]:
        """The slices (z0, z1), half open, within the session's brain."""
        brain = self._session.brain
        depth = 1 if brain is None else brain.shape[0]
        z0, z1 = self._slices or (self.slice_in_view(), self.slice_in_view() + 1)
        z0 = min(z0, depth - 1)
        return z0, max(z0 + 1, min(z1, depth))

    @slices.setter
    def slices(self, value: tuple[int, int]) -> None:
        if value != self._slices:
            self._slices = value
            self.changed.emit()

    def follow_slice(self) -> None:
        """Take the slice that is on the canvas, whichever that is."""
        self._slices = None
        self.changed.emit()

    def slice_in_view(self) -> int:
        """Return the slice that is on the canvas."""
        viewer, brain = self._session.viewer, self._session.brain
        if viewer is None or brain is None:
            return 0
        z = round(float(self.to_grid(brain)(np.asarray(viewer.dims.point))[0]))
        return min(max(z, 0), brain.shape[0] - 1)

    # What follows

    def _on_view(self, event: Any = None) -> None:
        viewer = self._session.viewer
        if self._shapes is not None and viewer is not None and self._shapes.data:
            rois.keep_line_thin(self._shapes, viewer.scene.camera.zoom)
        if self._from_view:
            self._settle.start()

    def _on_slice(self, event: Any = None) -> None:
        if self._slices is None:
            self._settle.start()

    def _on_shapes(self, event: Any) -> None:
        if event.action == "added":
            # Not now: napari is still busy with the shape that it has just added.
            QTimer.singleShot(0, self._finish_drawing)
        self._settle.start()

    def _finish_drawing(self) -> None:
        if self._shapes is not None and self._shapes.data:
            rois.keep_last(self._shapes)
            self._shapes.mode = "select"
            self._shapes.selected_data = {0}

    def _on_removed(self, event: Any) -> None:
        if tag_of(event.value).get("kind") == "roi":
            self._shapes = None
            self.changed.emit()

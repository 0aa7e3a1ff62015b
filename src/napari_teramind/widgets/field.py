"""The field in view in 3D, at full resolution where memory allows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from napari.layers import Image, Layer
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_teramind.plugin.cuts import Cut, finest_cuts
from napari_teramind.plugin.layers import AXES, TAG, UNITS, tag_of
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.camera import go_to
from napari_teramind.widgets.parts import micrometers, sentence
from napari_teramind.widgets.preferences import preferences
from napari_teramind.widgets.roi import Roi, view_roi

if TYPE_CHECKING:
    from napari import Viewer

    from napari_teramind.brain import BrainStore
    from napari_teramind.widgets.session import Session

MOST_SIDE = 2048
"""Pixels of a field a side; every graphics card takes as many in a volume."""
KINDS = ("stain", "simulation", "gene", "attention")
ANGLES = (0.0, -25.0, 40.0)
SHOW, BACK = "3D of this view", "Back to 2D"


@dataclass
class Before:
    """What the viewer showed before, to be shown again.

    Attributes
    ----------
    hidden
        Layers that were hidden.
    center, zoom
        Of the camera.
    point
        Where in the stack.
    """

    center: tuple[float, ...]
    zoom: float
    point: tuple[float, ...]
    hidden: WeakSet[Layer] = field(default_factory=WeakSet)


class Field3D(QWidget):
    """Shows what the canvas shows in 2D as a volume, as deep as it is wide.

    napari shows the coarsest level of detail in 3D. The finest one of a whole brain fits nowhere,
    but that of the field in view does.

    Parameters
    ----------
    session
        Whose viewer and brain.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._before: Before | None = None
        self._own: WeakSet[Layer] = WeakSet()
        self.button = QPushButton(SHOW)
        self.button.setToolTip(
            "The visible layers as a volume, at full resolution as far as memory allows (see "
            "napari's preferences); what was generated is seen where the real stains are hidden"
        )
        self.words = sentence()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.words)
        self.button.clicked.connect(self._on_clicked)
        viewer = session.viewer
        if viewer is not None:
            viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        self._say("")

    def _on_clicked(self) -> None:
        if self._before is None:
            self._show()
        else:
            self._back()

    def _say(self, words: str) -> None:
        self.words.setText(words)
        self.words.setVisible(bool(words))

    def _show(self) -> None:
        viewer, brain = self._session.viewer, self._session.brain
        if viewer is None or brain is None:
            return
        box = view_roi(viewer, self._session.region.to_grid(brain), brain.shape[1:])
        if box is None:
            self._say("Turn to 2D first, and to what is to be seen in 3D.")
            return
        layers = [layer for kind in KINDS for layer in self._session.layers(kind) if layer.visible]
        if any(tag_of(layer).get("kind") == "stain" for layer in layers):
            # Light of both would be added up.
            layers = [layer for layer in layers if tag_of(layer).get("kind") != "simulation"]
        if not layers:
            self._say("None of this brain's images is visible: show a stain or a gene first.")
            return
        low, high = self._box(brain, box)
        most_bytes = preferences().memory.volume_megabytes * 2**20
        cuts, coarser = finest_cuts(layers, low, high, most_bytes, MOST_SIDE)
        if not cuts:
            self._say("The view is too large to be shown in 3D at any detail: come nearer.")
            return
        self.button.setEnabled(False)
        self._say("Reading ...")

        def shown(found: list[np.ndarray] | str) -> None:
            self.button.setEnabled(True)
            viewer = self._session.viewer
            if isinstance(found, str):
                self._say(found)
            elif viewer is not None:
                self._enter(viewer, cuts, found)
                self._say(_told(brain, cuts, coarser))
                go_to(viewer, low, high)

        Beside(self, _read, cuts, then=shown)

    def _box(self, brain: BrainStore, box: Roi) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the corners in the world of a box of pixels, made as deep as it is wide."""
        stain = self._session.layers("stain")[0]
        spacing = brain.stains.scale(0)[-3]
        y0, y1, x0, x1 = box
        wide = max(y1 - y0, x1 - x0) * brain.pixel_size
        slices, middle = brain.shape[0], self._session.region.slice_in_view()
        depth = min(slices, max(2, round(wide / spacing)))
        first = min(max(0, middle - depth // 2), slices - depth)
        corners = [
            stain.data_to_world((z - 0.5, y - 0.5, x - 0.5))
            for z, y, x in ((first, y0, x0), (first + depth, y1, x1))
        ]
        return tuple(np.min(corners, axis=0)), tuple(np.max(corners, axis=0))

    def _enter(self, viewer: Viewer, cuts: list[Cut], found: list[np.ndarray]) -> None:
        camera = viewer.scene.camera
        before = Before(tuple(camera.center), camera.zoom, tuple(viewer.dims.point))
        for layer in tuple(viewer.layers):
            if layer.visible and tag_of(layer):
                layer.visible = False
                before.hidden.add(layer)
        for part, values in zip(cuts, found, strict=True):
            layer = Image(
                values,
                name=f"{part.layer.name} (3D)",
                affine=part.affine,
                units=UNITS,
                axis_labels=AXES,
                blending="additive",
                metadata={TAG: {"kind": "field"}},
                **part.look,
            )
            viewer.layers.append(layer)
            self._own.add(layer)
        viewer.dims.ndisplay = 3
        camera.angles = ANGLES
        self._before = before
        self.button.setText(BACK)

    def _on_ndisplay(self, event: Any) -> None:
        if event.value == 2 and self._before is not None:
            self._back()

    def _back(self) -> None:
        """Show what was shown before; layers that have gone meanwhile are not missed."""
        before, self._before = self._before, None
        viewer = self._session.viewer
        self.button.setText(SHOW)
        self._say("")
        if viewer is None or before is None:
            return
        for layer in [layer for layer in viewer.layers if layer in self._own]:
            viewer.layers.remove(layer)
        for layer in [layer for layer in viewer.layers if layer in before.hidden]:
            layer.visible = True
        viewer.dims.ndisplay = 2
        viewer.scene.camera.center, viewer.scene.camera.zoom = before.center, before.zoom
        viewer.dims.set_point(range(len(before.point)), before.point)


def _told(brain: BrainStore, cuts: list[Cut], coarser: int) -> str:
    megabytes = sum(part.bytes for part in cuts) / 2**20
    depth = max(part.view.shape[0] for part in cuts)
    told = f"{depth} slice{'s' if depth > 1 else ''}, {megabytes:.3g} MB"
    pixel = f"{micrometers(coarser, brain.pixel_size)} a pixel"
    if coarser == 1:
        return f"Full resolution: {pixel}, {told}."
    return f"{pixel}, {coarser} times coarser than stored, {told}; come nearer for more."


def _read(cuts: list[Cut]) -> list[np.ndarray]:
    return [part.read() for part in cuts]

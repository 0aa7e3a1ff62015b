"""A generated image beside the real one, or under a curtain that is drawn over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from napari.layers import Image, Layer
from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import QComboBox, QLabel, QSlider, QVBoxLayout, QWidget

from napari_teramind.plugin.cuts import Cut, finest_cuts
from napari_teramind.plugin.layers import AXES, TAG, UNITS, tag_of
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.camera import go_to
from napari_teramind.widgets.opening import above_genes, select_again
from napari_teramind.widgets.parts import form, sentence
from napari_teramind.widgets.region import SETTLE_MS
from napari_teramind.widgets.roi import view_roi

if TYPE_CHECKING:
    from napari import Viewer

    from napari_teramind.widgets.session import Session

OFF, BESIDE, SWIPE = "off", "beside", "swipe"
REAL = "real"
MOST_BYTES, MOST_SIDE = 2**26, 2048
"""Of what is shown for comparison: more could not be told apart on a screen."""
GAP = 0.03
"""Between two images side by side, of their width."""
LINE_PX = 2
STEPS = 1000


class Compare(QWidget):
    """Lays a copy of the real stains, or of another result, over or beside a generated image.

    The copies are layers of their own, which go when the comparison ends. Differences between
    edited and unedited images are hidden meanwhile; no other layer is touched.

    Parameters
    ----------
    session
        Whose layers.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._cuts: list[Cut] = []
        self._values: list[np.ndarray] = []
        self._copies: WeakSet[Layer] = WeakSet()
        self._differences: WeakSet[Layer] = WeakSet()
        self._asked: object = None
        self._follows_view = False
        self.mode = QComboBox()
        for title, name in (("Off", OFF), ("Side by side", BESIDE), ("Swipe", SWIPE)):
            self.mode.addItem(title, name)
        self.mode.setToolTip("Compare what was generated with what is real")
        self.other = QComboBox()
        self.other.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.other.setToolTip("With what the topmost generated image that is shown is compared")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setValue(STEPS // 2)
        self.slider.setToolTip("How far the curtain is drawn")
        self.words = sentence(plain=True)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._read)
        self._lay_out()
        self.mode.currentIndexChanged.connect(self._on_mode)
        self.other.activated.connect(self._read)
        self.slider.valueChanged.connect(self._draw_curtain)
        session.brains_changed.connect(self.refresh)
        viewer = session.viewer
        if viewer is not None:
            viewer.dims.events.point.connect(self._on_slice)
            viewer.dims.events.ndisplay.connect(self._on_slice)
            viewer.scene.camera.events.center.connect(self._on_view)
            viewer.scene.camera.events.zoom.connect(self._on_view)
        self.refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        rows = form()
        rows.addWidget(QLabel("Compare"), 0, 0)
        rows.addWidget(self.mode, 0, 1)
        self._with = QLabel("With")
        rows.addWidget(self._with, 1, 0)
        rows.addWidget(self.other, 1, 1)
        rows.addWidget(self.slider, 2, 1)
        layout.addLayout(rows)
        layout.addWidget(self.words)

    @property
    def chosen(self) -> str:
        """`OFF`, `BESIDE` or `SWIPE`."""
        return str(self.mode.currentData())

    # What is compared

    def _results(self) -> dict[str, list[Image]]:
        """Return the layers of the session's results by the results' names, topmost first."""
        found: dict[str, list[Image]] = {}
        for layer in reversed(self._session.layers("simulation")):
            found.setdefault(str(tag_of(layer).get("simulation")), []).insert(0, layer)
        return found

    def _shown(self) -> str | None:
        """Return the topmost result of which a layer is visible."""
        for name, layers in self._results().items():
            if any(layer.visible for layer in layers):
                return name
        return None

    def refresh(self) -> None:
        """Offer what there is to compare with."""
        chosen, results = self.other.currentData(), self._results()
        names = [REAL, *(name for name in results if name != self._shown())]
        with QSignalBlocker(self.other):
            self.other.clear()
            for name in names:
                self.other.addItem("Real stains" if name == REAL else name, name)
            self.other.setCurrentIndex(max(0, self.other.findData(chosen)))
        on = self.chosen != OFF
        for part in (self._with, self.other):
            part.setVisible(on)
        self.slider.setVisible(self.chosen == SWIPE)
        if on and self._shown() is None and self._copies:
            self.mode.setCurrentIndex(0)

    def _say(self, words: str) -> None:
        self.words.setText(words)
        self.words.setVisible(bool(words))

    # What follows

    def _on_mode(self, _: int) -> None:
        self._say("")
        self._clear()
        self.refresh()
        self._show_differences(self.chosen == OFF)
        if self.chosen != OFF:
            self._read()

    def _show_differences(self, shown: bool) -> None:
        """Hide differences that are shown, as they would lie over both images; or show them again.

        What the user shows or hides meanwhile stays so.
        """
        if not shown:
            for layer in self._session.layers("difference"):
                if layer.visible:
                    self._differences.add(layer)
                    layer.visible = False
            return
        for layer in self._session.layers("difference"):
            if layer in self._differences:
                layer.visible = True
        self._differences.clear()

    def _on_slice(self, event: Any = None) -> None:
        if self.chosen != OFF:
            self._settle.start()

    def _on_view(self, event: Any = None) -> None:
        """Follow the view where it says what is compared."""
        if self.chosen != OFF and self._follows_view:
            self._settle.start()

    def _box(self, viewer: Viewer, layers: list[Image]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the part of a result to compare, on the slice in view; None if there is none.

        All of it, or what the canvas shows where that is more than can be shown.
        """
        extents = np.array([layer.extent.world for layer in layers])
        scale = np.abs(np.asarray(layers[0].data_to_world((1, 1, 1))) -
                       np.asarray(layers[0].data_to_world((0, 0, 0))))  # fmt: skip
        low, high = extents[:, 0].min(axis=0), extents[:, 1].max(axis=0)
        z = float(viewer.dims.point[-3])
        if viewer.dims.ndisplay != 2 or not low[0] - 1e-6 <= z <= high[0] + 1e-6:
            return None
        low[0] = high[0] = z
        brain = self._session.brain
        self._follows_view = bool(((high - low) / scale)[1:].max() > MOST_SIDE)
        if brain is not None and self._follows_view:
            view = view_roi(viewer, self._session.region.to_grid(brain), brain.shape[1:])
            if view is None:
                return None
            stain = self._session.layers("stain")[0]
            ends = [stain.data_to_world((0, view[i] - 0.5, view[i + 2] - 0.5)) for i in (0, 1)]
            low[1:] = np.maximum(low[1:], ends[0][1:])
            high[1:] = np.minimum(high[1:], ends[1][1:])
        return (low, high) if (high > low)[1:].all() else None

    def _read(self, *_: Any) -> None:
        viewer, shown = self._session.viewer, self._shown()
        if viewer is None or self.chosen == OFF:
            return
        if shown is None:
            self._clear()
            self._say("Nothing generated is shown: generate, or tick a result above.")
            return
        results = self._results()
        name = str(self.other.currentData())
        others = self._session.layers("stain") if name == REAL else results.get(name, [])
        box = self._box(viewer, results[shown])
        cuts: list[Cut] = []
        if box is not None:
            cuts, _coarser = finest_cuts(
                others, box[0].tolist(), box[1].tolist(), MOST_BYTES, MOST_SIDE
            )
        if not cuts:
            self._clear()
            self._say("There is nothing to compare on this slice, in this view.")
            return
        asked = self._asked = object()

        def then(found: list[np.ndarray] | str) -> None:
            if asked is self._asked and self.chosen != OFF:
                if isinstance(found, str):
                    self._clear()
                    self._say(found)
                else:
                    self._take(cuts, found)

        Beside(self, _read_flat, cuts, then=then)

    def _take(self, cuts: list[Cut], values: list[np.ndarray]) -> None:
        viewer = self._session.viewer
        if viewer is None:
            return
        begins = not self._copies
        self._clear()
        self._cuts, self._values = cuts, values
        selected = set(viewer.layers.selection)
        above = above_genes(self._session, viewer)  # and under the structures
        what = "real" if self.other.currentData() == REAL else "compared"
        for i, (part, pixels) in enumerate(zip(cuts, values, strict=True)):
            copy = Image(
                pixels,
                name=f"{tag_of(part.layer).get('stain', part.layer.name)} ({what})",
                affine=self._placed(part, pixels),
                units=UNITS[1:],
                axis_labels=AXES[1:],
                blending="additive" if i else "translucent_no_depth",
                metadata={TAG: {"kind": "compared"}},
                **part.look,
            )
            self._copies.add(copy)
            viewer.layers.insert(above + i, copy)
        select_again(viewer, selected)
        self._say("")
        if self.chosen == SWIPE:
            self._draw_curtain()
            self._say(f"Left of the line: {self.other.currentText()}.")
        elif begins:
            low, high = self._extent(viewer)
            go_to(viewer, low, high, share=0.95)

    def _placed(self, part: Cut, pixels: np.ndarray) -> np.ndarray:
        """Return the matrix (3, 3) of a copy's pixels: where its original is, or right of it."""
        matrix = part.affine[np.ix_((1, 2, 3), (1, 2, 3))].copy()
        if self.chosen == BESIDE:
            matrix[:2, 2] += matrix[:2, 1] * pixels.shape[1] * (1 + GAP)
        return matrix

    def _extent(self, viewer: Viewer) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the corners of both images side by side."""
        part, pixels = self._cuts[0], self._values[0]
        matrix, z = part.affine, float(viewer.dims.point[-3])
        height, width = pixels.shape
        ends = [matrix[1:3] @ (0, y - 0.5, x - 0.5, 1)
                for y, x in ((0, 0), (height, (2 + GAP) * width))]  # fmt: skip
        return (z, *np.min(ends, axis=0)), (z, *np.max(ends, axis=0))

    def _draw_curtain(self, *_: Any) -> None:
        """Show the copies as far as the slider says, with a line at their edge."""
        viewer = self._session.viewer
        if viewer is None or self.chosen != SWIPE:
            return
        share = self.slider.value() / STEPS
        copies = [layer for layer in viewer.layers if layer in self._copies]
        for layer, part, pixels in zip(copies, self._cuts, self._values, strict=False):
            width = round(share * pixels.shape[1])
            layer.visible = width > 0
            if width == 0:
                continue
            size = float(np.linalg.norm(part.affine[1:3, 2]))
            line = max(1, round(LINE_PX / (viewer.scene.camera.zoom * size)))
            shown = pixels[:, :width].copy()
            if width < pixels.shape[1]:
                shown[:, -line:] = np.asarray(layer.contrast_limits[1]).astype(shown.dtype)
            layer.data = shown

    def _clear(self) -> None:
        """Take the copies away."""
        self._asked = None
        viewer = self._session.viewer
        if viewer is not None:
            for layer in [layer for layer in viewer.layers if layer in self._copies]:
                viewer.layers.remove(layer)
        self._copies.clear()
        self._cuts, self._values = [], []


def _read_flat(cuts: list[Cut]) -> list[np.ndarray]:
    return [part.read()[0] for part in cuts]

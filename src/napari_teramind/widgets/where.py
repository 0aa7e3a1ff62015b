"""The part of a panel that asks where: current view or rectangle, and which slices."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QSpinBox,
    QWidget,
)

from napari_teramind.widgets.parts import form, micrometers, sentence
from napari_teramind.widgets.roi import SHAPES
from napari_teramind.widgets.session import Session

SLICE_WIDTH = 50
"""Of the digits; the buttons beside them come on top."""


class Where(QWidget):
    """Shows the session's region and lets the user change it.

    Parameters
    ----------
    session
        Whose region.
    doing
        What is done there, for the tooltips.
    shapes
        Let the user draw other shapes than rectangles.
    """

    def __init__(self, session: Session, doing: str = "Generate", shapes: bool = False) -> None:
        super().__init__()
        self._session = session
        self._region = session.region
        self.view_button = QRadioButton("Current view")
        self.view_button.setToolTip(f"{doing} what you see, as far as there is brain")
        self.rectangle_button = QRadioButton("" if shapes else "Rectangle")
        self.rectangle_button.setToolTip(f"{doing} what you draw")
        self.shape = QComboBox()
        self.shape.addItems(list(SHAPES))
        self.shape.setToolTip("What to draw; of other shapes than rectangles, what they touch")
        if not shapes:
            self.shape.hide()
        self.draw_button = QPushButton("Draw")
        self.draw_button.setToolTip("Draw on the brain: press, drag, release")
        self.size_label = sentence()
        self.first, self.last = QSpinBox(), QSpinBox()
        self.first.setToolTip(f"First slice to {doing.lower()}")
        self.last.setToolTip(f"Last slice to {doing.lower()}")
        self.here_button = QPushButton("Here")
        self.here_button.setToolTip(f"{doing} the slice that you see")
        self.slices_label = sentence()
        self._lay_out()
        self.view_button.clicked.connect(self._use_view)
        self.rectangle_button.clicked.connect(self._use_rectangle)
        self.draw_button.clicked.connect(self._draw)
        self.here_button.clicked.connect(self._region.follow_slice)
        self.first.valueChanged.connect(self._on_first)
        self.last.valueChanged.connect(self._on_last)
        self._region.changed.connect(self.refresh)
        self.refresh()

    def _lay_out(self) -> None:
        group = QButtonGroup(self)
        group.addButton(self.view_button)
        group.addButton(self.rectangle_button)
        slices = QHBoxLayout()
        slices.addWidget(self.first, 1)
        slices.addWidget(QLabel("to"))
        slices.addWidget(self.last, 1)
        for box in (self.first, self.last):
            # napari's style asks for more than the few digits of a slice need, and overrules a
            # minimum that is set in any other way.
            box.setStyleSheet(f"QSpinBox {{ min-width: {SLICE_WIDTH}px; }}")
        layout = form()
        self.setLayout(layout)
        title = QLabel("ROI")
        drawn = QWidget()
        row = QHBoxLayout(drawn)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.rectangle_button)
        row.addWidget(self.shape, 1)
        layout.addWidget(title, 0, 0)
        layout.addWidget(self.view_button, 0, 1, 1, 2)
        layout.addWidget(drawn, 1, 1)
        layout.addWidget(self.draw_button, 1, 2)
        self._plane = (title, self.view_button, drawn, self.draw_button, self.size_label)
        layout.addWidget(self.size_label, 2, 1, 1, 2)
        layout.addWidget(QLabel("Slices"), 3, 0)
        layout.addLayout(slices, 3, 1, 1, 2)
        layout.addWidget(self.slices_label, 4, 1)
        layout.addWidget(self.here_button, 4, 2)

    def _draw(self) -> None:
        self._region.draw(self.shape.currentText())

    def show_plane(self, shown: bool) -> None:
        """Ask for a region of the plane, or for the slices only."""
        for part in self._plane:
            part.setVisible(shown)

    def _use_view(self) -> None:
        self._region.from_view = True

    def _use_rectangle(self) -> None:
        self._region.from_view = False

    def _on_first(self, value: int) -> None:
        self._region.slices = (value, max(value, self.last.value()) + 1)

    def _on_last(self, value: int) -> None:
        self._region.slices = (min(value, self.first.value()), value + 1)

    def refresh(self, *_: Any) -> None:
        """Show the region as it is now."""
        brain = self._session.brain
        if brain is None:
            return
        self.view_button.setChecked(self._region.from_view)
        self.rectangle_button.setChecked(not self._region.from_view)
        roi = self._region.roi()
        self.size_label.setText(self._size_words(roi, brain.pixel_size))
        self.size_label.setToolTip(
            "" if roi is None else "y {} to {}, x {} to {} px, half open".format(*roi)
        )
        self._refresh_slices(brain.shape[0], brain.slice_positions)

    def _size_words(self, roi: tuple[int, int, int, int] | None, pixel_size: float) -> str:
        if roi is not None:
            y0, y1, x0, x1 = roi
            return f"{micrometers(y1 - y0, pixel_size)} x {micrometers(x1 - x0, pixel_size)}"
        if self._region.is_drawn:
            return "Outside the brain"
        if not self._region.from_view:
            return "Press Draw and drag over the brain"
        viewer = self._session.viewer
        if viewer is not None and viewer.dims.ndisplay == 3:
            return "Turn to 2D to use the current view"
        return "The view shows nothing of this brain"

    def _refresh_slices(self, depth: int, positions: Any) -> None:
        z0, z1 = self._region.slices
        for box, value in ((self.first, z0), (self.last, z1 - 1)):
            with QSignalBlocker(box):
                box.setMaximum(depth - 1)
                box.setValue(value)
        start, end = float(positions[z0]), float(positions[z1 - 1])
        place = f"at {start:.4g} µm" if z1 - z0 == 1 else f"from {start:.4g} to {end:.4g} µm"
        self.slices_label.setText(f"{place}; the brain has slices 0 to {depth - 1}")

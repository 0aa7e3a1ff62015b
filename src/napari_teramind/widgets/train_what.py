"""The part of the Train panel that asks what: the brains to learn from, and what to hold out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_teramind.plugin.reader import is_brain
from napari_teramind.widgets.parts import form, micrometers, sentence
from napari_teramind.widgets.session import Session

NOTHING, RECTANGLE = "nothing", "rectangle"
ROWS = 3


class TrainWhat(QWidget):
    """Lists brains to tick, and what of them is held out for validation."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._added: list[str] = []
        self._unticked: set[str] = set()
        self.brains = QListWidget()
        self.brains.setToolTip("Ticked brains are learned from, on the genes that they share")
        self.brains.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.add_button = QPushButton("Add ...")
        self.add_button.setToolTip("Add a brain that is not open: a folder that ends in .zarr")
        self.hold_out = QComboBox()
        self.hold_out.setToolTip("Tissue that is never learned from, to measure the network on")
        self.draw_button = QPushButton("Draw")
        self.draw_button.setToolTip("Draw a rectangle on the brain: press, drag, release")
        self.hint = sentence()
        self._lay_out()
        self.brains.itemChanged.connect(self._on_ticked)
        self.add_button.clicked.connect(self._add)
        self.hold_out.activated.connect(self._refresh_brains)
        self.draw_button.clicked.connect(self._draw)
        session.brains_changed.connect(self.refresh)
        session.region.changed.connect(self._refresh_hint)
        self.refresh()

    def _lay_out(self) -> None:
        layout = form()
        self.setLayout(layout)
        row = self.brains.fontMetrics().height() + 10
        self.brains.setFixedHeight(ROWS * row)
        self.brains.setMinimumWidth(80)
        self.brains.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.hold_out.setMinimumWidth(80)
        # A row of its own: the field takes the room of the button while that is not needed.
        held_out = QHBoxLayout()
        held_out.addWidget(self.hold_out, 1)
        held_out.addWidget(self.draw_button)
        layout.addWidget(QLabel("Brains"), 0, 0, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self.brains, 0, 1)
        layout.addWidget(self.add_button, 0, 2, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(QLabel("Hold out"), 1, 0)
        layout.addLayout(held_out, 1, 1, 1, 2)
        layout.addWidget(self.hint, 2, 1, 1, 2)

    # What was chosen

    def paths(self) -> list[str]:
        """All brains that are listed."""
        return list(dict.fromkeys([*self._session.brains(), *self._added]))

    def held_out_brain(self) -> str | None:
        """Return the brain that is only measured on, if that was chosen."""
        chosen = self.hold_out.currentData()
        return None if chosen in (NOTHING, RECTANGLE, None) else chosen

    def learned_from(self) -> list[str]:
        """Return the ticked brains, without the one that is held out."""
        return [p for p in self.paths() if p not in self._unticked and p != self.held_out_brain()]

    def values(self) -> dict[str, Any]:
        """Fields of a `TrainSpec`."""
        held_out = self.held_out_brain()
        field = self._field() if self.hold_out.currentData() == RECTANGLE else None
        return {
            "brains": self.learned_from(),
            "validation": [] if held_out is None else [held_out],
            "exclude": field,
        }

    def problem(self) -> str:
        """Why nothing can be learned from these; "" if it can."""
        if not self.learned_from():
            return "Tick at least one brain to learn from that is not held out."
        if self.hold_out.currentData() == RECTANGLE and self._field() is None:
            return "Press Draw and drag a rectangle over the brain to hold it out."
        return ""

    def _field(self) -> tuple[int, int, int, int] | None:
        region = self._session.region
        return None if region.from_view else region.roi()

    # What the user does

    def _add(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Add a brain (a folder that ends in .zarr)")
        if path and not is_brain(path):
            show_error(f"{path} is not a brain store: choose a folder made by 'teramind import'.")
        elif path:
            self._added.append(str(Path(path)))
            self.refresh()

    def _draw(self) -> None:
        self.hold_out.setCurrentIndex(self.hold_out.findData(RECTANGLE))
        self._session.region.draw()
        self._refresh_brains()

    def _on_ticked(self, item: QListWidgetItem) -> None:
        path = item.data(Qt.ItemDataRole.UserRole)
        if item.checkState() == Qt.CheckState.Checked:
            self._unticked.discard(path)
        else:
            self._unticked.add(path)
        self._refresh_hint()

    # What follows

    def refresh(self) -> None:
        """Show the session's brains as they are now."""
        chosen = self.hold_out.currentData()
        self.hold_out.clear()
        self.hold_out.addItem("A rectangle", RECTANGLE)
        for path in self.paths():
            self.hold_out.addItem(Path(path).name, path)
            self.hold_out.setItemData(self.hold_out.count() - 1, path, Qt.ItemDataRole.ToolTipRole)
        self.hold_out.addItem("Nothing", NOTHING)
        self.hold_out.setCurrentIndex(max(0, self.hold_out.findData(chosen)))
        self._refresh_brains()

    def _refresh_brains(self, *_: Any) -> None:
        with QSignalBlocker(self.brains):
            self.brains.clear()
            for path in self.paths():
                self.brains.addItem(self._item(path))
        self._refresh_hint()

    def _item(self, path: str) -> QListWidgetItem:
        held_out = path == self.held_out_brain()
        item = QListWidgetItem(Path(path).name + (" (held out)" if held_out else ""))
        item.setData(Qt.ItemDataRole.UserRole, path)
        item.setToolTip(path)
        if held_out:
            item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEnabled)
        ticked = path not in self._unticked and not held_out
        item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
        return item

    def _refresh_hint(self, *_: Any) -> None:
        self.draw_button.setVisible(self.hold_out.currentData() == RECTANGLE)
        words = self.problem() or self._words()
        self.hint.setText(words)
        self.changed.emit()

    def _words(self) -> str:
        count = len(self.learned_from())
        from_ = f"Learns from {count} brain{'s' if count > 1 else ''}"
        chosen, brain = self.hold_out.currentData(), self._session.brain
        if chosen == NOTHING:
            return f"{from_}; how well it does on tissue that it never saw is not measured."
        if chosen != RECTANGLE:
            return f"{from_}; measured on {Path(chosen).name}."
        field = self._field()
        if field is None or brain is None:
            return from_
        y0, y1, x0, x1 = field
        side = [micrometers(n, brain.pixel_size) for n in (y1 - y0, x1 - x0)]
        return f"{from_}, without {side[0]} x {side[1]} in every slice, to measure it on."

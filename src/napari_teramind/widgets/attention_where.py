"""The part of the Attention panel that asks where: the whole brain, structures, or a ROI."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_teramind.errors import UserError
from napari_teramind.widgets.acronyms import AcronymField
from napari_teramind.widgets.parts import form, sentence
from napari_teramind.widgets.region import OUTSIDE
from napari_teramind.widgets.session import Session
from napari_teramind.widgets.where import Where

BRAIN, STRUCTURES, ROI = "brain", "structures", "roi"


class AttentionWhere(QWidget):
    """Where attention is computed."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.choice = QComboBox()
        self.choice.setToolTip("Everything, structures of the atlas, or what you see or draw")
        for name, value in (("Whole brain", BRAIN), ("Structures", STRUCTURES), ("ROI", ROI)):
            self.choice.addItem(name, value)
        self.acronyms = AcronymField(session, "Acronyms, as SNc, VTA")
        self.found = sentence()
        self.where = Where(session, "Compute")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = form()
        row.addWidget(QLabel("Where"), 0, 0)
        row.addWidget(self.choice, 0, 1)
        row.addWidget(self.acronyms, 1, 1)
        row.addWidget(self.found, 2, 1)
        layout.addLayout(row)
        layout.addWidget(self.where)
        self.choice.currentIndexChanged.connect(self.refresh)
        self.acronyms.textChanged.connect(self.refresh)
        session.region.changed.connect(self.changed)
        session.structures.changed.connect(self.refresh)
        self.refresh()

    @property
    def kind(self) -> str:
        """`BRAIN`, `STRUCTURES` or `ROI`."""
        return self.choice.currentData()

    def values(self) -> dict[str, Any]:
        """Fields of an `AttentionSpec`."""
        region = self._session.region
        return {
            "roi": region.roi() if self.kind == ROI else None,
            "slices": region.slices if self.kind == ROI else None,
            "structures": self.acronyms.typed() if self.kind == STRUCTURES else None,
        }

    def problem(self) -> str:
        """Why nothing can be computed there; "" if it can, or if that is not known yet."""
        region = self._session.region
        if self.kind == ROI and region.roi() is None:
            if region.is_drawn:
                return OUTSIDE
            return "Choose where: the current view, or a rectangle that you draw."
        if self.kind != STRUCTURES:
            return ""
        typed = self.acronyms.typed()
        if not typed:
            return "Name a structure by its acronym, as VTA, or several with commas."
        table, own = self.acronyms.table, self._session.structures.current
        if table is None:
            return self._session.structures.problem
        try:
            for acronym in typed:
                structure = table.find(acronym)
                if own is not None and own.atlas is None:
                    place = own.places.of(table.within_id(structure.id))
                    if place is None:
                        return f"{acronym} has no voxels in this brain: choose another structure."
        except UserError as error:
            return str(error)
        return ""

    def refresh(self, *_: Any) -> None:
        """Show what belongs to the choice."""
        self.where.setVisible(self.kind == ROI)
        self.acronyms.setVisible(self.kind == STRUCTURES)
        words = self.acronyms.names() if self.kind == STRUCTURES else ""
        self.found.setText(words)
        self.found.setVisible(bool(words))
        self.changed.emit()

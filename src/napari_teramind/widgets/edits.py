"""The part of the Simulate panel that edits genes: knock out, set, multiply, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from qtpy.QtCore import QStringListModel, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_teramind.errors import UserError
from napari_teramind.simulate.edits import Edit
from napari_teramind.widgets import roi as rois
from napari_teramind.widgets.acronyms import AcronymField
from napari_teramind.widgets.completing import complete
from napari_teramind.widgets.parts import form, sentence
from napari_teramind.widgets.session import Session

KNOCK_OUT, SET, MULTIPLY = "knock out", "set", "multiply"
EVERYWHERE, DRAWN, STRUCTURE = "everywhere", "drawn", "structure"
ROWS = 3


class GeneEdits(QWidget):
    """Edits of gene expression, to be made when something is generated.

    Parameters
    ----------
    session
        Whose genes, structures and drawings.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._panel: tuple[str, ...] = ()
        self._edits: list[Edit] = []
        self._genes = QStringListModel(self)
        self.gene = QLineEdit()
        self.gene.setPlaceholderText("Gene symbol")
        complete(self.gene, self._genes)
        self.how = QComboBox()
        for name in (KNOCK_OUT, SET, MULTIPLY):
            self.how.addItem({SET: "set to", MULTIPLY: "multiply by"}.get(name, name), name)
        self.how.setToolTip("What to do with the gene's transcripts; the brain is not changed")
        self.value = QDoubleSpinBox()
        self.value.setRange(0, 10_000)
        self.value.setValue(2)
        self.value.setToolTip("Transcripts in each bin of 16 px, or by how much to multiply them")
        self.where = QComboBox()
        for name, value in (
            ("everywhere", EVERYWHERE), ("in what I draw", DRAWN), ("in a structure", STRUCTURE),
        ):  # fmt: skip
            self.where.addItem(name, value)
        self.where.setToolTip("Where the gene is edited")
        self.draw_button = QPushButton("Draw")
        self.draw_button.setToolTip("Draw a rectangle around what is to be edited")
        self.acronym = AcronymField(session, "Acronym, as VTA")
        self.add_button = QPushButton("Add edit")
        self.add_button.setToolTip("Take it into the list of what is edited; Enter does so, too")
        self.list = QListWidget()
        self.list.setToolTip("Made in this order; Delete takes one away")
        self.list.setFixedHeight(self.list.fontMetrics().height() * (ROWS + 1))
        self.list.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Take the chosen edit out of the list")
        self.compare = QCheckBox("Compare with unedited")
        self.compare.setToolTip(
            "Generate the same without edits first, and show the difference; hold W to see the "
            "unedited image"
        )
        self.compare.setChecked(True)
        self.hint = sentence(plain=True)
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        layout = form()
        self.setLayout(layout)
        layout.addWidget(QLabel("Gene"), 0, 0)
        layout.addWidget(self.gene, 0, 1, 1, 2)
        for row, parts in enumerate(
            (
                (self.how, self.value),
                (self.where, self.draw_button, self.acronym),
                (self.add_button, self.remove_button),
            ),
            1,
        ):
            together = QHBoxLayout()
            for part in parts:
                together.addWidget(part, 0 if part is self.draw_button else 1)
            layout.addLayout(together, row, 1, 1, 2)
        layout.addWidget(self.hint, 4, 1, 1, 2)
        layout.addWidget(self.list, 5, 1, 1, 2)
        layout.addWidget(self.compare, 6, 1, 1, 2)

    def _connect(self) -> None:
        self.gene.returnPressed.connect(self.add)
        self.add_button.clicked.connect(self.add)
        self.remove_button.clicked.connect(self.remove)
        self.draw_button.clicked.connect(self._draw)
        self.how.currentIndexChanged.connect(self.refresh)
        self.where.currentIndexChanged.connect(self._on_where)
        self.gene.textChanged.connect(self.refresh)
        self.list.currentRowChanged.connect(self.refresh)
        self.compare.toggled.connect(self.changed)

    # What the user does

    def _on_where(self) -> None:
        if self.where.currentData() == STRUCTURE:
            self._session.structures.load()
        self.refresh()

    def _draw(self) -> None:
        viewer = self._session.viewer
        if viewer is not None:
            rois.draw_shape(viewer, rois.EDIT)

    def add(self) -> None:
        """Add the edit that the fields say, or say what they lack."""
        try:
            edit = self._edit()
        except UserError as error:
            self._say(str(error))
            return
        self._edits.append(edit)
        self.gene.clear()
        self._on_edits()

    def remove(self) -> None:
        """Take the chosen edit away."""
        row = self.list.currentRow()
        if 0 <= row < len(self._edits):
            del self._edits[row]
            self._on_edits()

    def keyPressEvent(self, event: Any) -> None:
        """Remove with the Delete key."""
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and self.list.hasFocus():
            self.remove()
        else:
            super().keyPressEvent(event)

    def _edit(self) -> Edit:
        gene = self._found_gene()
        how = self.how.currentData()
        value = 0.0 if how == KNOCK_OUT else self.value.value()
        kind: Literal["set", "multiply"] = "multiply" if how == MULTIPLY else "set"
        where = self.where.currentData()
        if where == DRAWN:
            return Edit(gene, kind, value, roi=self._drawn())
        if where == STRUCTURE:
            return Edit(gene, kind, value, structure=self._found_structure())
        return Edit(gene, kind, value)

    def _found_gene(self) -> str:
        typed = self.gene.text().strip()
        if not typed:
            raise UserError("Type the symbol of a gene first.")
        symbols = {gene.casefold(): gene for gene in self._panel}
        if typed.casefold() not in symbols:
            raise UserError(f"The network does not look at {typed}; choose a gene of its list.")
        return symbols[typed.casefold()]

    def _found_structure(self) -> str:
        own = self._session.structures.own
        if own is None:
            raise UserError(self._session.structures.problem or "The structures are being read.")
        return own.table.find(self.acronym.text().strip()).acronym

    def _drawn(self) -> rois.Roi:
        viewer, brain = self._session.viewer, self._session.brain
        layer = None if viewer is None else rois.drawn_layer(viewer, rois.EDIT)
        if layer is None or brain is None:
            raise UserError("Press Draw and drag a rectangle around what is to be edited.")
        grid = self._session.region.to_grid(brain)
        roi = rois.rectangle_roi(layer, grid, brain.shape[1:])
        if roi is None:
            raise UserError("Press Draw and drag a rectangle around what is to be edited.")
        return roi

    # What follows

    def _say(self, words: str) -> None:
        self.hint.setText(words)
        self.hint.setVisible(bool(words))

    def values(self) -> dict[str, Any]:
        """Fields of a `SimulateSpec`."""
        return {"edits": tuple(str(edit) for edit in self._edits)}

    def show_panel(self, genes: Sequence[str]) -> None:
        """Offer the genes that the chosen network looks at."""
        if tuple(genes) != self._panel:
            self._panel = tuple(genes)
            ordered: list[str] = sorted(self._panel, key=str.casefold)
            self._genes.setStringList(ordered)

    def _on_edits(self) -> None:
        self.list.clear()
        self.list.addItems([edit.words for edit in self._edits])
        self.refresh()
        self.changed.emit()

    def refresh(self, *_: Any) -> None:
        """Show what belongs to the choices."""
        self._say("")
        self.value.setVisible(self.how.currentData() != KNOCK_OUT)
        self.draw_button.setVisible(self.where.currentData() == DRAWN)
        self.acronym.setVisible(self.where.currentData() == STRUCTURE)
        self.list.setVisible(bool(self._edits))
        self.compare.setVisible(bool(self._edits))
        self.remove_button.setVisible(bool(self._edits))
        self.remove_button.setEnabled(self.list.currentRow() >= 0)

"""The part of the Attention panel that asks which two genes, with the paper's pairs as presets."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QStringListModel, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QPushButton, QWidget

from napari_teramind.attention.pairs import PRESETS, Pair, check_pairs
from napari_teramind.errors import UserError
from napari_teramind.widgets.completing import complete
from napari_teramind.widgets.parts import form

MEANS = {
    "GLUT": "glutamate transport",
    "DOPA": "dopamine neurons",
    "BLOD": "blood vessels and their astrocytes",
}


class PairChoice(QWidget):
    """Two genes of the checkpoint's panel, found as one types."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._panel: tuple[str, ...] = ()
        self._symbols = QStringListModel(self)
        self.first, self.second = self._field(), self._field()
        self.presets: dict[str, QPushButton] = {}
        layout = form()
        self.setLayout(layout)
        row = QHBoxLayout()
        row.setSpacing(4)
        for name, pair in PRESETS.items():
            button = QPushButton(name)
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(name) + 12)
            button.clicked.connect(lambda _=False, pair=pair: self.choose(pair))
            self.presets[name] = button
            row.addWidget(button, 1)
        layout.addWidget(QLabel("Genes"), 0, 0)
        fields = QHBoxLayout()
        fields.addWidget(self.first, 1)
        fields.addWidget(self.second, 1)
        layout.addLayout(fields, 0, 1)
        layout.addWidget(QLabel("Presets"), 1, 0)
        layout.addLayout(row, 1, 1)
        self.show_panel(())

    def _field(self) -> QLineEdit:
        field = QLineEdit()
        field.setPlaceholderText("Gene symbol")
        field.setMinimumWidth(60)
        font = field.font()
        font.setItalic(True)
        field.setFont(font)
        complete(field, self._symbols)
        field.textChanged.connect(self.changed)
        field.editingFinished.connect(self._spell)
        return field

    def show_panel(self, panel: Sequence[str]) -> None:
        """Offer the genes of a panel; presets that it lacks cannot be chosen."""
        self._panel = tuple(panel)
        self._symbols.setStringList(list(panel))
        for name, button in self.presets.items():
            pair = PRESETS[name]
            lacking = [gene for gene in pair if gene not in self._panel]
            button.setEnabled(not lacking)
            button.setToolTip(
                f"{pair[0]} and {pair[1]}: {MEANS[name]}, a pair of the paper"
                + (f"; the panel lacks {' and '.join(lacking)}" if lacking else "")
            )

    def choose(self, pair: Pair) -> None:
        """Take a pair."""
        self.first.setText(pair[0])
        self.second.setText(pair[1])

    def pair(self) -> Pair:
        """Return the genes as typed, in the panel's spelling where it knows them."""
        folded = {gene.casefold(): gene for gene in self._panel}
        a, b = (field.text().strip() for field in (self.first, self.second))
        return folded.get(a.casefold(), a), folded.get(b.casefold(), b)

    def problem(self) -> str:
        """Why these genes cannot be a pair; "" if they can."""
        pair = self.pair()
        if not all(pair):
            return "Choose two genes, or one of the pairs of the paper."
        try:
            check_pairs([pair], self._panel)
        except UserError as error:
            return str(error)
        return ""

    def _spell(self) -> None:
        """Write genes as the panel does."""
        for field, gene in zip((self.first, self.second), self.pair(), strict=True):
            if field.text() != gene:
                field.setText(gene)

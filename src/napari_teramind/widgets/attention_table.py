"""Structures that stand out, as a table; a click on a row goes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_teramind.atlas.structures import structure_title

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("", "Structure", "Mean", "x rest")
TIPS = (
    "Rank among the areas of at least 100 bins",
    "Structure",
    "Mean over the bins of the structure",
    "Mean in the structure / mean everywhere else",
)
ROWS_SHOWN = 8


@dataclass(frozen=True)
class Row:
    """A structure of the ranking."""

    rank: int
    id: int
    acronym: str
    name: str
    bins: int
    mean: float
    enrichment: float

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        times = "" if self.enrichment != self.enrichment else f"{self.enrichment:.2f}"
        return (str(self.rank), self.title, f"{self.mean:.3g}", times)

    @property
    def title(self) -> str:
        """Acronym and name."""
        return structure_title(self.acronym, self.name)


class RankingModel(QAbstractTableModel):
    """A ranking of structures, best first."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def show_ranking(self, ranking: pd.DataFrame | None) -> None:
        """Show the rows of a ranking as `attention.statistics.ranking` gives it."""
        self.beginResetModel()
        self.rows = []
        if ranking is not None:
            columns = ["rank", "id", "acronym", "name", "bins", "mean", "enrichment"]
            self.rows = [Row(*row) for row in ranking[columns].itertuples(index=False, name=None)]
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of structures."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Return titles and what they mean."""
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return COLUMNS[section]
            if role == Qt.ItemDataRole.ToolTipRole:
                return TIPS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        if not index.isValid():
            return None
        row = self.rows[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return row.cells[index.column()]
            case Qt.ItemDataRole.ToolTipRole:
                return f"{row.title}\n{row.bins:,} bins\nA click goes there"
            case Qt.ItemDataRole.TextAlignmentRole if index.column() != 1:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


class RankingTable(QTableView):
    """Shows a ranking; a click or Enter asks to go to the structure."""

    asked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.model_ = RankingModel()
        self.setModel(self.model_)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWordWrap(False)
        self.setShowGrid(False)
        rows, titles = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert titles is not None
        rows.hide()
        height = self.fontMetrics().height() + 6
        rows.setDefaultSectionSize(height)
        self.setFixedHeight(height * (ROWS_SHOWN + 1) + 8)
        em = self.fontMetrics().horizontalAdvance("0")
        for column, mode in enumerate(("Fixed", "Stretch", "Fixed", "Fixed")):
            titles.setSectionResizeMode(column, QHeaderView.ResizeMode[mode])
        for column, digits in ((0, 4), (2, 8), (3, 7)):
            titles.resizeSection(column, em * digits)
        titles.setHighlightSections(False)
        self.clicked.connect(lambda index: self.asked.emit(self.model_.rows[index.row()].id))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to the selected structure with Enter."""
        index = self.currentIndex()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and index.isValid():
            self.asked.emit(self.model_.rows[index.row()].id)
            return
        super().keyPressEvent(event)


def heading(shown: str, of: Sequence[str]) -> str:
    """Return what a ranking is of, for people."""
    match shown:
        case "attention":
            return "Structures by attention (A times counts)"
        case "A":
            return "Structures by A alone"
        case _:
            return f"Structures by counts of <i>{of[shown == 'b']}</i>"

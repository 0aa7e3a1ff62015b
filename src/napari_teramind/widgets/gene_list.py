"""The genes of a brain as a list to search, each shown or hidden by a tick."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QColor, QFont, QKeyEvent, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListView

from napari_teramind.plugin.layers import layer_color, tag_of
from napari_teramind.widgets.session import Session

ROWS_SHOWN = 7
SWATCH = 10


class GenesModel(QAbstractListModel):
    """Gene symbols, ticked where the gene's layer is visible, with the layer's colour."""

    ticked = Signal(str, bool)
    """The user ticked a gene, or took the tick away."""

    def __init__(self) -> None:
        super().__init__()
        self.genes: list[str] = []
        self._layers: dict[str, tuple[bool, str]] = {}
        self._font = QFont()
        self._font.setItalic(True)

    def show_genes(self, genes: tuple[str, ...]) -> None:
        """Offer the genes of a panel."""
        ordered = sorted(genes, key=str.casefold)
        if ordered != self.genes:
            self.beginResetModel()
            self.genes = ordered
            self.endResetModel()

    def show_layers(self, layers: dict[str, tuple[bool, str]]) -> None:
        """Tell which genes have a layer: whether it is visible, and its colour."""
        if layers != self._layers:
            self._layers = layers
            if self.genes:
                self.dataChanged.emit(self.index(0), self.index(len(self.genes) - 1))

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of genes."""
        return 0 if parent is not None and parent.isValid() else len(self.genes)

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Let genes be ticked."""
        return super().flags(index) | Qt.ItemFlag.ItemIsUserCheckable

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Return what the list shows of a gene."""
        gene = self.genes[index.row()]
        visible, color = self._layers.get(gene, (False, ""))
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return gene
            case Qt.ItemDataRole.FontRole:
                return self._font
            case Qt.ItemDataRole.CheckStateRole:
                return Qt.CheckState.Checked if visible else Qt.CheckState.Unchecked
            case Qt.ItemDataRole.DecorationRole:
                return _swatch(color)
            case Qt.ItemDataRole.ToolTipRole:
                return "Shown in the viewer; Delete takes its layer away" if color else None
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = 0) -> bool:
        """Show or hide a gene."""
        if role != Qt.ItemDataRole.CheckStateRole:
            return False
        self.ticked.emit(self.genes[index.row()], Qt.CheckState(value) == Qt.CheckState.Checked)
        return True


def _swatch(color: str) -> QPixmap:
    """Return a square of a colour; without one, the room for it."""
    square = QPixmap(SWATCH, SWATCH)
    square.fill(QColor(color) if color else Qt.GlobalColor.transparent)
    return square


class GeneList(QListView):
    """The genes of the session's brain; `search` leaves those that hold what was typed.

    Parameters
    ----------
    session
        Says which brain, and which genes are shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._watched: list[Any] = []
        self.model_ = GenesModel()
        self.found = QSortFilterProxyModel(self)
        self.found.setSourceModel(self.model_)
        self.found.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.setModel(self.found)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setUniformItemSizes(True)
        self.setMinimumHeight((self.fontMetrics().height() + 4) * ROWS_SHOWN)

    @property
    def ticked(self) -> Any:
        """Signal (gene, shown): the user ticked a gene, or took the tick away."""
        return self.model_.ticked

    def search(self, text: str) -> None:
        """Leave the genes that hold a text."""
        self.found.setFilterFixedString(text.strip())

    def genes(self) -> list[str]:
        """Return the genes that are listed now."""
        rows = range(self.found.rowCount())
        return [str(self.found.index(row, 0).data()) for row in rows]

    def refresh(self) -> None:
        """Show the session's brain as it is now, and follow its layers."""
        brain = self._session.brain
        self.model_.show_genes(() if brain is None else brain.gene_names)
        for layer in self._watched:
            layer.events.visible.disconnect(self._on_layer)
            layer.events.colormap.disconnect(self._on_layer)
        self._watched = self._session.layers("gene")
        for layer in self._watched:
            layer.events.visible.connect(self._on_layer)
            layer.events.colormap.connect(self._on_layer)
        self._on_layer()

    def _on_layer(self, event: Any = None) -> None:
        shown = {
            tag_of(layer)["name"]: (layer.visible, layer_color(layer)) for layer in self._watched
        }
        self.model_.show_layers(shown)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Take the layer of the chosen gene away."""
        if event is None or event.key() not in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            super().keyPressEvent(event)
            return
        gene, viewer = self.currentIndex().data(), self._session.viewer
        for layer in self._session.layers("gene"):
            if viewer is not None and tag_of(layer)["name"] == gene:
                viewer.layers.remove(layer)

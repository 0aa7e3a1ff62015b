"""The tree of an atlas's structures: a model, a filter for searching, and the view."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractItemModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QTreeView

from napari_teramind.atlas import Structure, StructureTable
from napari_teramind.plugin.atlases import StructureSet

ABSENT = QColor("#8A8D93")
"""Text of structures without voxels: readable on both themes, and plainly less than the rest."""
ID = Qt.ItemDataRole.UserRole
OPEN_DEPTH = 2
MANY = 40
"""With so many matches or more, branches stay folded."""


class StructureModel(QAbstractItemModel):
    """An atlas as a tree: tick, colour, acronym and name of every structure."""

    ticked = Signal(int, bool)
    """The user showed or hid a structure."""

    def __init__(self) -> None:
        super().__init__()
        self._table = StructureTable([])
        self._within: dict[int, frozenset[int]] = {}
        self._present: frozenset[int] = frozenset()
        self._hidden: frozenset[int] = frozenset()
        self._children: dict[int | None, list[int]] = {None: []}
        self._rows: dict[int, int] = {}

    def show_set(self, chosen: StructureSet | None) -> None:
        """Show another atlas, or none."""
        self.beginResetModel()
        self._table = StructureTable([]) if chosen is None else chosen.table
        self._within = {i: self._table.within_id(i) for i in self._table}
        found = frozenset() if chosen is None else chosen.places.ids
        self._present = frozenset(i for i in self._table if self._within[i] & found)
        self._children = {None: [i for i, s in self._table.items() if s.parent_id is None]}
        self._children |= {i: [s.id for s in self._table.children(i)] for i in self._table}
        self._rows = {i: row for ids in self._children.values() for row, i in enumerate(ids)}
        self._hidden = frozenset()
        self.endResetModel()

    def show_hidden(self, hidden: frozenset[int]) -> None:
        """Tick what is shown."""
        self._hidden = hidden

    def is_present(self, structure_id: int) -> bool:
        """Whether a structure, or anything inside it, has voxels."""
        return structure_id in self._present

    def index_of(self, structure_id: int) -> QModelIndex:
        """Return the first cell of a structure."""
        return self.createIndex(self._rows[structure_id], 0, structure_id)

    # What Qt asks

    def index(self, row: int, column: int, parent: QModelIndex | None = None) -> QModelIndex:
        """Return a cell."""
        children = self._children[_id(parent)]
        if not (0 <= row < len(children) and column == 0):
            return QModelIndex()
        return self.createIndex(row, column, children[row])

    def parent(self, index: QModelIndex) -> QModelIndex:
        """Return the cell that a cell lies under."""
        above = self._table[index.internalId()].parent_id if index.isValid() else None
        return QModelIndex() if above is None else self.index_of(above)

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many structures lie right inside one."""
        beside = parent is not None and parent.column() > 0
        return 0 if beside else len(self._children[_id(parent)])

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """One column: beside a deep branch there is no room for a second."""
        return 1

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Let structures be ticked."""
        return super().flags(index) | Qt.ItemFlag.ItemIsUserCheckable

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        if not index.isValid():
            return None
        structure = self._table[index.internalId()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return structure.title
            case Qt.ItemDataRole.ToolTipRole:
                return self._tooltip(structure)
            case Qt.ItemDataRole.ForegroundRole if structure.id not in self._present:
                return ABSENT
            case Qt.ItemDataRole.DecorationRole:
                return QColor(f"#{structure.color_hex}")
            case Qt.ItemDataRole.CheckStateRole:
                return self._tick(structure.id)
            case _ if role == ID:
                return structure.id
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = 0) -> bool:
        """Take a tick from the user."""
        if role != Qt.ItemDataRole.CheckStateRole or not index.isValid():
            return False
        shown = Qt.CheckState(value) == Qt.CheckState.Checked
        self.ticked.emit(index.internalId(), shown)
        return True

    def _tick(self, structure_id: int) -> Qt.CheckState:
        within = self._within[structure_id]
        # What has no voxels cannot be seen either way.
        seen = (within & self._present) or within
        hidden = seen & self._hidden
        if not hidden:
            return Qt.CheckState.Checked
        return Qt.CheckState.Unchecked if hidden == seen else Qt.CheckState.PartiallyChecked

    def _tooltip(self, structure: Structure) -> str:
        where = "" if structure.id in self._present else "\nNo voxels here"
        line = [above.acronym for above in reversed(self._table.lineage(structure.id))]
        return f"{structure.title}\n{' > '.join(line)}{where}"


def _id(index: QModelIndex | None) -> int | None:
    return index.internalId() if index is not None and index.isValid() else None


class StructureFilter(QSortFilterProxyModel):
    """Keeps the structures that match what was typed, with all that they are part of."""

    def __init__(self) -> None:
        super().__init__()
        self._matches: frozenset[int] | None = None
        self.setRecursiveFilteringEnabled(True)

    def show_matches(self, matches: frozenset[int] | None) -> None:
        """Keep some structures; None keeps all."""
        if matches != self._matches:
            self._matches = matches
            self.invalidate()

    def filterAcceptsRow(self, row: int, parent: QModelIndex) -> bool:
        """Whether a structure itself matches; Qt keeps its ancestors too."""
        if self._matches is None:
            return True
        source = self.sourceModel()
        return source is not None and source.index(row, 0, parent).internalId() in self._matches


class StructureTree(QTreeView):
    """Shows an atlas; Enter or a double click goes to a structure."""

    asked = Signal(int)
    """The user wants to go to a structure."""
    picked = Signal(object)
    """Another structure was selected (an id), or none (None)."""

    def __init__(self) -> None:
        super().__init__()
        self.model_ = StructureModel()
        self.filter_ = StructureFilter()
        self.filter_.setSourceModel(self.model_)
        self.setModel(self.filter_)
        self.setUniformRowHeights(True)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setExpandsOnDoubleClick(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHeaderHidden(True)
        self.setIndentation(10)
        self.doubleClicked.connect(lambda index: self.asked.emit(index.data(ID)))
        selection = self.selectionModel()
        assert selection is not None
        selection.currentChanged.connect(lambda *_: self.picked.emit(self.selected_id()))

    def show_set(self, chosen: StructureSet | None) -> None:
        """Show another atlas, its first branches open."""
        self.filter_.show_matches(None)
        self.model_.show_set(chosen)
        self.expandToDepth(OPEN_DEPTH - 1)

    def show_hidden(self, hidden: frozenset[int]) -> None:
        """Tick what is shown."""
        self.model_.show_hidden(hidden)
        viewport = self.viewport()
        if viewport is not None:
            viewport.update()

    def selected_id(self) -> int | None:
        """Return the id of the selected structure."""
        index = self.currentIndex()
        return index.data(ID) if index.isValid() else None

    def select(self, structure_id: int) -> None:
        """Select a structure and let it be seen."""
        index = self.filter_.mapFromSource(self.model_.index_of(structure_id))
        if index.isValid():
            self.setCurrentIndex(index)
            self.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)

    def show_found(self, found: tuple[Structure, ...] | None) -> None:
        """Keep what a search found, the best of it selected; None shows all again."""
        if found is None:
            self.filter_.show_matches(None)
            self.collapseAll()
            self.expandToDepth(OPEN_DEPTH - 1)
            return
        self.filter_.show_matches(frozenset(s.id for s in found))
        self.setCurrentIndex(QModelIndex())
        if len(found) < MANY:
            self.expandAll()
        if found:
            self.select(found[0].id)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to the selected structure with Enter."""
        chosen = self.selected_id()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and chosen is not None:
            self.asked.emit(chosen)
            return
        super().keyPressEvent(event)

"""What the brain holds, in a tree: shown or hidden by a tick, and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_teramind.plugin.contents import Item, Kind, read_contents
from napari_teramind.plugin.layers import tag_of
from napari_teramind.plugin.remote import told
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.opening import show_item
from napari_teramind.widgets.parts import sentence
from napari_teramind.widgets.session import Session

if TYPE_CHECKING:
    from napari.layers import Layer

TITLES: dict[Kind, str] = {
    "stain": "Stains",
    "simulation": "Generated",
    "attention": "Attention",
    "structures": "Structures",
}
ROWS_SHOWN = 9
SOON_MS = 50
ITEM = Qt.ItemDataRole.UserRole


class Contents(QWidget):
    """Stains, generated images, attention and structures of the session's brain.

    Parameters
    ----------
    session
        Says which brain, and which layers there are.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._items: list[Item] = []
        self._asked: object = None
        self._filling = False
        self._watched: list[Layer] = []
        self.tree = QTreeWidget()
        self.tree.setHeaderHidden(True)
        self.tree.setIndentation(12)
        # Results of one region differ at the end: in what was edited, in a number.
        self.tree.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.tree.setMinimumHeight((self.fontMetrics().height() + 5) * ROWS_SHOWN)
        header = self.tree.header()
        assert header is not None
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.words = sentence(plain=True)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._read)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tree)
        layout.addWidget(self.words)
        self.tree.itemChanged.connect(self._on_changed)
        self.tree.currentItemChanged.connect(self._on_current)

    def refresh(self) -> None:
        """Show soon what the session's brain holds; of many calls at once, one counts."""
        self._follow()
        self._timer.start(SOON_MS)

    def _read(self) -> None:
        brain = self._session.brain
        if brain is None:
            self._asked = None
            self._take([])
            return
        asked = self._asked = object()

        def then(found: list[Item] | str) -> None:
            # What cannot be asked for now, as of a server that is away, is taken to be as it was.
            if asked is self._asked and not isinstance(found, str):
                self._take(found)

        Beside(self, _read_or_say, brain.path, then=then)

    def rows(self) -> dict[tuple[str, str], QTreeWidgetItem]:
        """Return the rows by kind and name."""
        found = {}
        for i in range(self.tree.topLevelItemCount()):
            group = self.tree.topLevelItem(i)
            for j in range(group.childCount() if group is not None else 0):
                row = group.child(j) if group is not None else None
                if row is not None:
                    item = row.data(0, ITEM)
                    found[(item.kind, item.name)] = row
        return found

    def _take(self, items: list[Item]) -> None:
        if items != self._items:
            self._items = items
            self._fill()
            self._tick()

    def _follow(self) -> None:
        """Follow the layers that there are now."""
        for layer in self._watched:
            layer.events.visible.disconnect(self._tick)
        self._watched = [layer for kind in TITLES for layer in self._session.layers(kind)]
        for layer in self._watched:
            layer.events.visible.connect(self._tick)
        self._tick()

    def _fill(self) -> None:
        self._filling = True
        self.tree.clear()
        for kind, title in TITLES.items():
            items = [item for item in self._items if item.kind == kind]
            if not items:
                continue
            group = QTreeWidgetItem([title])
            group.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.tree.addTopLevelItem(group)
            for item in items:
                row = QTreeWidgetItem([item.name])
                row.setData(0, ITEM, item)
                row.setToolTip(0, f"{item.name}\n{item.words}")
                row.setCheckState(0, Qt.CheckState.Unchecked)
                group.addChild(row)
            group.setExpanded(True)
        self._filling = False
        self.words.setText("")

    def _tick(self, event: Any = None) -> None:
        """Tick what is visible."""
        self._filling = True
        shown = {_key(layer) for layer in self._watched if layer.visible}
        for key, row in self.rows().items():
            state = Qt.CheckState.Checked if key in shown else Qt.CheckState.Unchecked
            row.setCheckState(0, state)
        self._filling = False

    def _on_changed(self, row: QTreeWidgetItem, _: int) -> None:
        item = row.data(0, ITEM)
        if self._filling or item is None:
            return
        visible = row.checkState(0) == Qt.CheckState.Checked
        own = self._layers_of(item)
        for layer in own:
            layer.visible = visible
        if visible and not own:
            show_item(self._session, item.kind, item.name)

    def _on_current(self, row: QTreeWidgetItem | None, _: QTreeWidgetItem | None) -> None:
        """Tell where an item comes from, and select its layer."""
        item = row.data(0, ITEM) if row is not None else None
        self.words.setText(item.words if item is not None else "")
        viewer = self._session.viewer
        own = self._layers_of(item) if item is not None else []
        if own and viewer is not None:
            viewer.layers.selection.active = own[-1]

    def _layers_of(self, item: Item) -> list[Layer]:
        layers = self._session.layers(item.kind)
        return [layer for layer in layers if _key(layer) == (item.kind, item.name)]


def _key(layer: Layer) -> tuple[str, str]:
    """Return kind and name of what a layer shows."""
    tag = tag_of(layer)
    return tag["kind"], tag.get("simulation") or tag["name"]


def _read_or_say(path: str) -> list[Item]:
    """Read what a brain holds; a server that is away is no error of the program."""
    with told(path):
        return read_contents(path)

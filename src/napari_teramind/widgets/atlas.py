"""The Atlas panel: find a structure, see it, go there, make it the ROI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.widgets.atlas_source import AtlasSource
from napari_teramind.widgets.atlas_tree import StructureTree
from napari_teramind.widgets.empty import NoBrain
from napari_teramind.widgets.panel import Panel
from napari_teramind.widgets.parts import MARGIN, PANEL_WIDTH, Scrolling, sentence

if TYPE_CHECKING:
    import napari

    from napari_teramind.plugin.atlases import StructureSet

TREE_HEIGHT = 180


class AtlasWidget(Panel):
    """Shows the structures of a brain or of an atlas.

    Parameters
    ----------
    napari_viewer
        The viewer; panels of one viewer share one session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.structures = self.session.structures
        self.source = AtlasSource(self.session)
        self.empty = NoBrain(self.session, margin=0)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Acronym or name, as VTA; Enter goes there")
        self.search.setClearButtonEnabled(True)
        self.tree = StructureTree()
        self.tree.setMinimumHeight(TREE_HEIGHT)
        self.answer = sentence(plain=True)
        self.go_button = QPushButton("Go to")
        self.go_button.setToolTip("Show the structure on the canvas, in 2D or 3D")
        self.roi_button = QPushButton("Make it the ROI")
        self.roi_button.setToolTip(
            "The box around the structure, on this slice, for the other panels"
        )
        self.only_button = QPushButton("Show only this")
        self.only_button.setToolTip("Hide all that is not inside the structure")
        self.all_button = QPushButton("Show all")
        self.all_button.setToolTip("Show every structure again")
        self.style_choice = QComboBox()
        self.style_choice.addItems(["Outlines", "Filled"])
        self.style_choice.setToolTip("How structures look in 2D; in 3D they are bodies")
        self._content = QWidget()
        # Seen by napari, which would otherwise leave the rest of the height empty.
        policy = QSizePolicy.Policy.Expanding
        self._content.setSizePolicy(policy, policy)
        self._shown: StructureSet | None = None
        self._lay_out()
        self._connect()
        self.structures.load()
        self.refresh()

    def _lay_out(self) -> None:
        buttons = QGridLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        for i, button in enumerate(
            (self.go_button, self.roi_button, self.only_button, self.all_button)
        ):
            buttons.addWidget(button, i // 2, i % 2)
        style = QHBoxLayout()
        style.addWidget(QLabel("In 2D"))
        style.addWidget(self.style_choice, 1)
        content = QVBoxLayout(self._content)
        content.setContentsMargins(0, 0, 0, 0)
        content.addWidget(self.search)
        content.addWidget(self.tree, 1)
        content.addWidget(self.answer)
        content.addLayout(buttons)
        content.addLayout(style)
        panel = QWidget()
        layout = QVBoxLayout(panel)
        layout.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        layout.addWidget(self.empty)
        layout.addWidget(self.source)
        layout.addWidget(self._content, 100)
        layout.addStretch(1)  # keeps the rest together while there is no tree
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolling(panel))

    def _connect(self) -> None:
        self.structures.changed.connect(self.refresh)
        self.structures.visibility_changed.connect(self._refresh_ticks)
        self.session.brains_changed.connect(self.refresh)
        self.search.textChanged.connect(self._on_typed)
        self.search.returnPressed.connect(self.go)
        self.tree.asked.connect(self._go_to)
        self.tree.picked.connect(lambda _: self._refresh_buttons())
        self.tree.model_.ticked.connect(self.structures.set_visible)
        self.go_button.clicked.connect(self.go)
        self.roi_button.clicked.connect(self._make_roi)
        self.only_button.clicked.connect(self._show_only)
        self.all_button.clicked.connect(self.structures.show_all)
        self.style_choice.activated.connect(self._on_style)

    # What the user does

    def _on_typed(self, text: str) -> None:
        chosen = self.structures.current
        if chosen is None:
            return
        if not text.strip():
            self.answer.setText("")
            self.tree.show_found(None)
            return
        found = chosen.table.search(text, limit=len(chosen.table))
        self.tree.show_found(found)
        self._refresh_buttons()
        own = chosen.atlas is None
        where = "This brain" if own else chosen.title
        self.answer.setText("" if found else f"{where} has no structure like {text!r}.")

    def go(self) -> None:
        """Go to the selected structure: the best match, where something was typed."""
        chosen = self.tree.selected_id()
        if chosen is not None:
            self._go_to(chosen)

    def _go_to(self, structure_id: int) -> None:
        self.structures.show_layer()
        self.answer.setText(self.structures.go_to(structure_id))

    def _make_roi(self) -> None:
        chosen = self.tree.selected_id()
        if chosen is not None:
            self.answer.setText(self.structures.to_roi(chosen))

    def _show_only(self) -> None:
        chosen = self.tree.selected_id()
        if chosen is not None:
            self.structures.show_only([chosen])

    def _on_style(self, index: int) -> None:
        self.structures.filled = index == 1

    # What follows

    def sizeHint(self) -> QSize:
        """As wide as a panel should be."""
        return QSize(PANEL_WIDTH, super().sizeHint().height())

    def refresh(self) -> None:
        """Show the session as it is now."""
        chosen = self.structures.current
        self.empty.setVisible(self.session.brain is None and chosen is None)
        self._content.setVisible(chosen is not None)
        if chosen is not self._shown:
            self._shown = chosen
            self.search.clear()
            self.answer.setText("")
            self.tree.show_set(chosen)
        self._refresh_ticks()
        self._refresh_buttons()

    def _refresh_ticks(self) -> None:
        self.tree.show_hidden(self.structures.hidden)

    def _refresh_buttons(self) -> None:
        picked = self.tree.selected_id() is not None
        for button in (self.go_button, self.roi_button, self.only_button):
            button.setEnabled(picked)

"""The window in which published networks are chosen and got."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_error
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.errors import UserError
from napari_teramind.published import Offer, offers, read_record
from napari_teramind.widgets import settings
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.parts import MARGIN, PRIMARY_HEIGHT, form, sentence
from napari_teramind.widgets.session import Session
from napari_teramind.words import size

WIDTH, HEIGHT = 500, 520
ROW_HEIGHT = 24
RECORD_PAGE = "https://zenodo.org/records/14745019"
CODE_PAGE = "https://github.com/CTPLab/Tera-MIND"
LINK = "style='color: #4a90d9'"
"""Qt's own blue cannot be read on a dark window; this one can on both."""
ABOUT = (
    f"What was published with Tera-MIND, <a {LINK} href='{RECORD_PAGE}'>on Zenodo</a>. Its "
    "networks are fetched once, checked, and kept in your folder of networks. Whether a file "
    "holds any is looked up before it is fetched."
)
ABOUT_GENES = (
    "Published networks do not say which genes they were trained with; the lists are with the "
    f"<a {LINK} href='{CODE_PAGE}'>authors' code</a> (63885_gnm.csv, 60988_gnm.csv). Without one, "
    "the panel asks when it needs it."
)


class PublishedNetworks(QDialog):
    """Lists what was published, and gets it by a job that goes on without this window.

    Parameters
    ----------
    session
        Whose choice of checkpoints.
    parent
        The panel that it is opened from.
    """

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Get published networks")
        self._checkpoints = session.checkpoints
        self._asking = False
        self._problem = ""
        self._offers: list[Offer] = []
        self.table = QTreeWidget()
        self.genes = QLineEdit()
        self.genes.setPlaceholderText("CSV file or its https:// address; may be left empty")
        self.genes.setClearButtonEnabled(True)
        self.genes_button = QToolButton()
        self.genes_button.setText("...")
        self.genes_button.setToolTip("Choose a CSV with a column 'gene'")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        kept = self.progress.sizePolicy()
        kept.setRetainSizeWhenHidden(True)  # nothing jumps when it starts
        self.progress.setSizePolicy(kept)
        self.words = sentence(plain=True)
        self.words.setMinimumHeight(2 * self.words.fontMetrics().lineSpacing())
        self.words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.button = QPushButton("Get")
        self.button.setMinimumHeight(PRIMARY_HEIGHT)
        self.close_button = QPushButton("Close")
        self.close_button.setMinimumHeight(PRIMARY_HEIGHT)
        self._lay_out()
        self.resize(WIDTH, HEIGHT)
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.genes_button.clicked.connect(self._browse)
        self.button.clicked.connect(self._on_button)
        self.close_button.clicked.connect(self.close)
        self._checkpoints.getting_changed.connect(self._on_getting)

    def _lay_out(self) -> None:
        self.table.setHeaderLabels(["Name", "Size", "State"])
        self.table.setRootIsDecorated(False)
        self.table.setUniformRowHeights(True)
        header = self.table.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * MARGIN, 2 * MARGIN, 2 * MARGIN, 2 * MARGIN)
        layout.setSpacing(MARGIN)
        layout.addWidget(sentence(ABOUT))
        layout.addWidget(self.table, 1)
        row = form()
        row.addWidget(QLabel("Gene list"), 0, 0)
        row.addWidget(self.genes, 0, 1)
        row.addWidget(self.genes_button, 0, 2)
        layout.addLayout(row)
        layout.addWidget(sentence(ABOUT_GENES))
        layout.addWidget(self.progress)
        layout.addWidget(self.words)
        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 1)
        buttons.addWidget(self.close_button, 1)
        layout.addLayout(buttons)
        for button in (self.button, self.close_button):
            button.setAutoDefault(False)  # Enter in the field must not start hours of fetching

    def showEvent(self, event: QShowEvent) -> None:
        """Ask what there is, and find a download that goes on."""
        super().showEvent(event)
        self._checkpoints.find_getting()
        self._on_getting()

    @property
    def chosen(self) -> Offer | None:
        """What is selected."""
        rows = self.table.selectedItems()
        return self._offers[self.table.indexOfTopLevelItem(rows[0])] if rows else None

    # What the user does

    def _on_selected(self) -> None:
        self._checkpoints.got = ""  # was about another one
        self._refresh()

    def _on_button(self) -> None:
        if self._checkpoints.getting is not None:
            self._checkpoints.getting.cancel()
        elif self._problem:
            self._ask()
        elif self.chosen is not None:
            try:
                self._checkpoints.get(self.chosen.file.name, self.genes.text().strip() or None)
            except UserError as error:
                show_error(str(error))

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a gene list", "", "Lists (*.csv *.txt)")
        if path:
            self.genes.setText(path)

    # What follows

    def _ask(self) -> None:
        """Ask Zenodo what there is, beside the event loop."""
        if not self._asking:
            self._asking, self._problem = True, ""
            Beside(self, _look, settings.checkpoint_folder(), then=self._on_told)
        self._refresh()

    def _on_told(self, found: list[Offer] | str) -> None:
        self._asking = False
        if isinstance(found, str):
            self._problem = found
        else:
            self._show(found)
        self._refresh()

    def _show(self, found: list[Offer]) -> None:
        name = self.chosen.file.name if self.chosen is not None else None
        self._offers = found
        self.table.blockSignals(True)  # nobody selects anything here
        self.table.clear()
        for offer in found:
            row = QTreeWidgetItem([offer.file.name, size(offer.file.size), offer.words])
            row.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            row.setSizeHint(0, QSize(0, ROW_HEIGHT))
            row.setToolTip(2, "\n".join(str(network.path) for network in offer.networks))
            self.table.addTopLevelItem(row)
            if offer.file.name == name:
                self.table.setCurrentItem(row)
        self.table.blockSignals(False)

    def _on_getting(self) -> None:
        getting = self._checkpoints.getting
        if getting is not None:
            getting.progressed.connect(self._refresh)
            self._refresh()
        if self.isVisible():
            self._ask()  # what is here may have changed

    def _refresh(self) -> None:
        getting, chosen = self._checkpoints.getting, self.chosen
        running = getting is not None
        for part in (self.table, self.genes, self.genes_button):
            part.setEnabled(not running)
        self.progress.setVisible(running)
        if getting is not None:
            self.progress.setMaximum(100 if getting.total else 0)
            self.progress.setValue(100 * getting.done // max(1, getting.total))
        self.words.setText(self._words())
        again = bool(self._problem) and not running
        self.button.setText("Cancel" if running else "Ask again" if again else "Get")
        ready = chosen is not None and not chosen.complete and not self._asking
        self.button.setEnabled(not getting.cancelling if getting is not None else again or ready)
        self.close_button.setText("Go on in background" if running else "Close")
        self.close_button.setToolTip("The Jobs panel shows it, too" if running else "")

    def _words(self) -> str:
        checkpoints, chosen = self._checkpoints, self.chosen
        if checkpoints.getting is not None:
            return checkpoints.getting.words
        if self._problem:
            return self._problem
        if not self._offers and self._asking:
            return "Asking Zenodo what there is ..."
        if checkpoints.got:
            return checkpoints.got
        if chosen is None:
            return "Choose what to get." if self._offers else "Nothing was published there."
        if chosen.complete:
            return f"{chosen.file.name} is here already: the panel's list of checkpoints has it."
        return f"Goes to {settings.checkpoint_folder()}."


def show_dialog(session: Session, panel: QWidget) -> PublishedNetworks:
    """Show the window of a panel; the same one if it is open."""
    for dialog in panel.findChildren(PublishedNetworks):
        dialog.show()
        dialog.raise_()
        return dialog
    dialog = PublishedNetworks(session, panel)
    dialog.show()
    return dialog


def _look(folder: Path) -> list[Offer]:
    return offers(read_record(), folder)

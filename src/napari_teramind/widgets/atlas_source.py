"""The part of the Atlas panel that asks which atlas: the brain's, BrainGlobe's, a volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QStringListModel, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.errors import UserError
from napari_teramind.jobs import AtlasSpec, Failed, Finished, Progress
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.completing import complete
from napari_teramind.widgets.generation import was_cancelled
from napari_teramind.widgets.parts import form, sentence, short
from napari_teramind.widgets.running import RunningJob
from napari_teramind.widgets.session import Session
from napari_teramind.widgets.structures import OWN

if TYPE_CHECKING:
    from napari_teramind.atlas import Atlas

BRAINGLOBE, VOLUME = "brainglobe", "volume"
VOLUME_FILES = "Annotation volumes (*.tif *.tiff *.nii *.nii.gz)"
TABLE_FILES = "Tables of structures (*.csv)"
TRANSFORM_FILES = "Transforms of slices (*.json)"


class AtlasSource(QWidget):
    """Chooses among atlases and opens more of them, without holding the event loop."""

    opened = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._structures = session.structures
        self._job: RunningJob | None = None
        self._listing: RunningJob | None = None
        self._opening = ""
        self._outcome = ""
        self.choice = QComboBox()
        self.choice.setToolTip("Whose structures are shown")
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.choice.setSizeAdjustPolicy(policy)
        self.choice.setMinimumContentsLength(8)
        self.name = QLineEdit()
        self.name.setPlaceholderText("allen_mouse_25um")
        self.name.setToolTip("BrainGlobe's name of the atlas; fetched once, and kept")
        self._names = QStringListModel(self)
        complete(self.name, self._names)
        self.open_button = QPushButton("Open")
        self.lay_button = QPushButton("Lay over the slices ...")
        self.lay_button.setToolTip("Choose a JSON file that says where the slices lie in the atlas")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.words = sentence()
        self._brainglobe = QWidget()
        self._lay_out()
        self.choice.activated.connect(self._on_chosen)
        self.open_button.clicked.connect(self._on_open)
        self.name.returnPressed.connect(self._on_open)
        self.lay_button.clicked.connect(self._lay_over)
        self._structures.changed.connect(self.refresh)
        self.destroyed.connect(self._abandon)
        self.refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = form()
        row.addWidget(QLabel("Atlas"), 0, 0)
        row.addWidget(self.choice, 0, 1)
        layout.addLayout(row)
        name = QHBoxLayout(self._brainglobe)
        name.setContentsMargins(0, 0, 0, 0)
        name.addWidget(self.name, 1)
        name.addWidget(self.open_button)
        for widget in (self._brainglobe, self.progress, self.words, self.lay_button):
            layout.addWidget(widget)
        self._brainglobe.setVisible(False)
        self.progress.setVisible(False)

    # What the user does

    def _on_chosen(self, index: int) -> None:
        kind = self.choice.itemData(index)
        self._outcome = ""
        self._brainglobe.setVisible(kind == BRAINGLOBE)
        if kind == BRAINGLOBE:
            self._say("")
            self._offer_names()
            self.name.setFocus()
        elif kind == VOLUME:
            self._browse_volume()
        else:
            self._say("")
            self._structures.choose(kind)

    def _offer_names(self) -> None:
        if self._listing is None:
            self._listing = RunningJob(lambda _: AtlasSpec(), self)
            self._listing.ended.connect(self._on_listed)

    def _on_listed(self, event: Finished | Failed) -> None:
        # A list that cannot be had is no loss: any name can be typed.
        if isinstance(event, Finished):
            self._names.setStringList(event.result["names"])

    def _on_open(self) -> None:
        if self._job is not None:
            self._job.cancel()
            return
        name = self.name.text().strip()
        if name:
            self.fetch(name)

    def _browse_volume(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose an annotation volume", "", VOLUME_FILES)
        if not path:
            self.refresh()
            return
        table: str | None = None
        if not (Path(path).parent / "structures.csv").exists():
            table, _ = QFileDialog.getOpenFileName(
                self, "Choose the table of its structures", str(Path(path).parent), TABLE_FILES
            )
            if not table:
                self.refresh()
                return
        self.open_volume(path, table)

    def open_volume(self, path: str, table: str | None = None) -> None:
        """Open an annotation volume; its table is ``structures.csv`` beside it if not given."""
        from napari_teramind.atlas import read_annotation

        self._open(path, read_annotation, path, table)

    def fetch(self, name: str) -> None:
        """Open an atlas of BrainGlobe, fetched first if it has to be."""
        self._outcome = ""
        self._job = RunningJob(lambda _: AtlasSpec(source=name), self)
        self._job.told.connect(self._on_told)
        self._job.ended.connect(lambda event: self._on_fetched(name, event))
        self._say(f"Looking for {name} ...", busy=True)

    def _on_told(self, event: Any) -> None:
        if isinstance(event, Progress):
            left = event.time_left()
            self._say(event.message + (f": {left}" if left else " ..."), busy=True)
            self.progress.setMaximum(event.total)
            self.progress.setValue(event.done)

    def _on_fetched(self, name: str, event: Finished | Failed) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.deleteLater()
        if isinstance(event, Finished):
            from napari_teramind.atlas import load_brainglobe

            self._open(name, load_brainglobe, name)
            return
        if was_cancelled(event):
            self._outcome = "Cancelled."
        else:
            self._outcome = event.message
            show_error(event.message)
        self._say(self._outcome)

    def _open(self, source: str, function: Any, *arguments: Any) -> None:
        self._opening, self._outcome = source, ""
        self._say(f"Reading {Path(source).name} ...", busy=True)
        self.progress.setMaximum(0)
        Beside(self, function, *arguments, then=lambda found: self._on_opened(source, found))

    def _on_opened(self, source: str, found: Atlas | str) -> None:
        if source != self._opening:
            return  # another one was asked for meanwhile
        self._opening = ""
        if isinstance(found, str):
            self._outcome = found
            show_error(found)
            self.refresh()
            return
        self._brainglobe.setVisible(False)
        self._say("")
        self._structures.add_atlas(found, source)
        self.opened.emit()

    def _lay_over(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Choose the transforms of the slices", "", TRANSFORM_FILES
        )
        if path:
            self.lay_over(Path(path))

    def lay_over(self, path: Path) -> None:
        """Lay the chosen atlas over the slices of the brain."""
        try:
            self._structures.lay_over(path)
        except UserError as error:
            show_error(str(error))

    # What follows

    def _say(self, words: str, busy: bool = False) -> None:
        self.words.setText(words)
        self.words.setVisible(bool(words))
        self.progress.setVisible(busy)
        self.open_button.setText("Cancel" if self._job is not None else "Open")
        self.name.setEnabled(self._job is None)

    def refresh(self) -> None:
        """Show the choice as it is now."""
        structures = self._structures
        self.choice.clear()
        self.choice.addItem("This brain's own", OWN)
        for found in structures.atlases():
            self.choice.addItem(short(found.title), found.key)
            self.choice.setItemData(
                self.choice.count() - 1, found.atlas, Qt.ItemDataRole.ToolTipRole
            )
        self.choice.addItem("BrainGlobe atlas ...", BRAINGLOBE)
        self.choice.addItem("Annotation volume ...", VOLUME)
        asking = self._brainglobe.isVisibleTo(self)
        self.choice.setCurrentIndex(
            self.choice.findData(BRAINGLOBE if asking else structures.choice)
        )
        chosen = structures.current
        own_space = chosen is not None and chosen.atlas is not None and chosen.brain is None
        self.lay_button.setVisible(own_space and self._session.brain is not None)
        if structures.busy:
            self._say("Looking where structures lie ...", busy=True)
            self.progress.setMaximum(0)
        elif not self._opening and self._job is None:
            self._say(self._outcome or (structures.problem if structures.current is None else ""))

    def _abandon(self) -> None:
        for job in (self._job, self._listing):
            if job is not None:
                job.abandon()

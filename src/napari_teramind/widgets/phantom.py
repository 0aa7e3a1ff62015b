"""The phantom animals: made once in a process of their own, kept, and opened at once after that."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari import current_viewer
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_teramind.errors import UserError
from napari_teramind.jobs import Failed, Finished, JobProcess, PhantomSpec, Progress
from napari_teramind.plugin.reader import NO_LAYERS, is_brain, read
from napari_teramind.widgets import settings
from napari_teramind.widgets.generation import was_cancelled
from napari_teramind.widgets.opening import open_anything
from napari_teramind.widgets.parts import MARGIN, sentence
from napari_teramind.widgets.running import RunningJob
from napari_teramind.widgets.session import session_of

if TYPE_CHECKING:
    from napari import Viewer

SCHEME = "teramind://phantom/"
ANIMALS = {
    "main": "Phantom mouse brain",
    "supp_m": "Phantom mouse brain, supporting male",
    "supp_f": "Phantom mouse brain, supporting female",
}
SIZE = "S"
PARTIAL = ".making-"
STALE_SECONDS = 24 * 3600

_makings: dict[str, Making] = {}


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """Return a reader if `path` is the address of a phantom animal, else None."""
    address = path[0] if isinstance(path, list) else path
    return read_phantom if address in [SCHEME + animal for animal in ANIMALS] else None


def read_phantom(path: str | list[str]) -> list[Any]:
    """Read a phantom's layers; if it was never made, start making it and read nothing yet.

    Without a viewer nobody could be told when it is ready, so there it is waited for.
    """
    address = path[0] if isinstance(path, list) else path
    animal = address.removeprefix(SCHEME)
    viewer = current_viewer()
    if viewer is None and not is_brain(kept(animal)):
        _make_and_wait(animal)
    if is_brain(kept(animal)):
        if viewer is not None:
            QTimer.singleShot(0, lambda: open_brain_panel(viewer))
        return read(str(kept(animal)))
    show_phantom(viewer, animal)
    return NO_LAYERS


def kept(animal: str) -> Path:
    """Where a phantom animal is kept once it is made."""
    return settings.phantom_folder() / f"{animal}-{SIZE}-seed0.zarr"


def show_phantom(viewer: Viewer, animal: str) -> None:
    """Open a phantom animal; if it was never made, make it and open it when it is ready."""
    if is_brain(kept(animal)):
        open_anything(session_of(viewer), str(kept(animal)), lambda _: open_brain_panel(viewer))
        return
    name = ANIMALS[animal]
    if name not in viewer.window.dock_widgets:
        panel = MakingPanel(viewer, making_of(animal))
        viewer.window.add_dock_widget(panel, name=name, area="right", tabify=True)


def open_brain_panel(viewer: Viewer) -> None:
    """Open the Brain panel, unless it is open."""
    from napari_teramind.widgets.brain import BrainWidget

    name = "Brain (Tera-MIND)"  # as napari names it when it is opened from the menu
    if name not in viewer.window.dock_widgets:
        viewer.window.add_dock_widget(BrainWidget(viewer), name=name, area="right", tabify=True)


class Making(QObject):
    """A phantom animal being made, for all viewers that want it.

    It is made under another name and takes its own in the end, so that what is found under that
    name is always whole, and nothing is ever overwritten.
    """

    progressed = Signal(str, int, int)
    """Words, units done, units in all (0: not known)."""
    ended = Signal(object)
    """``Finished`` or ``Failed``; exactly once."""

    def __init__(self, animal: str) -> None:
        super().__init__()
        self.animal = animal
        folder = settings.phantom_folder()
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        self.partial = folder / f"{PARTIAL}{animal}-{uuid.uuid4().hex}.zarr"
        self.job = RunningJob(lambda _: _spec(animal, self.partial), self)
        self.job.told.connect(self._on_event)
        self.job.ended.connect(self._on_ended)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Progress):
            left = event.time_left()
            words = event.message + (f": {left}" if left else "")
            self.progressed.emit(words, event.done, event.total)

    def _on_ended(self, event: Finished | Failed) -> None:
        _makings.pop(self.animal, None)
        target = kept(self.animal)
        if isinstance(event, Finished) and not target.exists():
            self.partial.rename(target)
        else:
            threading.Thread(
                target=shutil.rmtree, args=(self.partial,), kwargs={"ignore_errors": True}
            ).start()
        self.ended.emit(event)


def making_of(animal: str) -> Making:
    """Return the making of an animal that is going on, or begin one."""
    if animal not in _makings:
        _makings[animal] = Making(animal)
    return _makings[animal]


class MakingPanel(QWidget):
    """Shows how far a phantom is, and opens it in its viewer when it is ready.

    Parameters
    ----------
    viewer
        Where to open the phantom; held weakly.
    making
        What to show.
    """

    def __init__(self, viewer: Viewer, making: Making) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._making = making
        self.words = sentence("Starting")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setMaximum(0)
        self.button = QPushButton("Cancel")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        layout.addWidget(
            sentence(
                f"<b>{ANIMALS[making.animal]}</b> is being made. This is done once and takes about "
                "a minute; after that it opens at once."
            )
        )
        for widget in (self.progress, self.words, self.button):
            layout.addWidget(widget)
        self.button.clicked.connect(self._cancel)
        making.progressed.connect(self._on_progress)
        making.ended.connect(self._on_ended)

    def _cancel(self) -> None:
        self.button.setEnabled(False)
        self.words.setText("Cancelling")
        self._making.job.cancel()

    def _on_progress(self, words: str, done: int, total: int) -> None:
        if self.button.isEnabled():
            self.words.setText(words)
            self.progress.setMaximum(total)
            self.progress.setValue(done)

    def _on_ended(self, event: Finished | Failed) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        if ANIMALS[self._making.animal] in viewer.window.dock_widgets:
            viewer.window.remove_dock_widget(self)
        if isinstance(event, Finished):
            show_phantom(viewer, self._making.animal)
        elif was_cancelled(event):
            show_info("The phantom was not made: you cancelled it.")
        else:
            show_error(event.message)


def _spec(animal: str, out: Path) -> PhantomSpec:
    return PhantomSpec.model_validate({"animal": animal, "size": SIZE, "out": out})


def _make_and_wait(animal: str) -> None:
    settings.phantom_folder().mkdir(parents=True, exist_ok=True)
    partial = settings.phantom_folder() / f"{PARTIAL}{animal}-{uuid.uuid4().hex}.zarr"
    with JobProcess(_spec(animal, partial), dies_with_parent=True) as job:
        *_, last = job.events()
    if isinstance(last, Failed):
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(last.message)
    partial.rename(kept(animal))


def _remove_stale(folder: Path) -> None:
    """Remove what killed makings left behind long ago."""
    for left in folder.glob(f"{PARTIAL}*"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)

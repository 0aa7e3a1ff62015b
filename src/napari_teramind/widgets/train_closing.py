"""Asking, when napari is closed while a training runs, whether it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

from napari_teramind.widgets.train_runs import ask_to_stop

KEEP, STOP, STAY = "Keep training", "Stop and save", "Cancel"


class AskOnClose(QObject):
    """Asks, when a window is about to close, whether the training that it shows shall go on.

    Parameters
    ----------
    window
        The window.
    going_run
        Returns the folder of the run that is going on, or None.
    """

    def __init__(self, window: QMainWindow, going_run: Callable[[], Path | None]) -> None:
        super().__init__(window)
        self._going_run = going_run
        window.installEventFilter(self)

    @classmethod
    def for_window_of(
        cls, widget: QWidget, going_run: Callable[[], Path | None]
    ) -> AskOnClose | None:
        """Ask when the window that a widget is part of closes; None if it is part of none."""
        window: QWidget | None = widget
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        return None if window is None else cls(window, going_run)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask before the window hears that it shall close."""
        if event.type() != QEvent.Type.Close or not _is_in_use(watched):
            return False
        try:
            folder = self._going_run()
        except RuntimeError:  # the panel was closed before its window
            return False
        if folder is None:
            return False
        answer = ask(watched, folder)
        if answer == STAY:
            event.ignore()
            return True
        if answer == STOP:
            ask_to_stop(folder)
        return False


def _is_in_use(window: QObject) -> bool:
    """Whether a person closes the window: a program that closes a viewer has emptied it before."""
    central = window.centralWidget() if isinstance(window, QMainWindow) else None
    if central is None or not central.isVisible():
        return False
    inside = central.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return any(widget.isVisible() for widget in inside)


def ask(window: QObject, folder: Path) -> str:
    """Return which of `KEEP`, `STOP` and `STAY` the user wants."""
    box = QMessageBox(window if isinstance(window, QWidget) else None)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Training is running")
    box.setText(f"The training {folder.name} is running. Shall it go on without napari?")
    box.setInformativeText("The Train panel finds it again when you open it the next time.")
    keep = box.addButton(KEEP, QMessageBox.ButtonRole.AcceptRole)
    stop = box.addButton(STOP, QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(STAY, QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(keep)
    box.exec()
    clicked = box.clickedButton()
    return KEEP if clicked is keep else STOP if clicked is stop else STAY

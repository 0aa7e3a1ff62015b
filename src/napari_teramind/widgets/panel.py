"""What every panel is: a widget of one viewer, with that viewer's session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_teramind.widgets.session import session_of

if TYPE_CHECKING:
    import napari

OURS = (" (Tera-MIND)", " (napari-teramind)")
"""What napari adds to the names of our panels, opened from the menu and from Python."""


class Panel(QWidget):
    """A panel that shares its session with the others of its viewer.

    Parameters
    ----------
    napari_viewer
        The viewer that the panel is docked in.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.placed = False

    def showEvent(self, event: QShowEvent) -> None:
        """Watch the window that the panel is part of; there is none before."""
        super().showEvent(event)
        self.session.watch(self)
        if not self.placed:
            self.placed = True
            QTimer.singleShot(0, self._join_others)  # napari has not finished adding the dock

    def _join_others(self) -> None:
        """Share the place of our other panels, as tabs: below each other none would have room."""
        dock = dock_of(self)
        window = None if dock is None else dock.parentWidget()
        if dock is not None:
            _shorten_tab(dock)
        if dock is None or dock.isFloating() or not isinstance(window, QMainWindow):
            return
        area = window.dockWidgetArea(dock)
        others = [
            other
            for panel in window.findChildren(Panel)
            if panel is not self
            and (other := dock_of(panel)) is not None
            and panel.placed
            and not other.isFloating()
            and not other.isHidden()
            and window.dockWidgetArea(other) == area
        ]
        if others and not window.tabifiedDockWidgets(dock):
            window.tabifyDockWidget(others[-1], dock)
            dock.raise_()


def _shorten_tab(dock: QDockWidget) -> None:
    """Leave the plugin's name out of a tab, where six of them would be cut off.

    napari's title bar and menus keep the whole name.
    """
    name, action = dock.windowTitle(), dock.toggleViewAction()
    for ours in OURS:
        dock.setWindowTitle(dock.windowTitle().removesuffix(ours))
    if action is not None:
        action.setText(name)


def dock_of(widget: QWidget) -> QDockWidget | None:
    """Return the dock that a widget is in."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent

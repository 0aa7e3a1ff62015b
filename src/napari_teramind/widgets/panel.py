"""What every panel is: a widget of one viewer, with that viewer's session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QWidget

from napari_teramind.widgets.session import session_of

if TYPE_CHECKING:
    import napari


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

    def showEvent(self, event: QShowEvent) -> None:
        """Watch the window that the panel is part of; there is none before."""
        super().showEvent(event)
        self.session.watch(self)

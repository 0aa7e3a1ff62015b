"""A field for what no file dialog finds: an address, a zip file, an image of another program."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_teramind.widgets.opening import open_anything
from napari_teramind.widgets.session import Session


class OpenAnything(QWidget):
    """Opens a path or an address: a brain, or any OME-Zarr image.

    Parameters
    ----------
    session
        Whose viewer.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.address = QLineEdit()
        self.address.setPlaceholderText("Path, https:// or s3://")
        self.address.setToolTip(
            "A brain or any OME-Zarr image (0.4, 0.5): a folder, a zip file, or an address; only "
            "what you look at is read"
        )
        self.button = QPushButton("Open")
        self.button.setToolTip("Open the path or the address")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.address, 1)
        layout.addWidget(self.button)
        self.button.clicked.connect(self.open)
        self.address.returnPressed.connect(self.open)

    def open(self) -> None:
        """Open what was typed."""
        path = self.address.text().strip()
        if path and self.button.isEnabled():
            self.button.setEnabled(False)
            self.button.setText("Reading")
            open_anything(self._session, path, self._opened)

    def _opened(self, done: bool) -> None:
        """Leave what cannot be opened in the field: there may be a slip of the pen in it."""
        if done:
            self.address.clear()
        self.button.setEnabled(True)
        self.button.setText("Open")

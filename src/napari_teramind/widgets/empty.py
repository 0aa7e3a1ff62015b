"""What a panel shows while there is no brain: what to do about it."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_teramind.widgets.open_anything import OpenAnything
from napari_teramind.widgets.opening import open_anything
from napari_teramind.widgets.parts import MARGIN, sentence
from napari_teramind.widgets.phantom import show_phantom
from napari_teramind.widgets.session import Session


class NoBrain(QWidget):
    """Offers to open a brain, or to try the phantom.

    Parameters
    ----------
    session
        Of the viewer that it is opened in.
    margin
        Around everything; none within a panel that has one already.
    """

    def __init__(self, session: Session, margin: int = MARGIN) -> None:
        super().__init__()
        self._session = session
        self.open_button = QPushButton("Open a brain ...")
        self.open_button.setToolTip("Open a brain store: a folder that ends in .zarr")
        self.opening = OpenAnything(session)
        self.phantom_button = QPushButton("Try the phantom")
        self.phantom_button.setToolTip("A procedural mouse brain; made here, no download")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(margin, margin, margin, margin)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        layout.addWidget(sentence("<b>No brain yet.</b> Open a brain, or try the phantom."))
        layout.addWidget(self.open_button)
        layout.addWidget(self.phantom_button)
        layout.addWidget(self.opening)
        layout.addWidget(
            sentence(
                "A brain is a store with stains and gene expression, made with "
                "<code>teramind import</code>."
            )
        )
        self.open_button.clicked.connect(self._open)
        self.phantom_button.clicked.connect(self._try_phantom)

    def _open(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a brain (a folder that ends in .zarr)")
        if path:
            open_anything(self._session, path)

    def _try_phantom(self) -> None:
        viewer = self._session.viewer
        if viewer is not None:
            show_phantom(viewer, "main")

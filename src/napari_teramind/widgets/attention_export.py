"""Exports of a result, from a button with a menu; each is a job of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QWidget

from napari_teramind.jobs import ExportSpec, Failed, Finished, Progress, build_spec
from napari_teramind.plugin.attention import View
from napari_teramind.widgets.generation import was_cancelled
from napari_teramind.widgets.running import RunningJob

FORMS = (
    ("Figure (PNG)", ".png"),
    ("Table of structures (CSV)", ".csv"),
    ("Table of structures (Parquet)", ".parquet"),
    ("Maps as OME-TIFF, for QuPath", ".ome.tif"),
    ("Maps as NIfTI", ".nii.gz"),
    ("Maps as OME-Zarr", ".zarr"),
)


class Exporting(QObject):
    """Exports one thing at a time."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.words = ""
        self._job: RunningJob | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return self._job is not None

    def start(self, brain: str, result: str, view: View, out: Path) -> None:
        """Write a file; the user has been asked whether what is there may be replaced.

        Parameters
        ----------
        brain, result
            What to export.
        view
            The pair and map of a figure.
        out
            Its ending says the form.

        Raises
        ------
        UserError
            If a field cannot be.
        """
        fields = {
            "verb": "export",
            "brain": brain,
            "image": f"attention/{result}",
            "out": out,
            "pair": view.pair,
            "map": view.map,
            "overwrite": True,
        }
        spec = build_spec(fields, "This export")
        if not isinstance(spec, ExportSpec):
            raise TypeError(type(spec))
        self._job = RunningJob(lambda _: spec, self)
        self._job.told.connect(self._on_told)
        self._job.ended.connect(self._on_ended)
        self._say(f"Writing {out.name} ...")

    def forget(self) -> None:
        """Leave unsaid how the last export ended, now that the user has gone on."""
        if not self.busy and self.words:
            self._say("")

    def cancel(self) -> None:
        """End the export; nothing half written stays behind."""
        if self._job is not None:
            self._job.cancel()

    def abandon(self) -> None:
        """End it and tell nobody."""
        if self._job is not None:
            self._job.abandon()
            self._job = None

    def _on_told(self, event: Any) -> None:
        if isinstance(event, Progress):
            share = f": {event.done / event.total:.0%}" if event.total else " ..."
            self._say(f"{event.message}{share}")

    def _on_ended(self, event: Finished | Failed) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.deleteLater()
        if isinstance(event, Finished):
            words = f"Wrote {event.result['path']}."
            show_info(words)
        elif was_cancelled(event):
            words = "Nothing was written: you cancelled it."
        else:
            words = event.message
            show_error(words)
        self._say(words)

    def _say(self, words: str) -> None:
        self.words = words
        self.changed.emit()


def export_button(parent: QWidget, chosen: Any) -> QPushButton:
    """Return a button whose menu offers the forms; ``chosen(ending)`` is called with one."""
    button = QPushButton("Export")
    button.setToolTip("Write the result to a file for other programs")
    menu = QMenu(parent)
    for title, ending in FORMS:
        action = menu.addAction(f"{title} ...")
        assert action is not None
        action.triggered.connect(lambda _=False, ending=ending: chosen(ending))
    button.setMenu(menu)
    return button


def ask_where(parent: QWidget, name: str, ending: str) -> Path | None:
    """Ask for a file; the system asks before one is replaced."""
    path, _ = QFileDialog.getSaveFileName(
        parent, "Export", f"{name}{ending}", f"*{ending};;All files (*)"
    )
    if not path:
        return None
    return Path(path if path.endswith(ending) else f"{path}{ending}")

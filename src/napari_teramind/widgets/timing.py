"""How long a patch takes on this computer, measured before the first run."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_teramind.errors import UserError
from napari_teramind.jobs import Finished, build_spec
from napari_teramind.widgets import settings
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.running import RunningJob

SETTLE_MS = 1500
"""How long a panel's settings must stay as they are before anything is measured."""


class Timing(QObject):
    """Has the warm worker plan a generation, which times a few evaluations and keeps it ready.

    Each checkpoint is measured once; a failure says nothing, for the generation will say it.
    """

    changed = Signal()
    """A time was measured."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._asked: set[str] = set()
        self._values: dict[str, Any] = {}
        self._job: RunningJob | None = None
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLE_MS)
        self._settled.timeout.connect(self._start)

    def ask(self, values: dict[str, Any]) -> bool:
        """Measure soon for fields of a `SimulateSpec`; tell whether an answer can be expected."""
        checkpoint = str(values["checkpoint"])
        if checkpoint not in self._asked:
            self._values = values
            self._settled.start()
            return True
        return self._job is not None

    def stop(self) -> None:
        """Measure nothing any more, as when something is generated or the window goes."""
        self._settled.stop()
        job, self._job = self._job, None
        if job is not None:
            job.abandon()

    def _start(self) -> None:
        values = self._values
        checkpoint = str(values["checkpoint"])
        self._asked.add(checkpoint)
        fields = {**values, "verb": "simulate", "dry_run": True, "replicates": 1}
        try:
            spec = build_spec(fields, "This generation")
        except UserError:
            return
        self._job = RunningJob(lambda _: spec, self, warm=True)
        self._job.ended.connect(lambda event: self._on_ended(event, checkpoint))

    def _on_ended(self, event: Any, checkpoint: str) -> None:
        self._job = None
        if isinstance(event, Finished) and event.result.get("seconds"):
            pace = event.result["seconds"] / event.result["evaluations"]
            Beside(
                self, settings.remember_speed, checkpoint, pace, then=lambda _: self.changed.emit()
            )
        else:
            self.changed.emit()

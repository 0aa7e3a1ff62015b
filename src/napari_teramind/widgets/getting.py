"""Getting published networks, as a panel sees it: a job that outlives the window."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import platformdirs
from qtpy.QtCore import QObject, Signal

from napari_teramind.jobs import Failed, GetCheckpointSpec, Progress, build_spec
from napari_teramind.jobs.detached import outcome
from napari_teramind.jobs.process import SPEC_FILE
from napari_teramind.widgets import settings
from napari_teramind.widgets.watching import WatchedJob


def jobs_folder() -> Path:
    """Folder in which the jobs keep their events."""
    return platformdirs.user_data_path(settings.APP, appauthor=False) / "download-jobs"


class Getting(QObject):
    """A download that goes on when the window is closed. Make it with `start` or `find`."""

    progressed = Signal()
    ended = Signal(object)
    """``Finished`` or ``Failed``; exactly once, and not at all after `leave`."""

    def __init__(self, job: WatchedJob, name: str) -> None:
        super().__init__()
        self.name = name
        self.words, self.done, self.total = "Starting", 0, 0
        self.cancelling = False
        self._job = job
        job.setParent(self)
        job.told.connect(self._on_event)
        job.ended.connect(self.ended)

    @classmethod
    def start(cls, name: str, genes: str | None) -> Getting:
        """Start getting the networks of a published file, into the user's folder.

        Parameters
        ----------
        name
            Of the file, as ``main``.
        genes
            Their panel: a CSV, its web address, a brain; None for no names.

        Raises
        ------
        UserError
            If a field cannot be.
        """
        fields = {"name": name, "genes": genes, "folder": settings.checkpoint_folder()}
        spec = build_spec({**fields, "verb": "checkpoint-get"}, "This download")
        if not isinstance(spec, GetCheckpointSpec):
            raise TypeError(type(spec))
        _tidy()
        folder = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        return cls(WatchedJob.start(spec, jobs_folder() / folder), name)

    @classmethod
    def find(cls) -> Getting | None:
        """Find a download that goes on, as after napari was closed and opened again."""
        for folder in sorted(jobs_folder().glob("*"), reverse=True):
            try:
                values = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(values, dict) and outcome(folder) is None:
                return cls(WatchedJob(folder), str(values.get("name")))
        return None

    def cancel(self) -> None:
        """End the download; `ended` follows. What has arrived is found again by the next."""
        self.cancelling = True
        self._job.cancel()
        self._say("Cancelling")

    def leave(self) -> None:
        """Listen no more; the download goes on."""
        self._job.leave()

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Progress) and not self.cancelling:
            left = event.time_left()
            self.done, self.total = event.done, event.total
            self._say(f"{event.message}, {left}" if left else event.message)

    def _say(self, words: str) -> None:
        self.words = words
        self.progressed.emit()


def _tidy() -> None:
    """Remove what jobs left behind that ended unseen, but for those whose log may be wanted."""
    for folder in jobs_folder().glob("*"):
        last = outcome(folder)
        if last is not None and not (isinstance(last, Failed) and last.log is not None):
            shutil.rmtree(folder, ignore_errors=True)

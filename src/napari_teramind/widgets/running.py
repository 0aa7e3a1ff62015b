"""A job seen from the event loop: its events as signals, and nothing that waits."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QObject, QTimer, Signal

from napari_teramind.jobs import Failed, Finished, JobProcess, JobSpec
from napari_teramind.jobs.process import WatchedJob
from napari_teramind.jobs.warm import run_warm
from napari_teramind.widgets.preferences import preferences

POLL_MS = 100


class RunningJob(QObject):
    """Starts a job in a process of its own and tells its events.

    The job ends with this process, however this process ends, unless it is to outlive it.

    Parameters
    ----------
    make_spec
        Called with the job's own new folder, for previews and the like; returns what to do.
    parent
        Qt parent.
    warm
        Let the process do it that did the last such job, if it is there and free: it need not load
        the network again, and knows the states of the last generation.
    outlives
        Let the job go on when this process ends, or when nobody listens any more.
    """

    told = Signal(object)
    """Every event but the last."""
    ended = Signal(object)
    """``Finished`` or ``Failed``; exactly once."""

    def __init__(
        self,
        make_spec: Callable[[Path], JobSpec],
        parent: QObject | None = None,
        warm: bool = False,
        outlives: bool = False,
    ) -> None:
        super().__init__(parent)
        self._outlives = outlives
        folder = Path(tempfile.mkdtemp(prefix="teramind-"))
        try:
            spec = make_spec(folder)
            job = run_warm(spec, folder, 60 * preferences().memory.idle_minutes) if warm else None
            self._job: WatchedJob = job or JobProcess(spec, folder, dies_with_parent=not outlives)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._timer.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._job.pid

    @property
    def folder(self) -> Path:
        """The job's own folder; kept after a failure, with the log, and removed otherwise."""
        return self._job.folder

    def cancel(self) -> None:
        """Ask the job to end; `ended` follows when it has."""
        self._job.cancel()

    def abandon(self) -> None:
        """Listen no more, as when the window goes, and end the job unless it is to go on."""
        self._timer.stop()
        if self._outlives:
            return
        self._job.cancel()
        self._remove_folder()

    def _poll(self) -> None:
        for event in self._job.read():
            if not isinstance(event, Finished | Failed):
                self.told.emit(event)
                continue
            self._timer.stop()
            if isinstance(event, Finished) or not event.log:
                self._remove_folder()
            self.ended.emit(event)

    def _remove_folder(self) -> None:
        # The process may take a moment to go after its last word; the event loop must not wait.
        threading.Thread(target=self._job.remove_folder, daemon=True).start()

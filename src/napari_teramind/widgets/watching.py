"""A job that outlives the window, seen from the event loop: started here, or found again."""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from pydantic import ValidationError
from qtpy.QtCore import QObject, QTimer, Signal

from napari_teramind.jobs import Event, Failed, Finished, JobProcess, JobSpec, parse_event
from napari_teramind.jobs.detached import kill, outcome, process_of, start_detached
from napari_teramind.jobs.events import CANCELLED
from napari_teramind.jobs.process import EVENTS_FILE

POLL_MS = 200
CANCELLED_WORDS = "Cancelled."


class WatchedJob(QObject):
    """Tells the events of a detached job, all of them from the first.

    Parameters
    ----------
    folder
        The job's folder.
    job
        The process, if this one has started it.
    parent
        Qt parent.
    """

    told = Signal(object)
    """Every event but the last."""
    ended = Signal(object)
    """``Finished`` or ``Failed``; exactly once, and not at all after `leave`."""

    def __init__(
        self, folder: Path, job: JobProcess | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.folder = folder
        self._job = job
        self._cancelled = False
        self._events: IO[bytes] | None = None
        self._rest = b""
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._timer.start()

    @classmethod
    def start(cls, spec: JobSpec, folder: Path, parent: QObject | None = None) -> WatchedJob:
        """Start a job that goes on without this window."""
        return cls(folder, start_detached(spec, folder), parent)

    def cancel(self) -> None:
        """End the job; `ended` follows when it has."""
        self._cancelled = True
        if self._job is not None:
            self._job.cancel()
        else:
            kill(process_of(self.folder))

    def leave(self) -> None:
        """Listen no more; the job goes on."""
        self._timer.stop()

    def remove_folder(self) -> None:
        """Remove what an ended job leaves behind, unless it died and its log may be wanted."""
        if self._events is not None:
            self._events.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _poll(self) -> None:
        for event in self._read():
            if not isinstance(event, Finished | Failed):
                self.told.emit(event)
                continue
            self._timer.stop()
            if self._cancelled and isinstance(event, Failed):
                event = Failed(message=CANCELLED_WORDS, exit_code=CANCELLED)
            if isinstance(event, Finished) or event.log is None:
                threading.Thread(target=self.remove_folder, daemon=True).start()
            self.ended.emit(event)
            return

    def _read(self) -> list[Event]:
        if self._job is not None:
            return self._job.read()
        # Asked before reading: what a process wrote before it ended is then surely read.
        last = outcome(self.folder)
        events = self._lines()
        if last is not None and not any(isinstance(e, Finished | Failed) for e in events):
            events.append(last)
        return events

    def _lines(self) -> list[Event]:
        try:
            if self._events is None:
                self._events = (self.folder / EVENTS_FILE).open("rb")
            *lines, self._rest = (self._rest + self._events.read()).split(b"\n")
        except OSError:
            return []
        found = []
        for line in lines:
            with suppress(ValidationError):  # something that a library printed
                found.append(parse_event(line))
        return found

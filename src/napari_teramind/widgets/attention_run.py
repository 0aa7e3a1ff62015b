"""One attention run as a panel sees it: started or found again, its words, its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_teramind.attention.pairs import MAPS
from napari_teramind.jobs import AttentionSpec, Progress, build_spec
from napari_teramind.widgets import attention_jobs as jobs
from napari_teramind.widgets.watching import WatchedJob


class AttentionRun(QObject):
    """A run that goes on when the window is closed. Make it with `start` or `find`."""

    progressed = Signal()
    ended = Signal(object)
    """``Finished`` or ``Failed``; exactly once, and not at all after `leave`."""

    def __init__(self, job: WatchedJob, fields: dict[str, Any]) -> None:
        super().__init__()
        self.fields = fields
        self.words, self.done, self.total = "Starting", 0, 0
        self.cancelling = False
        self._computing_since: float | None = None
        self._first_done = 0
        self._job = job
        job.setParent(self)
        job.told.connect(self._on_event)
        job.ended.connect(self.ended)

    @classmethod
    def start(cls, fields: dict[str, Any]) -> AttentionRun:
        """Start a run.

        Parameters
        ----------
        fields
            Fields of an `AttentionSpec`.

        Raises
        ------
        UserError
            If a field cannot be.
        """
        spec = build_spec({**fields, "verb": "attention"}, "This run")
        if not isinstance(spec, AttentionSpec):
            raise TypeError(type(spec))
        return cls(WatchedJob.start(spec, jobs.new_folder()), fields)

    @classmethod
    def find(cls, brain: str) -> AttentionRun | None:
        """Find a run of a brain that goes on, as after napari was closed and opened again."""
        found = jobs.going(brain)
        return None if found is None else cls(WatchedJob(found[0]), found[1])

    @property
    def folder(self) -> Path:
        """The job's folder."""
        return self._job.folder

    def cancel(self) -> None:
        """End the run; `ended` follows. What was computed is found again by the same run."""
        self.cancelling = True
        self._job.cancel()
        self._say("Cancelling")

    def leave(self) -> None:
        """Listen no more; the run goes on."""
        self._job.leave()

    def learn_speed(self, bins: int) -> None:
        """Keep how long a bin takes here, for the plan of the next run."""
        if self._computing_since is None or self.fields.get("structures") or self._first_done:
            return
        work = bins * len(self.fields.get("maps") or MAPS)
        if work < jobs.TELLING:
            return
        seconds = time.monotonic() - self._computing_since
        jobs.remember_seconds(str(self.fields["checkpoint"]), seconds / work)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Progress) and not self.cancelling:
            if self._computing_since is None:
                self._computing_since, self._first_done = time.monotonic(), event.done
            left = event.time_left()
            words = f"{event.message}: {left}" if left else event.message
            self._say(words, event.done, event.total)

    def _say(self, words: str, done: int | None = None, total: int | None = None) -> None:
        self.words = words
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.progressed.emit()

"""How far a batch is: in a file, and told to whoever started it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_teramind.jobs.batch.grid import BatchJob
from napari_teramind.jobs.process import EVENTS_FILE, LOG_FILE
from napari_teramind.jobs.records import replace_text
from napari_teramind.jobs.runner import JobContext

STATUS_FILE = "status.json"
State = Literal["waiting", "running", "done", "failed"]
_INTERVAL = 1.0
_SHARES = 1000


@dataclass
class Line:
    """One job on the board.

    Attributes
    ----------
    number
        Its place in the batch.
    job, folder
        Which, and where its events and its log are.
    state
        How it is.
    message
        What it said last.
    share
        How much of it is done, 0 to 1.
    skipped
        Whether it was done before.
    result
        Of a job that is done.
    """

    number: int
    job: BatchJob
    folder: Path
    state: State = "waiting"
    message: str = ""
    share: float = 0.0
    skipped: bool = False
    result: dict[str, Any] | None = None

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / LOG_FILE

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "name": self.job.name,
            "verb": self.job.spec.verb,
            "state": self.state,
            "message": self.message,
            "share": round(self.share, 4),
            "folder": str(self.folder),
            "log": str(self.log),
            "result": self.result,
        }


class Board:
    """The jobs of a batch and how far they are.

    Parameters
    ----------
    folder
        Of the batch.
    jobs
        In the order of the file.
    where
        Where they run, in words.
    context
        Told how far all of it is.
    """

    def __init__(
        self, folder: Path, jobs: Sequence[BatchJob], where: str, context: JobContext
    ) -> None:
        self._file, self._where, self._context = folder / STATUS_FILE, where, context
        self.lines = [
            Line(number, job, folder / "jobs" / job.name) for number, job in enumerate(jobs)
        ]
        self._last = float("-inf")

    def of(self, state: State) -> list[Line]:
        """Those in a state."""
        return [line for line in self.lines if line.state == state]

    def show(self, workers: int | None = None, now: bool = False) -> None:
        """Tell how far all is, about once a second.

        Parameters
        ----------
        workers
            How many there are, where that is known.
        now
            Do not wait for the second.
        """
        if not now and time.monotonic() - self._last < _INTERVAL * (1 + len(self.lines) / 1000):
            return
        self._last = time.monotonic()
        done, failed = len(self.of("done")), len(self.of("failed"))
        lines = [line.to_dict() for line in self.lines]
        status = {"where": self._where, "workers": workers, "updated": time.time(), "jobs": lines}
        replace_text(self._file, json.dumps(status, indent=1))
        words = f"{done} of {len(self.lines)} jobs done"
        if failed:
            words += f", {failed} failed"
        if workers == 0 and self.of("running"):
            words += ", waiting for workers"
        share = sum(1 if line.state in ("done", "failed") else line.share for line in self.lines)
        self._context.report(words, int(_SHARES * share), _SHARES * len(self.lines))


def told_share(folder: Path) -> tuple[str, float] | None:
    """Return what a job in another process said last of its progress, from its folder."""
    try:
        with (folder / EVENTS_FILE).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return None
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") == "progress":
            total = event.get("total") or 0
            return str(event.get("message", "")), event.get("done", 0) / total if total else 0.0
    return None

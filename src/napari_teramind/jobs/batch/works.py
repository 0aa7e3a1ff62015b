"""Jobs of a batch as tasks of a cluster: the side of whoever carries out the batch."""

from __future__ import annotations

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import JobError, UserError
from napari_teramind.jobs.batch import tasks
from napari_teramind.jobs.batch.board import Line, told_share
from napari_teramind.jobs.batch.cluster import lost
from napari_teramind.jobs.batch.session import Session
from napari_teramind.jobs.events import Failed, Finished, parse_event

if TYPE_CHECKING:
    from distributed import Future

    from napari_teramind.jobs.batch.cluster import Workers

MOST_LOSSES = 3
"""Times in a row that a job's tasks may be given up without one of them done."""

Landed = Callable[["Work", "Future"], None]


@dataclass
class Desk:
    """What works need.

    Attributes
    ----------
    workers
        That do the tasks.
    session
        Of this time that the batch is carried out.
    landed
        Called, from a thread of dask's, with every task that has ended.
    warn
        Told what the user should know.
    """

    workers: Workers
    session: Session
    landed: Landed
    warn: Callable[[str], None]


class Work(ABC):
    """A job that is being done by a cluster.

    Parameters
    ----------
    line
        The job.
    desk
        What it needs.

    Attributes
    ----------
    last : Finished, Failed or None
        How it ended.
    """

    def __init__(self, line: Line, desk: Desk) -> None:
        self.line, self.desk = line, desk
        self.last: Finished | Failed | None = None
        self._tasks: dict[Future, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._losses = 0

    @property
    def outstanding(self) -> int:
        """Tasks that have not ended."""
        return len(self._tasks)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Give the cluster a task."""
        client = self.desk.workers.client
        # Earlier jobs first, so that they are done one after the other.
        future = client.submit(function, *arguments, pure=False, priority=-self.line.number)
        self._tasks[future] = (function, arguments)
        future.add_done_callback(lambda ended: self.desk.landed(self, ended))
        return future

    def land(self, future: Future) -> None:
        """Take what a task has come to."""
        task = self._tasks.pop(future, None)
        if task is None or self.last is not None:
            return
        if future.cancelled():  # not by us: the scheduler was gone for a while
            raise JobError(lost(self.desk.workers.text))
        error = future.exception()
        if error is None:
            self._losses = 0
            self.took(future, future.result())
        elif type(error).__name__ == "KilledWorker":
            self._again(future, task, "its workers die again and again, as when memory is short")
        elif isinstance(error, tasks.NotWantedError):
            folder = self.line.folder.parent.parent
            self._again(future, task, f"its workers do not see {folder}, which all must share")
        elif isinstance(error, UserError):
            self.end(Failed(message=str(error)))
        else:
            self.fail(error)

    def _again(
        self, future: Future, task: tuple[Callable[..., Any], tuple[Any, ...]], why: str
    ) -> Future | None:
        self._losses += 1
        if self._losses >= MOST_LOSSES:
            self.end(Failed(message=f"The job was given up: {why}."))
            return None
        return self.submit(task[0], *task[1])

    def fail(self, error: BaseException) -> None:
        """End with an error that nobody foresaw; its details go into the log."""
        self.log("".join(traceback.format_exception(error)))
        reason = str(error).strip().splitlines()
        what = type(error).__name__ + (f": {reason[0].rstrip('.')}" if reason else "")
        message = f"The job failed unexpectedly ({what})."
        self.end(Failed(message=message, log=str(self.line.log)))

    def log(self, text: str) -> None:
        """Write a line into the job's log."""
        self.line.folder.mkdir(parents=True, exist_ok=True)
        with self.line.log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def end(self, last: Finished | Failed) -> None:
        """Note how it ended, and leave what is not done yet."""
        self.last = last
        self.close()

    def close(self) -> None:
        """Take back the tasks that have not ended."""
        futures, self._tasks = list(self._tasks), {}
        if futures and self.desk.workers.client.status == "running":
            self.desk.workers.client.cancel(futures)

    @abstractmethod
    def begin(self) -> None:
        """Give the cluster the first task."""

    @abstractmethod
    def took(self, future: Future, value: Any) -> None:
        """Take the result of a task."""

    @abstractmethod
    def look(self) -> None:
        """Bring the board up to date."""


class WholeWork(Work):
    """A job that one worker does, in a process of its own."""

    def begin(self) -> None:
        """Give the cluster the job."""
        fields = self.line.job.spec.model_dump(mode="json")
        self.submit(tasks.do_job, str(self.line.folder), fields, self.desk.session.watch())

    def took(self, future: Future, value: Any) -> None:
        """Take its last event."""
        last = parse_event(_as_json(value))
        if isinstance(last, Finished | Failed):
            self.end(last)

    def look(self) -> None:
        """Read how far it is from its folder."""
        told = told_share(self.line.folder)
        if told is not None:
            self.line.message, self.line.share = told


def _as_json(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value)

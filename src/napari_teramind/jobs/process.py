"""A job as a process of its own, watched from this one.

The job is started as ``python -m napari_teramind run FOLDER/job.json --json`` on every platform,
whoever starts it. It writes its events into a file of the job's folder, not into a pipe: so it
lives on when its parent goes away, and needs nothing of it. A job ends with its parent only when
that was asked for (``dies_with_parent=True``, or leaving the ``with`` block).

A job is therefore a folder and a command; something that starts the command elsewhere, such as a
cluster's scheduler, needs only to share the folder.
"""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from pydantic import ValidationError

from napari_teramind.jobs.events import (
    CANCELLED,
    Event,
    Failed,
    Finished,
    Warned,
    parse_event,
)
from napari_teramind.jobs.runner import CANCELLED_MESSAGE
from napari_teramind.jobs.specs import JobSpec, dump_spec

SPEC_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
LOG_FILE = "log.txt"


def job_command(folder: Path) -> list[str]:
    """Return the command that runs the job of a folder and prints its events.

    ``-P`` keeps files of the current folder from being imported in the place of libraries.
    """
    spec = str(folder / SPEC_FILE)
    module = [sys.executable, "-P", "-m", "napari_teramind"]
    return [*module, "run", spec, "--json", "--low-priority", "--log-folder", str(folder)]


class WatchedJob(ABC):
    """A job somewhere else, whose folder has its specification, its events and its log.

    Parameters
    ----------
    spec
        What to do. Relative paths count from the present folder.
    folder
        New or empty folder for the job's specification, events and log; default: a new one among
        the system's temporary files.
    """

    def __init__(self, spec: JobSpec, folder: Path | None = None) -> None:
        self.spec = spec
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"teramind-{spec.verb}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / SPEC_FILE).write_text(dump_spec(spec), encoding="utf-8")
        (self.folder / EVENTS_FILE).touch()
        self.ended = False
        self._cancelled = False
        self._rest = b""
        self._events: IO[bytes] = (self.folder / EVENTS_FILE).open("rb")

    @property
    @abstractmethod
    def pid(self) -> int:
        """Process id."""

    @abstractmethod
    def _exit_code(self) -> int | None:
        """Return the exit code of the job's process; None while it runs."""

    @abstractmethod
    def cancel(self, grace: float = 5.0) -> None:
        """Ask the job to end, and kill it if it has not after ``grace`` seconds; do not wait."""

    @abstractmethod
    def remove_folder(self) -> None:
        """Remove the job's folder with its events, log and previews, once the job has ended."""

    @property
    def log_path(self) -> Path:
        """File with everything that the job wrote to its standard error."""
        return self.folder / LOG_FILE

    def read(self) -> list[Event]:
        """Return the events since the last call, without waiting.

        The last event of a job is always ``Finished`` or ``Failed``, also when it was killed.
        """
        if self.ended:
            return []
        # Asked before reading: what a process wrote before it ended is then surely read.
        exit_code = self._exit_code()
        events = self._read_lines()
        if any(isinstance(event, Finished | Failed) for event in events):
            self.ended = True
        elif exit_code is not None:
            events.append(self._death(exit_code))
            self.ended = True
        return events

    def _read_lines(self) -> list[Event]:
        *lines, self._rest = (self._rest + self._events.read()).split(b"\n")
        return [self._parse(line) for line in lines]

    @staticmethod
    def _parse(line: bytes) -> Event:
        try:
            return parse_event(line)
        except ValidationError:
            return Warned(message=f"The job said: {line.decode(errors='replace')}")

    def _death(self, exit_code: int) -> Failed:
        if self._cancelled:
            return Failed(message=CANCELLED_MESSAGE, exit_code=CANCELLED)
        return Failed(
            message=f"The job ended unexpectedly (exit code {exit_code}), perhaps for lack of "
            f"memory; its log is {self.log_path}.",
            log=str(self.log_path),
        )

    def events(self, interval: float = 0.05) -> Iterator[Event]:
        """Yield events as they come, until the job has ended."""
        while not self.ended:
            yield from self.read()
            if not self.ended:
                time.sleep(interval)


class JobProcess(WatchedJob):
    """A running job, in a process of its own.

    Parameters
    ----------
    spec
        What to do. Relative paths count from the present folder.
    folder
        New or empty folder for the job's specification, events and log; default: a new one among
        the system's temporary files.
    dies_with_parent
        End the job when this process ends, however it ends.

    Examples
    --------
    >>> with JobProcess(spec) as job:
    ...     for event in job.events():
    ...         print(event)
    """

    def __init__(
        self, spec: JobSpec, folder: Path | None = None, *, dies_with_parent: bool = False
    ) -> None:
        super().__init__(spec, folder)
        command = job_command(self.folder)
        if dies_with_parent:
            command.append("--follow-stdin")
        self._process = self._start(command, dies_with_parent)

    def _start(self, command: list[str], dies_with_parent: bool) -> subprocess.Popen[bytes]:
        with (
            (self.folder / EVENTS_FILE).open("ab") as events,
            (self.folder / LOG_FILE).open("wb") as log,
        ):
            return subprocess.Popen(
                command,
                # Open for as long as this process lives, and never written to.
                stdin=subprocess.PIPE if dies_with_parent else subprocess.DEVNULL,
                stdout=events,
                stderr=log,
                # Ctrl-C in the terminal of the parent is the parent's own affair.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def _exit_code(self) -> int | None:
        return self._process.poll()

    def cancel(self, grace: float = 5.0) -> None:
        """Ask the job to end, and kill it if it has not after ``grace`` seconds; do not wait."""
        if self._process.poll() is not None:
            return
        self._cancelled = True
        self._process.terminate()
        threading.Thread(target=self._kill_after, args=(grace,), daemon=True).start()

    def _kill_after(self, grace: float) -> None:
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end and return its exit code.

        Raises
        ------
        subprocess.TimeoutExpired
            If it has not ended after ``timeout`` seconds.
        """
        return self._process.wait(timeout)

    def remove_folder(self) -> None:
        """Remove the job's folder with its events, log and previews, once the job has ended."""
        self.wait()
        self._events.close()
        shutil.rmtree(self.folder)

    def __enter__(self) -> JobProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()
        self.wait()


def end_with_stdin(grace: float = 5.0) -> None:
    """End this process soon after its standard input is closed, as it is when its parent ends."""

    def watch() -> None:
        sys.stdin.buffer.read()
        # Raises KeyboardInterrupt in the main thread as soon as that runs Python again. Not as
        # SIGINT, which is ignored where a script started its programs in the background.
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(grace)
        os._exit(CANCELLED)

    threading.Thread(target=watch, daemon=True).start()

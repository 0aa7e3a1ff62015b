"""Interactive jobs in a process that is there already; see :mod:`.worker` for that process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from napari_teramind.jobs.events import Failed, Finished
from napari_teramind.jobs.process import EVENTS_FILE, LOG_FILE, WatchedJob
from napari_teramind.jobs.specs import JobSpec

IDLE_SECONDS = 600.0
"""How long a worker waits for the next job before it ends, unless asked for otherwise."""


def worker_command(idle_seconds: float) -> list[str]:
    """Return the command of a worker."""
    return [sys.executable, "-P", "-m", "napari_teramind.jobs.worker", f"{idle_seconds:g}"]


class WarmWorker:
    """A process that waits for jobs, and ends with this one.

    Parameters
    ----------
    idle_seconds
        How long it waits before it ends by itself.
    """

    def __init__(self, idle_seconds: float) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="teramind-worker-"))
        with (self._folder / LOG_FILE).open("wb") as log:
            self._process = subprocess.Popen(
                worker_command(idle_seconds),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.job: WarmJob | None = None

    @property
    def log_path(self) -> Path:
        """File with everything that the worker said."""
        return self._folder / LOG_FILE

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def free(self) -> bool:
        """Whether it is there and has nothing to do."""
        return self.exit_code() is None and (self.job is None or self.job.ended)

    def exit_code(self) -> int | None:
        """Return the process's exit code; None while it runs."""
        return self._process.poll()

    def run(self, spec: JobSpec, folder: Path) -> WarmJob:
        """Begin a job.

        Raises
        ------
        OSError
            If the worker has just ended.
        """
        job = WarmJob(self, spec, folder)
        self.tell("run", folder)
        self.job = job
        return job

    def tell(self, what: str, folder: Path) -> None:
        """Send an order."""
        if self._process.stdin is None:
            raise BrokenPipeError
        self._process.stdin.write(json.dumps({what: str(folder)}).encode() + b"\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """Let the process end, and give back its memory; do not wait."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        threading.Thread(target=self._bury, daemon=True).start()

    def _bury(self) -> None:
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class WarmJob(WatchedJob):
    """A job that a worker does."""

    def __init__(self, worker: WarmWorker, spec: JobSpec, folder: Path) -> None:
        super().__init__(spec, folder)
        self._worker = worker

    @property
    def log_path(self) -> Path:
        """File with everything that the worker said."""
        return self._worker.log_path

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._worker.pid

    def _exit_code(self) -> int | None:
        return self._worker.exit_code()

    def cancel(self, grace: float = 5.0) -> None:
        """Ask the job to end, and kill its worker if it has not after ``grace`` seconds."""
        if self.ended or self._exit_code() is not None:
            return
        self._cancelled = True
        try:
            self._worker.tell("cancel", self.folder)
        except OSError:  # it has just ended, with its job
            return
        threading.Thread(target=self._kill_after, args=(grace,), daemon=True).start()

    def _kill_after(self, grace: float) -> None:
        if not self._wait(grace):
            self._worker.kill()

    def _wait(self, seconds: float) -> bool:
        """Wait for the job's last word; return whether it came."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ended or self._exit_code() is not None or self._has_said_last_word():
                return True
            time.sleep(0.05)
        return False

    def remove_folder(self) -> None:
        """Remove the job's folder with its events and previews, once the job has ended."""
        self._wait(60)
        self.ended = True
        self._events.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _has_said_last_word(self) -> bool:
        last = (self.folder / EVENTS_FILE).read_bytes().splitlines()[-1:]
        return bool(last) and isinstance(self._parse(last[0]), Finished | Failed)


_lock = threading.Lock()
_worker: WarmWorker | None = None


def run_warm(spec: JobSpec, folder: Path, idle_seconds: float = IDLE_SECONDS) -> WarmJob | None:
    """Begin a job in this process's worker, which is started if there is none.

    Parameters
    ----------
    spec, folder
        The job, and a new folder for it.
    idle_seconds
        How long a worker that is started now waits for the next job.

    Returns
    -------
    WarmJob or None
        None if the worker has something else to do, or has just ended.
    """
    global _worker
    with _lock:
        if _worker is not None and _worker.exit_code() is not None:
            _worker.close()
            _worker = None
        if _worker is None:
            _worker = WarmWorker(idle_seconds)
        if not _worker.free:
            return None
        try:
            return _worker.run(spec, folder)
        except OSError:  # it has just ended, as when it had been idle for long
            return None


def close_worker() -> None:
    """Let the worker end, so that its memory is given back; the next job starts another one."""
    global _worker
    with _lock:
        if _worker is not None:
            _worker.close()
            _worker = None


def worker_is_busy() -> bool:
    """Whether there is a worker that has a job to do."""
    with _lock:
        return _worker is not None and _worker.exit_code() is None and not _worker.free


def worker_pid() -> int | None:
    """Process id of the worker, if there is one."""
    with _lock:
        return None if _worker is None or _worker.exit_code() is not None else _worker.pid

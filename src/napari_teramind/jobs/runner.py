"""Running a job in this process: the one way for the command line, the widgets and a cluster."""

from __future__ import annotations

import errno
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from napari_teramind.errors import JobError, UserError
from napari_teramind.jobs.events import (
    BAD_INPUT,
    CANCELLED,
    Emit,
    Failed,
    Finished,
    Planned,
    Progress,
    Warned,
)
from napari_teramind.jobs.specs import JobSpec
from napari_teramind.jobs.warmth import Warmth

CANCELLED_MESSAGE = "The job was cancelled."


class JobContext:
    """What a verb gets for talking to whoever started it.

    Attributes
    ----------
    interrupted : bool
        Whether the job was asked to end: the next report raises KeyboardInterrupt.
    warmth : Warmth or None
        What this process keeps from job to job, if it does more than one.
    """

    MIN_INTERVAL = 0.1
    """Seconds between two progress events of one phase: enough for the eye, no burden on a pipe."""

    def __init__(
        self,
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
        warmth: Warmth | None = None,
    ) -> None:
        self.emit = emit
        self.warmth = warmth
        self.interrupted = False
        self._clock = clock
        self._phase: tuple[str, int] | None = None
        self._started = self._last = 0.0
        self._first_done = 0
        self._deadline = float("inf")

    def ends_within(self, seconds: float) -> None:
        """Promise that the present work ends after that time, however much of it is left."""
        self._deadline = self._clock() + seconds

    def report(self, message: str, done: int, total: int) -> None:
        """Tell how far the job is: the progress callback of every room."""
        if self.interrupted:
            raise KeyboardInterrupt
        now = self._clock()
        # A message may count ("slice 3 of 7"), so a phase is recognised by its words alone.
        phase = ("".join(c for c in message if not c.isdigit()), total)
        new = phase != self._phase
        if new:
            self._phase, self._started, self._first_done = phase, now, done
        if not new and done < total and now - self._last < self.MIN_INTERVAL:
            return
        self._last = now
        left = self._seconds_left(now, done, total)
        self.emit(Progress(message=message, done=done, total=total, seconds_left=left))

    def _seconds_left(self, now: float, done: int, total: int) -> float | None:
        elapsed, advanced = now - self._started, done - self._first_done
        if advanced <= 0 or total <= 0 or elapsed < 1:
            return None
        return max(0, min(elapsed / advanced * (total - done), self._deadline - now))

    def planned(self, text: str, **details: Any) -> None:
        """Say what is about to be done."""
        self.emit(Planned(text=text, details=details))

    def warn(self, message: str) -> None:
        """Say something the user should know."""
        self.emit(Warned(message=message))


def run_job(
    spec: JobSpec, emit: Emit, log_folder: Path | None = None, warmth: Warmth | None = None
) -> int:
    """Run a job in this process.

    Parameters
    ----------
    spec
        What to do.
    emit
        Called with every event; the last one is ``Finished`` or ``Failed``.
    log_folder
        Where an unexpected failure leaves its traceback; default: the user's log folder.
    warmth
        What this process keeps from job to job, if it does more than one.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed, 2 bad input, 130 cancelled.
    """
    from napari_teramind.jobs.verbs import execute
    from napari_teramind.model import kernels

    job = JobContext(emit, warmth=warmth)
    try:
        # What a job chooses is its own affair: another one in this process begins anew.
        with _warnings_as_events(emit), _noting_interrupts(job), kernels.using(None):
            result = execute(spec, job)
    except UserError as error:
        failed = Failed(message=str(error), exit_code=BAD_INPUT)
    except JobError as error:
        failed = Failed(message=str(error))
    except KeyboardInterrupt as stopped:  # a verb may say what is left of its work
        failed = Failed(message=str(stopped) or CANCELLED_MESSAGE, exit_code=CANCELLED)
    except BrokenPipeError:
        raise  # whoever listened is gone: there is no one to tell
    except OSError as error:
        told = _no_access(error)
        failed = (
            Failed(message=told, exit_code=BAD_INPUT) if told else _unexpected(error, log_folder)
        )
    except Exception as error:
        failed = _unexpected(error, log_folder)
    else:
        emit(Finished(result=result))
        return 0
    emit(failed)
    return failed.exit_code


@contextmanager
def _warnings_as_events(emit: Emit) -> Iterator[None]:
    """Tell plain UserWarnings as events; deprecations and the like are for developers."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category is UserWarning:
            emit(Warned(message=str(message)))
        else:
            usual(message, category, *where, **more)

    with warnings.catch_warnings():
        usual = warnings.showwarning
        warnings.showwarning = show
        yield


@contextmanager
def _noting_interrupts(job: JobContext) -> Iterator[None]:
    """Let an interrupt end the job at its next report at the latest.

    It is raised at once, but Python drops what is raised while it is in a destructor, or called
    back by a library.
    """

    def on_signal(number: int, frame: Any) -> None:
        job.interrupted = True
        raise KeyboardInterrupt

    kinds: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        # Those that are ignored, or that someone else handles, are left alone.
        both = (signal.SIGINT, signal.SIGTERM)
        kinds = [kind for kind in both if signal.getsignal(kind) is signal.default_int_handler]
    for kind in kinds:
        signal.signal(kind, on_signal)
    try:
        yield
    finally:
        for kind in kinds:
            signal.signal(kind, signal.default_int_handler)


def _no_access(error: OSError) -> str:
    """Say which folder cannot be used, if that is what is wrong; else ""."""
    denied = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
    if error.errno not in denied or not isinstance(error.filename, str):
        return ""
    # The file may be a temporary one, whose name says nothing to people.
    folder = Path(error.filename).absolute().parent
    reason = (error.strerror or "no access").lower()
    return (
        f"The folder {folder} cannot be used ({reason}); choose another, or ask for access to it."
    )


def _unexpected(error: Exception, log_folder: Path | None = None) -> Failed:
    """Write the traceback of a failure that nobody foresaw to a log, and tell it in a sentence."""
    folder = log_folder or platformdirs.user_log_path("napari-teramind", appauthor=False)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-"
    text = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = _write_log(text, name, folder)
    except OSError:  # a full or read-only home must not hide the failure itself
        log = _write_log(text, name, None)
    reason = str(error).strip().splitlines()
    what = type(error).__name__ + (f": {reason[0].rstrip('.')}" if reason else "")
    return Failed(
        message=f"The job failed unexpectedly ({what}); the details are in {log}.", log=str(log)
    )


def _write_log(text: str, prefix: str, folder: Path | None) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", prefix=prefix, suffix=".log", dir=folder, delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    return Path(file.name)

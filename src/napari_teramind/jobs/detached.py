"""Jobs that outlive whoever started them, found again by their folder."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import ValidationError

from napari_teramind.jobs.events import Failed, Finished, parse_event
from napari_teramind.jobs.process import EVENTS_FILE, LOG_FILE, JobProcess
from napari_teramind.jobs.specs import JobSpec
from napari_teramind.training.record import is_alive, process_facts

PROCESS_FILE = "process.json"
LOST_MESSAGE = (
    "The job ended unexpectedly: it was killed, the computer was restarted, or memory ran out"
)
TAIL_BYTES = 16_384
"""Enough of the end of an events file to hold the last event."""


def start_detached(spec: JobSpec, folder: Path) -> JobProcess:
    """Start a job that goes on when this process ends, and note in its folder which one it is.

    Parameters
    ----------
    spec
        What to do.
    folder
        New folder for the job.
    """
    job = JobProcess(spec, folder)
    (folder / PROCESS_FILE).write_text(json.dumps(process_facts(job.pid)), encoding="utf-8")
    return job


def outcome(folder: Path) -> Finished | Failed | None:
    """Return how a detached job ended; None while it runs.

    A job whose process is gone without a last word has failed.
    """
    # Asked before reading: what a process wrote before it ended is then surely read.
    alive = _alive(folder)
    last = _last_event(folder / EVENTS_FILE)
    if last is not None or alive:
        return last
    log = folder / LOG_FILE
    return Failed(
        message=f"{LOST_MESSAGE}; its log is {log}.",
        log=str(log),
    )


def kill(process: dict[str, object]) -> None:
    """End a process at once, if it is still the one that is meant.

    Parameters
    ----------
    process
        As :func:`napari_teramind.training.record.process_facts` writes it down.
    """
    if is_alive(process):
        with suppress(psutil.Error):
            psutil.Process(int(str(process["pid"]))).kill()


def process_of(folder: Path) -> dict[str, object]:
    """Return which process a detached job is; empty if that was not noted."""
    try:
        values = json.loads((folder / PROCESS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _alive(folder: Path) -> bool:
    process = process_of(folder)
    return bool(process) and is_alive(process)


def _last_event(path: Path) -> Finished | Failed | None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            event = parse_event(line)
        except ValidationError:
            continue  # cut off at the beginning, or something that a library printed
        return event if isinstance(event, Finished | Failed) else None
    return None

"""A job's own note of itself, for the history of jobs."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_teramind.jobs.events import (
    Emit,
    Event,
    Failed,
    Finished,
    Planned,
    Progress,
    Warned,
)
from napari_teramind.jobs.history import (
    PROCESS_FILE,
    PROGRESS_FILE,
    TITLES,
    append_event,
    history_folder,
    read_job,
)
from napari_teramind.jobs.process import EVENTS_FILE, SPEC_FILE
from napari_teramind.jobs.specs import JobSpec, dump_spec
from napari_teramind.training.record import process_facts

KEPT = 200
"""Jobs that ended which are kept; the oldest go first."""
PROGRESS_SECONDS = 1.0


@contextmanager
def noted(spec: JobSpec, emit: Emit) -> Iterator[Emit]:
    """Note a job while it runs here.

    Parameters
    ----------
    spec
        What it does.
    emit
        Where its events go.

    Yields
    ------
    Emit
        Where the job is to send its events: they are noted, and go on to ``emit``.
    """
    if spec.verb not in TITLES or getattr(spec, "dry_run", False):
        yield emit
        return
    try:
        note = _Note(spec)
    except OSError as error:
        emit(Warned(message=f"This job will not be listed by 'teramind jobs' ({error})."))
        yield emit
        return

    def both(event: Event) -> None:
        note.write(event)
        emit(event)

    yield both


class _Note:
    """The folder of a job, written by the job itself."""

    def __init__(self, spec: JobSpec) -> None:
        root = history_folder()
        self._folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._folder.mkdir(parents=True)
        _prune(root)
        (self._folder / SPEC_FILE).write_text(dump_spec(spec), encoding="utf-8")
        facts = process_facts() | {"started": time.time()}
        self._replace(PROCESS_FILE, json.dumps(facts))
        self._last = float("-inf")

    def write(self, event: Event) -> None:
        """Note an event; a full disk is the job's own affair to tell of."""
        with suppress(OSError):
            if isinstance(event, Progress):
                if time.monotonic() - self._last >= PROGRESS_SECONDS:
                    self._replace(PROGRESS_FILE, event.model_dump_json())
                    self._last = time.monotonic()
            elif isinstance(event, Planned | Warned | Finished | Failed):
                append_event(self._folder / EVENTS_FILE, event)

    def _replace(self, name: str, text: str) -> None:
        new = self._folder / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self._folder / name)


def _prune(root: Path) -> None:
    """Let the oldest jobs go; none that runs."""
    folders = sorted((path for path in root.iterdir() if path.is_dir()), reverse=True)
    for folder in folders[KEPT:]:
        job = read_job(folder)
        if job is None or job.state != "running":
            shutil.rmtree(folder, ignore_errors=True)

"""The jobs of this user, past and present, whoever started them: from a panel, a terminal, a queue.

Every job that makes something notes itself in a folder of its own while it runs (`noting`): what it
is to do, which process does it, how far it is, what it said. On a cluster whose computers share the
user's folder, the jobs of all of them are there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
import psutil
from pydantic import ValidationError

from napari_teramind.errors import UserError
from napari_teramind.jobs.detached import LOST_MESSAGE, start_detached
from napari_teramind.jobs.events import (
    CANCELLED,
    Event,
    Failed,
    Finished,
    Planned,
    Progress,
    Warned,
    parse_event,
)
from napari_teramind.jobs.going_on import going_on
from napari_teramind.jobs.process import EVENTS_FILE, SPEC_FILE
from napari_teramind.jobs.runner import CANCELLED_MESSAGE
from napari_teramind.jobs.specs import build_spec
from napari_teramind.training.record import is_alive
from napari_teramind.words import listed, named_slices

FOLDER_VARIABLE = "TERAMIND_JOBS"
"""Names another folder for the history, as on a cluster whose computers share no home."""
PROCESS_FILE, PROGRESS_FILE = "process.json", "progress.json"

State = Literal["running", "done", "failed", "cancelled"]

TITLES = {
    "simulate": "Generate {brain}",
    "resume": "Go on generating {brain}",
    "train": "Train on {brains}",
    "attention": "Attention of {pairs} in {brain}",
    "phantom": "Make the phantom {out}",
    "import-merscope": "Import {out}",
    "import-omezarr": "Import {out}",
    "import-tiles": "Import {out}",
    "import-table": "Import {out}",
    "import-spatialdata": "Import {out}",
    "export": "Export {image} of {brain}",
    "reproduce": "Carry out {study}",
    "batch": "Carry out {batch}",
    "checkpoint-get": "Get the published networks {name}",
    "evaluate": "Evaluate {brain}",
}
"""Verbs that are noted, and how they are called; the others only look at something."""

RESUMABLE = (
    "simulate",
    "resume",
    "train",
    "attention",
    "phantom",
    "checkpoint-get",
    "reproduce",
    "batch",
)


@dataclass(frozen=True)
class Job:
    """A job as it was when it was read.

    Attributes
    ----------
    folder
        Its note.
    fields
        Of its specification.
    process
        Which process it is; see :func:`napari_teramind.training.record.process_facts`.
    started : float
        Seconds since the epoch.
    state
        Whether it runs, or how it ended.
    message : str
        What it said last.
    progress
        How far it is, if it has said so.
    plan
        What it said that it would do.
    warnings
        What it warned of.
    result : dict
        Of its ``Finished`` event.
    log
        File with the details of an unexpected failure.
    ended : float or None
        Seconds since the epoch, if that is known.
    """

    folder: Path
    fields: dict[str, Any]
    process: dict[str, Any]
    started: float
    state: State
    message: str
    progress: Progress | None = None
    plan: Planned | None = None
    warnings: tuple[str, ...] = ()
    result: dict[str, Any] | None = None
    log: str | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """Short name that tells it from other jobs."""
        return self.folder.name.rpartition("-")[2]

    @property
    def verb(self) -> str:
        """What it does, as on the command line."""
        return str(self.fields["verb"])

    @property
    def title(self) -> str:
        """What it does, in words."""
        return _title(self.fields)

    @property
    def host(self) -> str:
        """Computer on which it runs or ran."""
        return str(self.process.get("host", ""))

    @property
    def elsewhere(self) -> bool:
        """Whether it runs or ran on another computer."""
        return self.host != socket.gethostname()

    @property
    def resumable(self) -> bool:
        """Whether it can go on from where it ended."""
        return self.state in ("failed", "cancelled") and self.verb in RESUMABLE

    @property
    def made(self) -> Path | None:
        """What it makes or changes: a brain, a run folder, a file."""
        for field in ("out", "brain", "folder"):
            if isinstance(self.fields.get(field), str) and "://" not in self.fields[field]:
                return Path(self.fields[field])
        return None

    @property
    def command(self) -> list[str]:
        """Command that does the same again."""
        return ["teramind", "run", str(self.folder / SPEC_FILE)]


def history_folder() -> Path:
    """Folder with a folder for every job."""
    named = os.environ.get(FOLDER_VARIABLE)
    default = platformdirs.user_data_path("napari-teramind", appauthor=False) / "jobs"
    return Path(named) if named else default


def read_jobs(known: Sequence[Job] = ()) -> list[Job]:
    """Return all jobs that are noted, latest first.

    Parameters
    ----------
    known
        As they were read before: those that had said their last word are not read again.
    """
    try:
        folders = sorted(history_folder().iterdir(), reverse=True)
    except FileNotFoundError:
        return []
    ended = {job.folder: job for job in known if job.ended is not None}
    found = (ended.get(folder) or read_job(folder) for folder in folders)
    return [job for job in found if job is not None]


def read_job(folder: Path) -> Job | None:
    """Return the job of a note; None if it is not complete yet, or of a later version."""
    fields, process = _json(folder / SPEC_FILE), _json(folder / PROCESS_FILE)
    if not process or fields.get("verb") not in TITLES:
        return None
    events = read_events(folder / EVENTS_FILE)
    last, alive = _last(events), False
    if last is None:
        alive = is_alive(process)  # asked before reading on: its last word is then surely read
        events = read_events(folder / EVENTS_FILE)
        last = _last(events)
    progress = _progress(folder / PROGRESS_FILE)
    state: State
    if isinstance(last, Finished):
        state, message = "done", " ".join(last.result.get("summary", [])) or "Done."
    elif isinstance(last, Failed):
        state = "cancelled" if last.exit_code == CANCELLED else "failed"
        message = last.message
    elif alive:
        state, message = "running", progress.message if progress else "Starting"
    else:
        state, message = "failed", f"{LOST_MESSAGE}."
    return Job(
        folder=folder,
        fields=fields,
        process=process,
        started=float(process.get("started", 0)),
        state=state,
        message=message,
        progress=progress,
        plan=next((event for event in events if isinstance(event, Planned)), None),
        warnings=tuple(event.message for event in events if isinstance(event, Warned)),
        result=last.result if isinstance(last, Finished) else None,
        log=last.log if isinstance(last, Failed) else None,
        ended=(folder / EVENTS_FILE).stat().st_mtime if last is not None else None,
    )


def find_job(name: str) -> Job:
    """Return the job of a short name.

    Raises
    ------
    UserError
        If there is none.
    """
    for job in read_jobs():
        if name in (job.name, job.folder.name):
            return job
    raise UserError(f"There is no job '{name}': 'teramind jobs' lists those that there are.")


def cancel_job(job: Job, grace: float = 10.0) -> None:
    """Ask a job to end, wait until it has, and kill it if it does not.

    Raises
    ------
    UserError
        If it does not run any more, or runs on another computer.
    """
    if job.state != "running":
        raise UserError(f"The job {job.name} ({job.title}) does not run any more.")
    if job.elsewhere:
        raise UserError(f"The job {job.name} runs on {job.host}: cancel it there.")
    if not is_alive(job.process):
        return
    try:
        process = psutil.Process(int(job.process["pid"]))
        process.send_signal(signal.SIGTERM)
        if not _has_ended(job, grace):
            process.kill()
            _has_ended(job, grace)
    except psutil.NoSuchProcess:
        pass  # it has ended meanwhile
    except psutil.Error as error:
        raise UserError(f"The job {job.name} cannot be ended from here ({error}).") from None
    if not isinstance(_last(read_events(job.folder / EVENTS_FILE)), Finished | Failed):
        said = Failed(message=CANCELLED_MESSAGE, exit_code=CANCELLED)
        append_event(job.folder / EVENTS_FILE, said)


def _has_ended(job: Job, seconds: float) -> bool:
    """Wait for a process, which need not be a child of this one, to end."""
    end = time.monotonic() + seconds
    while is_alive(job.process):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def resume_job(job: Job) -> Path:
    """Go on with a job that did not end well, in a process that outlives this one.

    Returns
    -------
    Path
        Folder with the events and the log of the new process.

    Raises
    ------
    UserError
        If it runs, is done, or is of a kind that begins anew.
    """
    if not job.resumable:
        why = {"running": "still runs", "done": "is done"}.get(job.state, "can only begin anew")
        raise UserError(f"The job {job.name} ({job.title}) {why}: there is nothing to go on with.")
    spec = build_spec(going_on(job.fields, _result_name(job)), f"The job {job.name}")
    folder = job.folder / f"resumed-{uuid.uuid4().hex[:6]}"
    start_detached(spec, folder)
    return folder


def _result_name(job: Job) -> str | None:
    told = job.plan.details.get("name") if job.plan is not None else None
    return job.fields.get("name") or told


def _title(fields: dict[str, Any]) -> str:
    def short(value: Any) -> str:
        name = str(value).rstrip("/\\").replace("\\", "/").rpartition("/")[2]
        return name.removesuffix(".zarr")

    pairs = [
        pair.replace(",", "-") if isinstance(pair, str) else "-".join(pair)
        for pair in fields.get("pairs") or []
    ]
    more = f" and {len(pairs) - 2} more pairs" if len(pairs) > 3 else ""
    words = {
        "brain": short(fields.get("brain")),
        "brains": listed([short(path) for path in fields.get("brains") or []]),
        "out": short(fields.get("out")),
        "image": fields.get("image"),
        "study": short(fields.get("study")),
        "batch": short(fields.get("batch")),
        "name": fields.get("name"),
        "pairs": ", ".join(pairs[:2]) + more if more else listed(pairs),
    }
    title = TITLES[fields["verb"]].format(**words)
    return title + _which(fields) if fields["verb"] == "simulate" else title


def _which(fields: dict[str, Any]) -> str:
    """Tell simulations of one brain apart."""
    parts = []
    if (slices := fields.get("slices")) is not None:
        parts.append(named_slices(*slices))
    parts += fields.get("structures") or ()
    parts.append(f"seed {fields.get('seed', 0)}")
    parts += fields.get("edits") or ()
    return "".join(f", {part}" for part in parts)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_events(path: Path) -> list[Event]:
    """Return the events of a file; a line that a kill cut off is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValidationError):  # cut off when the job was killed
            found.append(parse_event(line))
    return found


def _last(events: list[Event]) -> Finished | Failed | None:
    last = events[-1] if events else None
    return last if isinstance(last, Finished | Failed) else None


def append_event(path: Path, event: Event) -> None:
    """Write one more event into a file of events."""
    with path.open("a", encoding="utf-8") as file:
        file.write(event.model_dump_json() + "\n")


def _progress(path: Path) -> Progress | None:
    try:
        event = parse_event(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    return event if isinstance(event, Progress) else None

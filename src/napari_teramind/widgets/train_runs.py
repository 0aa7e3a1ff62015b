"""The training runs that a user has started or opened, and what is done with them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import platformdirs

from napari_teramind.errors import UserError
from napari_teramind.jobs import TrainSpec, build_spec
from napari_teramind.jobs.detached import kill, outcome, process_of, start_detached
from napari_teramind.jobs.process import JobProcess
from napari_teramind.training.record import (
    CONFIG,
    JOBS,
    STATUS,
    STOP,
    read_json,
    read_record,
    stored_job,
)
from napari_teramind.widgets import settings
from napari_teramind.widgets.train_watch import last_job

REMEMBERED = 12

_children: list[JobProcess] = []
"""Jobs that this process started: as long as they are asked now and then, the system can forget
them when they end."""


def runs_folder() -> Path:
    """Folder in which runs are kept unless the user says otherwise."""
    return platformdirs.user_data_path(settings.APP, appauthor=False) / "runs"


def known_runs() -> list[Path]:
    """Return the runs that were started or opened before and are still there, latest first."""
    stored = settings.settings().value("runs", [], type=list) or []
    return [Path(path) for path in stored if (Path(path) / CONFIG).exists() or last_job(Path(path))]


def remember_run(folder: Path) -> None:
    """Keep a run as the latest one."""
    known = [str(path) for path in known_runs() if path != folder]
    settings.settings().setValue("runs", [str(folder), *known][:REMEMBERED])


def forget_run(folder: Path) -> None:
    """Offer a run no more."""
    known = [str(path) for path in known_runs() if path != folder]
    settings.settings().setValue("runs", known)


def free_folder(brains: list[str]) -> Path:
    """Return a new folder for a run, named after what it learns from."""
    names = "+".join(Path(path).name.removesuffix(".zarr") for path in brains) or "run"
    number = 1
    while (runs_folder() / f"{names[:40]}-{number}").exists():
        number += 1
    return runs_folder() / f"{names[:40]}-{number}"


def start_run(values: dict[str, Any]) -> Path:
    """Start training as a job that outlives this window; return the run's folder.

    Parameters
    ----------
    values
        Fields of a `TrainSpec`.

    Raises
    ------
    UserError
        If a field cannot be.
    """
    spec = build_spec({**values, "verb": "train"}, "This training")
    if not isinstance(spec, TrainSpec):
        raise TypeError(type(spec))
    folder = Path(spec.out)
    reap()
    _children.append(start_detached(spec, _new_job_folder(folder)))
    return folder


def reap() -> None:
    """Let go of jobs of this process that have ended."""
    for job in list(_children):
        job.read()
        if job.ended:
            _children.remove(job)


def resume_run(folder: Path, steps: int | None = None) -> None:
    """Go on with a run, with its own settings.

    Parameters
    ----------
    folder
        The run.
    steps
        Steps in all, if more than were first asked for.

    Raises
    ------
    UserError
        If the run does not say with which job it was started.
    """
    start_run({**job_of(folder), "resume": True, **({} if steps is None else {"steps": steps})})


def job_of(folder: Path) -> dict[str, Any]:
    """Return the fields of the job that started a run.

    Raises
    ------
    UserError
        If the run does not say.
    """
    job, started = stored_job(folder), last_job(folder)
    if not job and started is not None:  # it did not come to say it itself
        job = read_json(started / "job.json") or {}
    if job:
        return {**job, "out": str(folder)}
    raise UserError(
        f"The run in {folder} does not say how it was started: resume it with 'teramind train "
        "--resume'."
    )


def is_going(folder: Path) -> bool:
    """Whether something trains in a run folder, or is about to."""
    record, job = read_record(folder), last_job(folder)
    if record is not None and record.state == "running":
        return True
    return job is not None and outcome(job) is None


def ask_to_stop(folder: Path) -> None:
    """Let a run end, saved, after the step that it is taking."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).touch()


def stop_now(folder: Path) -> None:
    """End a run at once; it can be resumed from where it was last saved."""
    job = last_job(folder)
    if job is not None:
        kill(process_of(job))
    try:
        kill(json.loads((folder / STATUS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return


def _new_job_folder(run: Path) -> Path:
    """Return a folder whose name sorts after those of the run's earlier jobs."""
    taken = len(list((run / JOBS).glob("*"))) if (run / JOBS).exists() else 0
    return run / JOBS / f"{taken:04d}-{time.strftime('%Y%m%d-%H%M%S')}"

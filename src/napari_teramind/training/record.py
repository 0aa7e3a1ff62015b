"""What a run folder says of its run, for programs that only look; needs no torch."""

from __future__ import annotations

import csv
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from napari_teramind.errors import UserError

CONFIG = "config.json"
STATUS = "status.json"
METRICS = "metrics.csv"
VALIDATION = "validation.csv"
LOG = "log.txt"
STATE = "state.pt"
WEIGHTS = "last.safetensors"
BEST = "best.safetensors"
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"
TENSORBOARD = "tensorboard"
STOP = "stop"
LOCK = ".lock"
JOBS = "jobs"
"""Jobs that a panel started, each with its log."""


@dataclass(frozen=True)
class RunRecord:
    """State of a training run, read off its folder.

    Attributes
    ----------
    folder
        The run folder.
    state
        ``"running"``, ``"finished"``, ``"stopped"``, ``"failed"``, or ``"died"``: the process that
        trained is gone without a word.
    step, steps
        Optimiser steps taken, and wanted.
    loss
        Mean of the last steps; None before the first.
    seconds
        Time trained, over all sessions.
    message
        What went wrong, if it did.
    """

    folder: Path
    state: str
    step: int
    steps: int
    loss: float | None
    seconds: float
    message: str = ""

    @property
    def checkpoint(self) -> Path | None:
        """The best weights by validation, else the last; None if none were written yet."""
        found = (self.folder / name for name in (BEST, WEIGHTS))
        return next((path for path in found if path.is_file()), None)


def check_new(folder: Path) -> None:
    """Make sure that a run can begin in a folder without mixing with anything else.

    Raises
    ------
    UserError
        If there is a file of that name, the folder holds something, or lies within a brain.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose a new or empty folder for the run.")
    for place in (folder, *folder.absolute().parents):
        if any((place / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
            what = "is a store" if place == folder else f"lies within the store {place}"
            raise UserError(
                f"{folder} {what}, which a run would spoil; choose a new or empty folder for it."
            )
    if folder.is_dir():
        others = sorted({entry.name for entry in folder.iterdir()} - {LOCK, STOP, JOBS})
        if others:
            named = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise UserError(
                f"{folder} holds other files ({named}); choose a new or empty folder for the run."
            )


def read_record(folder: Path) -> RunRecord | None:
    """Read what a folder says of its run; None if it holds none."""
    config = read_json(folder / CONFIG)
    if config is None:
        return None
    status = read_json(folder / STATUS) or {}
    state = status.get("state", "stopped")
    if state == "running" and not is_alive(status):
        state = "died"
    return RunRecord(
        folder=folder,
        state=state,
        step=status.get("step", 0),
        steps=status.get("steps", config.get("train", {}).get("steps", 0)),
        loss=status.get("loss"),
        seconds=status.get("seconds", 0.0),
        message=status.get("message", ""),
    )


def stored_job(folder: Path) -> dict[str, Any]:
    """Return the fields of the job that a run was started with; none if it does not say."""
    job = (read_json(folder / CONFIG) or {}).get("job")
    return dict(job) if isinstance(job, dict) else {}


def process_facts(pid: int | None = None) -> dict[str, Any]:
    """Return what tells a process (by default this one) from any other, now or later."""
    pid = os.getpid() if pid is None else pid
    try:
        created = psutil.Process(pid).create_time()
    except psutil.Error:  # it has ended already
        created = 0.0
    return {"pid": pid, "created": created, "host": socket.gethostname()}


def is_alive(process: dict[str, Any]) -> bool:
    """Whether the process of :func:`process_facts` is there; on another computer, assume so.

    A process id alone says little: the system gives it to another process later.
    """
    if process.get("host") != socket.gethostname():
        return True
    try:
        found = psutil.Process(int(process["pid"]))
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(found.create_time() - float(process["created"])) < 2
    except (psutil.Error, KeyError, ValueError):
        return False


def read_curve(path: Path, column: str = "loss") -> tuple[list[int], list[float]]:
    """Read steps and values of a column of a run's table; a half-written line is left out."""
    steps: list[int] = []
    values: list[float] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                try:
                    step, value = int(row["step"]), float(row[column])
                except (KeyError, TypeError, ValueError):
                    continue
                steps.append(step)
                values.append(value)
    except OSError:
        pass
    return steps, values


def read_samples(folder: Path) -> list[tuple[int, Path]]:
    """Return steps and paths of a run's sample pictures, oldest first."""
    found = []
    for path in (folder / SAMPLES).glob("step-*.png"):
        number = path.stem.removeprefix("step-")
        if number.isdigit():
            found.append((int(number), path))
    return sorted(found)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is none, or a half of one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None

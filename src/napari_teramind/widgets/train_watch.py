"""A training run seen from the event loop: its folder is read beside it, its changes are told."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import create_worker

from napari_teramind.jobs import Failed, Finished
from napari_teramind.jobs.detached import outcome
from napari_teramind.jobs.events import CANCELLED
from napari_teramind.training.record import (
    JOBS,
    METRICS,
    VALIDATION,
    RunRecord,
    read_curve,
    read_record,
    read_samples,
)

POLL_MS = 500
MOST_POINTS = 1500
"""Points of a curve that are drawn; more of them are averaged."""

Curve = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class _Table:
    """What was read of ``metrics.csv`` so far, so that only its end need be read again."""

    file: int = 0
    offset: int = 0
    steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()

    def read_on(self, path: Path) -> _Table:
        """Return the table with the lines that came since."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                # A run that goes on writes its table anew, without the steps to be done again.
                old = self if status.st_ino == self.file and status.st_size >= self.offset else None
                before = old or _Table(status.st_ino)
                file.seek(before.offset)
                text = file.read()
        except OSError:
            return self
        whole = text[: text.rfind(b"\n") + 1]
        found: list[tuple[int, float, float]] = []
        for line in whole.decode(errors="replace").splitlines():
            with suppress(ValueError, IndexError):  # the heading
                cells = line.split(",")
                found.append((int(cells[0]), float(cells[2]), float(cells[1])))
        return _Table(
            before.file,
            before.offset + len(whole),
            before.steps + tuple(row[0] for row in found),
            before.losses + tuple(row[1] for row in found),
            before.seconds + tuple(row[2] for row in found),
        )


@dataclass(frozen=True)
class RunView:
    """What there is to show of a run.

    Attributes
    ----------
    folder
        The run folder.
    record
        How the run stands; None before it has written anything.
    ended
        How its last job ended, if it did and was started by a panel.
    training, validation
        Steps and losses.
    scores
        PSNR and SSIM of every picture, by step.
    samples
        Steps and paths of its pictures.
    seconds_per_step
        Of the latest steps; None while not known.
    table
        For reading on.
    """

    folder: Path
    record: RunRecord | None = None
    ended: Finished | Failed | None = None
    training: Curve = ((), ())
    validation: Curve = ((), ())
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    samples: tuple[tuple[int, Path], ...] = ()
    seconds_per_step: float | None = None
    table: _Table = field(default_factory=_Table, repr=False)

    @property
    def state(self) -> str:
        """How the run stands, in a word.

        ``"starting"``, ``"running"``, ``"finished"``, ``"stopped"``, ``"failed"``, or ``"died"``.
        """
        record, ended = self.record, self.ended
        if record is not None and record.state == "running":
            return "running"
        if isinstance(ended, Failed) and ended.exit_code != CANCELLED:
            # Killed, it left no word itself; refused, it never came to write one.
            return "died" if ended.log and record and record.state == "died" else "failed"
        if ended is None and self.has_job:
            return "starting"
        return record.state if record is not None else "failed"

    @property
    def has_job(self) -> bool:
        """Whether a panel started its last session."""
        return last_job(self.folder) is not None

    @property
    def is_going(self) -> bool:
        """Whether something trains."""
        return self.state in ("starting", "running")

    @property
    def message(self) -> str:
        """What went wrong, in a sentence."""
        if self.record is not None and self.record.state == "failed" and self.record.message:
            return self.record.message
        return self.ended.message if isinstance(self.ended, Failed) else ""


class RunWatch(QObject):
    """Reads a run folder twice a second, beside the event loop, and tells what changed."""

    changed = Signal()

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.view = RunView(folder)
        self.read_once = False
        self._reading = self._stopped = False
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.poll)
        self._timer.start()
        self.poll()

    def poll(self) -> None:
        """Read the folder, unless that is being done."""
        if self._reading or self._stopped:
            return
        self._reading = True
        worker = create_worker(read_view, self.view)
        worker.returned.connect(self._on_read)
        worker.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped = True
        self._timer.stop()

    def _on_read(self, view: RunView) -> None:
        self._reading = False
        if self._stopped:
            return
        new, self.view = view != self.view or not self.read_once, view
        self.read_once = True
        if new:
            self.changed.emit()


def read_view(before: RunView) -> RunView:
    """Read a run folder; curves only if the run has gone on since ``before``."""
    folder = before.folder
    job = last_job(folder)
    record, ended = read_record(folder), None if job is None else outcome(job)
    samples = tuple(read_samples(folder))
    view = replace(before, record=record, ended=ended, samples=samples)
    if record is None or (before.record is not None and record == before.record):
        return view
    table = before.table.read_on(folder / METRICS)
    recent = table.seconds[-20:]
    pace = (recent[-1] - recent[0]) / (len(recent) - 1) if len(recent) > 1 else None
    held_out = read_curve(folder / VALIDATION)
    return replace(
        view,
        training=_thinned(table.steps, table.losses),
        validation=([float(s) for s in held_out[0]], held_out[1]),
        scores=_read_scores(folder / VALIDATION),
        seconds_per_step=pace,
        table=table,
    )


def last_job(folder: Path) -> Path | None:
    """Return the folder of the run's last job, if a panel started one."""
    try:
        found = sorted(path for path in (folder / JOBS).iterdir() if path.is_dir())
    except OSError:
        return None
    return found[-1] if found else None


def _thinned(steps: Sequence[int], losses: Sequence[float]) -> Curve:
    """Average neighbouring points where there are more than can be seen."""
    width = -(-len(steps) // MOST_POINTS)
    if width <= 1:
        return [float(step) for step in steps], losses
    blocks = range(0, len(steps), width)
    return (
        [_mean(steps[i : i + width]) for i in blocks],
        [_mean(losses[i : i + width]) for i in blocks],
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _read_scores(path: Path) -> dict[int, dict[str, float]]:
    """Return PSNR and SSIM by step."""
    found: dict[int, dict[str, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores = {
                    name: float(value)
                    for name, value in row.items()
                    if name and value and name.startswith(("psnr", "ssim"))
                }
                if scores and row["step"].isdigit():
                    found[int(row["step"])] = scores
    except (OSError, ValueError):
        return found
    return found

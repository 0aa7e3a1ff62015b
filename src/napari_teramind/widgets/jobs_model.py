"""The list of jobs, as a table that keeps its place while the jobs go on."""

from __future__ import annotations

import time
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_teramind.jobs.history import Job

COLUMNS = ("Job", "State", "Started")
WORDS = {"running": "Running", "done": "Done", "failed": "Failed", "cancelled": "Cancelled"}


class JobsModel(QAbstractTableModel):
    """Jobs, latest first."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def show_jobs(self, jobs: list[Job]) -> None:
        """Show jobs; those that are there already keep their rows, so that a choice stays."""
        known = [job.folder for job in self.jobs]
        if known == [job.folder for job in jobs]:
            self.jobs = jobs
            if jobs:
                last = self.index(len(jobs) - 1, len(COLUMNS) - 1)
                self.dataChanged.emit(self.index(0, 0), last)
            return
        new = len(jobs) - len(known)
        if new > 0 and [job.folder for job in jobs[new:]] == known:
            self.beginInsertRows(QModelIndex(), 0, new - 1)
            self.jobs = jobs
            self.endInsertRows()
            return
        self.beginResetModel()
        self.jobs = jobs
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of jobs."""
        return 0 if parent is not None and parent.isValid() else len(self.jobs)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Return the titles."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Return what a cell shows."""
        job = self.jobs[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return (job.title, state_cell(job), when(job.started))[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{job.title}\n{job.message}"
        return None


def state_cell(job: Job) -> str:
    """Return a state as short as a narrow column needs it: "43 %", "Done"."""
    progress = job.progress
    if job.state == "running" and progress is not None and progress.total:
        return f"{100 * progress.done // progress.total} %"
    return WORDS[job.state]


def when(seconds: float) -> str:
    """Return the time of day of a moment of today, else its date."""
    moment = time.localtime(seconds)
    today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%d %b", moment)

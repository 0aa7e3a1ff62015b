"""The Jobs panel: every job of this user, wherever it was started, and what can be done with it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QModelIndex, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QGuiApplication
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHeaderView,
    QProgressBar,
    QPushButton,
    QStackedLayout,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.jobs.history import Job, cancel_job, read_jobs, resume_job
from napari_teramind.plugin.layers import brain_key
from napari_teramind.plugin.reader import is_brain
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.jobs_model import WORDS, JobsModel
from napari_teramind.widgets.opening import open_anything
from napari_teramind.widgets.panel import Panel
from napari_teramind.widgets.parts import MARGIN, Scrolling, WhileShown, sentence

if TYPE_CHECKING:
    import napari

ROWS_SHOWN = 9


class JobsWidget(Panel):
    """Lists jobs, tells how far they are, cancels and resumes them, opens what they made.

    Jobs outlive napari, and are found here again: those of panels, of the command line, and, where
    computers share the user's folder, those of other computers.

    Parameters
    ----------
    napari_viewer
        The viewer; panels of one viewer share one session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.model = JobsModel()
        self.table = QTableView()
        self.title = sentence(plain=True)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.words = sentence(plain=True)
        self.cancel_button = QPushButton("Cancel")
        self.resume_button = QPushButton("Resume")
        self.open_button = QPushButton("Open result")
        self.folder_button = QPushButton("Show folder")
        self.copy_button = QPushButton("Copy command")
        self.log_button = QPushButton("Show log")
        self._chosen: Path | None = None
        self._reading = self._busy = self._awaits_new = False
        self._pages = QStackedLayout(self)
        empty = QWidget()
        below = QVBoxLayout(empty)
        below.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        below.setAlignment(Qt.AlignmentFlag.AlignTop)
        below.addWidget(
            sentence(
                "<b>No jobs yet.</b> What you generate, train, compute, import or export is listed "
                "here, from the panels and from the command line, and stays when napari is closed."
            )
        )
        self._pages.addWidget(empty)
        self._pages.addWidget(Scrolling(self._lay_out()))
        self._connect()
        self._refresh()

    def _lay_out(self) -> QWidget:
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setTabKeyNavigation(False)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None
        assert columns is not None
        rows.hide()
        self.table.setMinimumHeight(rows.defaultSectionSize() * (ROWS_SHOWN + 1))
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        columns.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        for part in (self.table, self.title, self.progress, self.words):
            layout.addWidget(part)
        buttons = QGridLayout()
        for i, button in enumerate(self._buttons()):
            buttons.addWidget(button, i // 2, i % 2)
        layout.addLayout(buttons)
        return content

    def _buttons(self) -> tuple[QPushButton, ...]:
        return (
            self.cancel_button,
            self.resume_button,
            self.open_button,
            self.folder_button,
            self.copy_button,
            self.log_button,
        )

    def _connect(self) -> None:
        WhileShown(self, self.refresh)
        selection = self.table.selectionModel()
        assert selection is not None
        selection.currentRowChanged.connect(self._on_row)
        self.cancel_button.clicked.connect(lambda: self._do(cancel_job, "Cancelling"))
        self.resume_button.clicked.connect(lambda: self._do(resume_job, "Starting again"))
        self.open_button.clicked.connect(self._open)
        self.folder_button.clicked.connect(self._show_folder)
        self.copy_button.clicked.connect(self._copy)
        self.log_button.clicked.connect(self._show_log)
        self.session.brains_changed.connect(self._refresh)

    @property
    def job(self) -> Job | None:
        """The job that is chosen: at first, the latest."""
        jobs = self.model.jobs
        return next((job for job in jobs if job.folder == self._chosen), jobs[0] if jobs else None)

    def refresh(self) -> None:
        """Read the jobs anew, beside the event loop."""
        if not self._reading:
            self._reading = True
            Beside(self, read_jobs, self.model.jobs, then=self._on_read)

    def _on_read(self, jobs: list[Job]) -> None:
        self._reading = False
        known = {job.folder for job in self.model.jobs}
        if jobs != self.model.jobs:
            self.model.show_jobs(jobs)
        if self._awaits_new and jobs and jobs[0].folder not in known:
            self._awaits_new = False
            self._chosen = jobs[0].folder
            self.table.selectRow(0)
        chosen = self.job
        if chosen is not None and not self.table.currentIndex().isValid():
            self.table.selectRow(jobs.index(chosen))
        self._refresh()

    def _on_row(self, index: QModelIndex, _: QModelIndex) -> None:
        if index.isValid():
            self._chosen = self.model.jobs[index.row()].folder
            self._refresh()

    def _refresh(self) -> None:
        job = self.job
        self._pages.setCurrentIndex(0 if job is None else 1)
        if job is None:
            return
        running = job.state == "running"
        self.title.setText(job.title)
        self.progress.setVisible(running)
        if running:
            total = job.progress.total if job.progress is not None else 0
            self.progress.setMaximum(total)
            self.progress.setValue(job.progress.done if job.progress is not None else 0)
        if not self._busy:
            self.words.setText(_words(job))
        here = "" if not job.elsewhere else f"It runs on {job.host}: cancel it there"
        self._allow(self.cancel_button, running and not here, here or "End the job")
        self._allow(self.resume_button, job.resumable, "Go on from where it ended, in background")
        made = job.made
        can_open = job.state == "done" and made is not None and made.exists()
        self._allow(self.open_button, can_open, str(made or ""))
        self._allow(self.folder_button, made is not None and made.parent.exists(), str(made or ""))
        self._allow(self.copy_button, True, "A command for the terminal that does it again")
        self._allow(self.log_button, job.log is not None, job.log or "Only failures leave a log")

    def _allow(self, button: QPushButton, allowed: bool, tip: str) -> None:
        button.setEnabled(allowed and not self._busy)
        button.setToolTip(tip)

    def _do(self, function: Callable[[Job], Any], words: str) -> None:
        """Cancel or resume the chosen job, which takes a moment."""
        job = self.job
        if job is None or self._busy:
            return
        self._busy = True
        self.words.setText(f"{words} ...")

        def then(problem: Any) -> None:
            self._busy = False
            if isinstance(problem, str):
                show_error(problem)
            elif function is resume_job:
                self._awaits_new = True
            self.refresh()
            self._refresh()

        self._refresh()
        Beside(self, function, job, then=then)

    def _open(self) -> None:
        """Show the brain that was made or changed; reveal anything else."""
        made = self.job.made if self.job is not None else None
        if made is None:
            return
        if not is_brain(made):
            _reveal(made)
        elif brain_key(made) in self.session.brains():
            self.session.choose_brain(brain_key(made))
        else:
            open_anything(self.session, str(made))

    def _show_folder(self) -> None:
        if self.job is not None and self.job.made is not None:
            _reveal(self.job.made.parent)

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        if self.job is not None and clipboard is not None:
            clipboard.setText(shlex.join(self.job.command))
            self.words.setText("Copied: paste it into a terminal.")

    def _show_log(self) -> None:
        if self.job is not None and self.job.log is not None:
            _reveal(Path(self.job.log))


def _words(job: Job) -> str:
    """Say how a job is, in sentences."""
    words = [WORDS[job.state] + (f" on {job.host}." if job.elsewhere else ".")]
    if job.state == "running":
        left = job.progress.time_left() if job.progress is not None else ""
        words.append(f"{job.message}{f', {left}' if left else ''}.")
    else:
        words.append(job.message)
    if job.plan is not None:
        words.append(f"Plan: {job.plan.text}.")
    return " ".join([*words, *job.warnings])


def _reveal(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))

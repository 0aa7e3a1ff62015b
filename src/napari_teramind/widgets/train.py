"""The Train panel: fit a network to brains, watch it learn, use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QStackedLayout,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.errors import UserError
from napari_teramind.training.record import CONFIG, check_new
from napari_teramind.widgets import train_runs as runs
from napari_teramind.widgets.empty import NoBrain
from napari_teramind.widgets.panel import Panel
from napari_teramind.widgets.parts import (
    MARGIN,
    PRIMARY_HEIGHT,
    Foldable,
    Scrolling,
    form,
    sentence,
)
from napari_teramind.widgets.simulate import SimulateWidget
from napari_teramind.widgets.train_closing import AskOnClose
from napari_teramind.widgets.train_estimate import Estimating
from napari_teramind.widgets.train_how import TrainAdvanced, TrainHow
from napari_teramind.widgets.train_progress import TrainProgress
from napari_teramind.widgets.train_watch import RunWatch
from napari_teramind.widgets.train_what import TrainWhat

if TYPE_CHECKING:
    import napari
    from napari import Viewer

NEW = ""
SIMULATE_NAME = "Simulate (Tera-MIND)"  # as napari names it when it is opened from the menu


class TrainWidget(Panel):
    """Starts trainings, finds them again, stops and resumes them.

    A training is a process of its own that goes on when napari is closed, unless the user wants it
    to end.

    Parameters
    ----------
    napari_viewer
        The viewer; panels of one viewer share one session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.watch: RunWatch | None = None
        self.run_choice = QComboBox()
        self.run_choice.setToolTip("A new training, or one that you started before")
        self.open_button = QToolButton()
        self.open_button.setText("...")
        self.open_button.setToolTip("Open the folder of a run")
        self.what = TrainWhat(self.session)
        self.how = TrainHow()
        self.settings = TrainAdvanced()
        self.advanced = Foldable("Advanced", self.settings)
        self.plan_label = sentence()
        self.estimate_button = QPushButton("Estimate")
        self.estimate_button.setToolTip("Take a few steps, throw them away, and say what it takes")
        self.start_button = QPushButton("Start training")
        self.start_button.setMinimumHeight(PRIMARY_HEIGHT)
        self.progress = TrainProgress()
        self.estimating = Estimating()
        self.empty = NoBrain(self.session)
        self._new = QWidget()
        self._was_going: str | None = None
        self.closing: AskOnClose | None = None
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self.empty)
        self._pages.addWidget(Scrolling(self._lay_out()))
        self._connect()
        self.settings.show_preset(self.how.preset.currentData())
        self._offer_runs()
        latest = next(iter(runs.known_runs()), None)
        if latest is not None:
            self._find_again(latest)
        self.refresh()

    def _lay_out(self) -> QWidget:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        row = form()
        self.run_choice.setMinimumContentsLength(8)
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.run_choice.setSizeAdjustPolicy(policy)
        row.addWidget(QLabel("Run"), 0, 0)
        row.addWidget(self.run_choice, 0, 1)
        row.addWidget(self.open_button, 0, 2)
        layout.addLayout(row)
        new = QVBoxLayout(self._new)
        new.setContentsMargins(0, 0, 0, 0)
        plan = QHBoxLayout()
        plan.addWidget(self.plan_label, 1)
        plan.addWidget(self.estimate_button, 0, Qt.AlignmentFlag.AlignTop)
        for widget in (self.what, self.how, self.advanced):
            new.addWidget(widget)
        new.addLayout(plan)
        new.addWidget(self.start_button)
        layout.addWidget(self._new)
        layout.addWidget(self.progress)
        return content

    def _connect(self) -> None:
        self.run_choice.activated.connect(self._on_run_chosen)
        self.open_button.clicked.connect(self._open_run)
        self.how.preset.currentIndexChanged.connect(
            lambda _: self.settings.show_preset(self.how.preset.currentData())
        )
        self.settings.edited.connect(self.how.become_custom)
        for part in (self.what, self.how, self.settings):
            part.changed.connect(self._on_settings)
        self.estimating.changed.connect(self._refresh_plan)
        self.estimate_button.clicked.connect(self._estimate)
        self.start_button.clicked.connect(self.start)
        self.progress.stop_button.clicked.connect(self.stop)
        self.progress.resume_button.clicked.connect(self.resume)
        self.progress.use_button.clicked.connect(self.use)
        self.session.brains_changed.connect(self.refresh)
        self.destroyed.connect(self.estimating.cancel)
        viewer = self.session.viewer
        if viewer is not None:
            self.progress.plot.follow_theme(viewer)

    # What the user does

    def values(self) -> dict[str, Any]:
        """Fields of a `TrainSpec`, as the panel stands."""
        how = self.how.values()
        what = self.what.values()
        typed = self.settings.folder.text().strip()
        out = Path(typed).expanduser() if typed else runs.free_folder(what["brains"])
        return {
            **what,
            **self.settings.values(self.how.base, self.how.is_custom),
            **how,
            "out": str(out),
        }

    def problem(self) -> str:
        """Why no training can be started as the panel stands; "" if one can."""
        typed = self.settings.folder.text().strip()
        if typed:
            folder = Path(typed).expanduser()
            if (folder / CONFIG).exists():
                return (
                    f"{typed} holds a run already: choose another folder, or open that run above."
                )
            try:
                check_new(folder)
            except (UserError, OSError) as error:
                return str(error)
        return self.what.problem()

    def start(self) -> None:
        """Start the training that the panel says, or say why not."""
        problem = self.problem()
        if problem:
            show_warning(problem)
            return
        self.estimating.cancel()
        values = self.values()
        try:
            folder = runs.start_run(values)
        except UserError as error:
            show_error(str(error))
            return
        except OSError as error:
            show_error(
                f"The folder {values['out']} cannot be made ({error.strerror}); choose another."
            )
            return
        self.show_run(folder, started=True)

    def stop(self) -> None:
        """Let the run end after its present step; asked again, end it at once."""
        if self.watch is None:
            return
        folder, view = self.watch.view.folder, self.watch.view
        try:
            if self.progress.stopping or view.state == "starting":
                runs.stop_now(folder)
            else:
                runs.ask_to_stop(folder)
        except OSError as error:
            show_error(f"The run in {folder} cannot be stopped ({error}).")
            return
        self.progress.stopping = True
        self._on_view()

    def resume(self) -> None:
        """Go on with the run that is shown."""
        if self.watch is None:
            return
        folder = self.watch.view.folder
        try:
            runs.resume_run(folder, self.progress.steps.value())
        except (UserError, OSError) as error:
            show_error(str(error))
            return
        self.show_run(folder, started=True)

    def use(self) -> None:
        """Let the Simulate panel use the run's best weights."""
        view = self.watch.view if self.watch is not None else None
        checkpoint = (
            view.record.checkpoint if view is not None and view.record is not None else None
        )
        if checkpoint is None:
            show_warning("This run has not saved any weights yet: it does within a minute.")
            return
        self.session.checkpoints.choose(str(checkpoint))
        viewer = self.session.viewer
        if viewer is not None:
            open_simulate(viewer)
        show_info(f"The Simulate panel uses {checkpoint} now.")

    def _estimate(self) -> None:
        problem = self.what.problem()
        if problem:
            show_warning(problem)
        elif self.estimating.is_going:
            self.estimating.cancel()
        else:
            self.estimating.start(self.values(), self._work())

    def _open_run(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open the folder of a run")
        if not path:
            return
        if not (Path(path) / CONFIG).exists():
            show_error(f"{path} is not the folder of a training run: it holds no {CONFIG}.")
            return
        self.show_run(Path(path))

    def _on_run_chosen(self, index: int) -> None:
        path = self.run_choice.itemData(index)
        if path == NEW:
            self.show_new()
        else:
            self.show_run(Path(path))

    # What follows

    def show_new(self) -> None:
        """Ask for a new run."""
        self._stop_watching()
        self.run_choice.setCurrentIndex(self.run_choice.findData(NEW))
        self.refresh()

    def show_run(self, folder: Path, started: bool = False) -> None:
        """Show a run and watch it; tell how it ends if it was just ``started``, or is going on."""
        self._stop_watching()
        self.progress.stopping = False
        self._was_going = "starting" if started else None
        runs.remember_run(folder)
        self._offer_runs()
        self.run_choice.setCurrentIndex(self.run_choice.findData(str(folder)))
        self.watch = RunWatch(folder, self)
        self.watch.changed.connect(self._on_view)
        self.refresh()
        self._on_view()

    def _find_again(self, folder: Path) -> None:
        """Show the latest run if it is going on; a run that is over is only offered."""
        if runs.is_going(folder):
            self.show_run(folder)

    def _stop_watching(self) -> None:
        if self.watch is not None:
            self.watch.stop()
            self.watch.deleteLater()
            self.watch = None

    def _offer_runs(self) -> None:
        self.run_choice.clear()
        self.run_choice.addItem("New run", NEW)
        for path in runs.known_runs():
            self.run_choice.addItem(path.name, str(path))
            index = self.run_choice.count() - 1
            self.run_choice.setItemData(index, str(path), Qt.ItemDataRole.ToolTipRole)

    def _on_view(self) -> None:
        if self.watch is None:
            return
        runs.reap()
        view = self.watch.view
        self.progress.show_view(view)
        if not self.watch.read_once:
            return
        before, self._was_going = self._was_going, view.state
        if before not in ("starting", "running") or view.is_going:
            return
        if view.state == "finished":
            show_info(f"Training finished: {view.folder.name}.")
        elif not self.progress.stopping and view.state in ("failed", "died"):
            show_error(view.message or f"The training in {view.folder} ended unexpectedly.")
            if view.record is None:  # it never began: back to its settings
                runs.forget_run(view.folder)
                self._offer_runs()
                self.show_new()

    def _on_settings(self) -> None:
        if self.estimating.asked is not None and self.estimating.asked != self._work():
            self.estimating.forget()
        self._refresh_plan()

    def _work(self) -> dict[str, Any]:
        """Return what an estimate depends on: not where the results are kept."""
        return {name: value for name, value in self.values().items() if name != "out"}

    def _refresh_plan(self) -> None:
        going = self.estimating.is_going
        self.estimate_button.setText("Cancel" if going else "Estimate")
        problem = self.problem()
        told = problem if problem != self.what.hint.text() else ""
        words = self.estimating.words or f"{self.how.steps.value():,} steps"
        self.plan_label.setText(told or words)
        self.start_button.setEnabled(not problem)
        self.start_button.setToolTip(
            problem or "Trains in a process of its own, also without napari"
        )

    def refresh(self) -> None:
        """Show the session as it is now."""
        running = self.watch is not None
        nothing = self.session.brain is None and not running and self.run_choice.count() < 2
        self._pages.setCurrentIndex(0 if nothing else 1)
        self._new.setVisible(not running)
        self.progress.setVisible(running)
        self._refresh_plan()

    def showEvent(self, event: QShowEvent) -> None:
        """Ask, from now on, whether a run goes on when the window is closed."""
        super().showEvent(event)
        if self.closing is None:
            self.closing = AskOnClose.for_window_of(self, self._going_run)

    def _going_run(self) -> Path | None:
        view = self.watch.view if self.watch is not None else None
        return view.folder if view is not None and view.is_going else None


def open_simulate(viewer: Viewer) -> None:
    """Open the Simulate panel, unless it is open."""
    panels = list(viewer.window.dock_widgets.values())
    if not any(isinstance(panel, SimulateWidget) for panel in panels):
        panel = SimulateWidget(viewer)
        viewer.window.add_dock_widget(panel, name=SIMULATE_NAME, area="right", tabify=True)

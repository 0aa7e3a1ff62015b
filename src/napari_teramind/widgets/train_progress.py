"""The part of the Train panel that shows a run: how far it is, its loss, its pictures."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QSignalBlocker, QUrl
from qtpy.QtWidgets import QLabel, QProgressBar, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_teramind.training.record import LOG
from napari_teramind.widgets.parts import PRIMARY_HEIGHT, form, sentence
from napari_teramind.widgets.train_results import LossPlot, Samples
from napari_teramind.widgets.train_watch import RunView
from napari_teramind.words import about

LINK = "#3D8FD1"
"""Qt's own blue of links is hardly seen on napari's dark theme; this one is on both."""


class TrainProgress(QWidget):
    """Shows a run, with what can be done about it."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping = False
        self.words = sentence()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.steps = QSpinBox()
        self.steps.setRange(1, 10_000_000)
        self.steps.setGroupSeparatorShown(True)
        self.steps.setToolTip("Steps in all, those taken already among them")
        self.steps_row = QWidget()
        self.stop_button = QPushButton("Stop")
        self.resume_button = QPushButton("Resume")
        self.use_button = QPushButton("Use for simulation")
        self.use_button.setToolTip("Generate with the best weights of this run so far")
        for button in (self.stop_button, self.resume_button):
            button.setMinimumHeight(PRIMARY_HEIGHT)
        self.plot = LossPlot()
        self.samples = Samples()
        self.place = sentence()
        self._folder: Path | None = None
        self._offered = 0
        self._lay_out()

    def _lay_out(self) -> None:
        row = form()
        self.steps_row.setLayout(row)
        row.addWidget(QLabel("Steps in all"), 0, 0)
        row.addWidget(self.steps, 0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.bar,
            self.words,
            self.steps_row,
            self.stop_button,
            self.resume_button,
            self.use_button,
            self.plot,
            self.samples,
            self.place,
        ):
            layout.addWidget(widget)

    def show_view(self, view: RunView) -> None:
        """Show a run as it is now."""
        if not view.is_going:
            self.stopping = self.stopping and view.state in ("failed", "died")
        record, going = view.record, view.is_going
        self.bar.setVisible(going)
        self.bar.setMaximum(record.steps if record is not None and view.state == "running" else 0)
        self.bar.setValue(record.step if record is not None else 0)
        self.words.setText(state_words(view, self.stopping))
        self.stop_button.setVisible(going)
        self.stop_button.setText("Stop now" if self.stopping else "Stop")
        self.stop_button.setToolTip(
            "Ends at once; what was not saved in the last minute is done again when resumed"
            if self.stopping
            else "Ends after this step, saved; it can be resumed"
        )
        self.resume_button.setVisible(not going)
        self.resume_button.setText("Train further" if view.state == "finished" else "Resume")
        self.steps_row.setVisible(not going and record is not None)
        self._offer_steps(view)
        self.plot.setVisible(bool(view.training[0]))
        self.plot.show_view(view)
        self.samples.setVisible(bool(view.samples))
        self.samples.show_view(view)
        self.use_button.setVisible(record is not None and record.checkpoint is not None)
        self.place.setText(f"Kept in {_link(view.folder, view.folder.name)}")
        self.place.setToolTip(str(view.folder))

    def _offer_steps(self, view: RunView) -> None:
        """Offer as many steps as were wanted; half as many more when those are done."""
        record = view.record
        if record is None or view.is_going:
            self._offered = 0
            return
        more = max(record.steps, record.step + record.step // 2 if view.state == "finished" else 0)
        if more != self._offered or view.folder != self._folder:
            self._folder, self._offered = view.folder, more
            with QSignalBlocker(self.steps):
                self.steps.setMinimum(max(1, record.step))
                self.steps.setValue(more)


def state_words(view: RunView, stopping: bool) -> str:
    """Return in a sentence or two how a run stands."""
    record = view.record
    if view.state == "starting":
        return "Stopping" if stopping else "Starting: reading the brains"
    if record is None:
        return "Stopped before the first step." if stopping else view.message
    place = f"step {record.step:,} of {record.steps:,}"
    loss = "" if record.loss is None else f", loss {record.loss:.3f}"
    match view.state:
        case "running":
            if stopping:
                return f"Stopping after this step: {place}{loss}"
            left = _time_left(view)
            return f"{place.capitalize()}{loss}{'. ' + left if left else ''}"
        case "finished":
            words = about(record.seconds).removeprefix("about ")
            return f"Finished: {record.steps:,} steps{loss}, trained for {words}."
        case "stopped":
            return f"Stopped at {place}{loss}, and saved."
        case _ if stopping:
            return f"Stopped at about {place}; resuming goes on from where it was last saved."
        case "died":
            return (
                f"The training process ended unexpectedly at about {place}: it was killed, the "
                "computer was restarted, or memory ran out. Resuming goes on from where it was "
                f"last saved. {_link(view.folder / LOG, 'Log')}"
            )
        case _:
            return f"{view.message} {_link(view.folder / LOG, 'Log')}"


def _time_left(view: RunView) -> str:
    record, pace = view.record, view.seconds_per_step
    if record is None or pace is None:
        return ""
    left = about(pace * (record.steps - record.step))
    return f"{left[0].upper()}{left[1:]} left"


def _link(path: Path, words: str) -> str:
    return f'<a style="color: {LINK}" href="{QUrl.fromLocalFile(str(path)).toString()}">{words}</a>'

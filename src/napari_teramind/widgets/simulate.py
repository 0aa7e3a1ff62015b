"""The Simulate panel: generate tissue images where the user looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QProgressBar, QPushButton, QStackedLayout, QVBoxLayout, QWidget

from napari_teramind.errors import UserError
from napari_teramind.widgets import settings
from napari_teramind.widgets.checkpoints import Facts
from napari_teramind.widgets.edits import GeneEdits
from napari_teramind.widgets.empty import NoBrain
from napari_teramind.widgets.generate_where import GenerateWhere
from napari_teramind.widgets.generation import plain_name, taken_names
from napari_teramind.widgets.how import How
from napari_teramind.widgets.keys import KEY_HELP, bind_keys
from napari_teramind.widgets.panel import Panel
from napari_teramind.widgets.parts import (
    MARGIN,
    PRIMARY_HEIGHT,
    Foldable,
    Scrolling,
    sentence,
)
from napari_teramind.widgets.plan import plan_words
from napari_teramind.widgets.timing import Timing
from napari_teramind.widgets.what import What

if TYPE_CHECKING:
    import napari

    from napari_teramind.brain import BrainStore


class SimulateWidget(Panel):
    """Generates stains of a region from gene expression, and shows them in place.

    Parameters
    ----------
    napari_viewer
        The viewer; panels of one viewer share one session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.what = What(self.session)
        self.where = GenerateWhere(self.session)
        self.edits = GeneEdits(self.session)
        self.edit_part = Foldable(
            "Edit genes", self.edits, "Knock genes out, set or multiply them, before generating"
        )
        self.how = How()
        self.advanced = Foldable("Advanced", self.how)
        self.plan_label = sentence()
        self.button = QPushButton("Generate")
        self.button.setToolTip(KEY_HELP)
        self.button.setMinimumHeight(PRIMARY_HEIGHT)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.words = sentence()
        self.timing = Timing(self)
        self.empty = NoBrain(self.session)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self.empty)
        self._pages.addWidget(Scrolling(self._lay_out()))
        self._connect()
        bind_keys(self.session)
        self.refresh()
        self._on_generation()

    def _lay_out(self) -> QWidget:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        for widget in (
            self.what,
            self.where,
            self.edit_part,
            self.advanced,
            self.plan_label,
            self.button,
            self.progress,
            self.words,
        ):
            layout.addWidget(widget)
        return content

    def showEvent(self, event: QShowEvent) -> None:
        """Say what it takes, measuring that if need be: nothing is measured for a hidden panel."""
        super().showEvent(event)
        self._refresh_plan()

    def _connect(self) -> None:
        self.session.brains_changed.connect(self.refresh)
        self.session.generation_changed.connect(self._on_generation)
        self.where.changed.connect(self._refresh_plan)
        self.edits.changed.connect(self._refresh_plan)
        self.session.generate_asked.connect(self._on_asked)
        self.what.changed.connect(self._refresh_plan)
        self.how.changed.connect(self._refresh_plan)
        self.timing.changed.connect(self._refresh_plan)
        self.button.clicked.connect(self._on_button)

    # What the user does

    def _on_button(self) -> None:
        if self.session.generation is None:
            self.generate()
        else:
            self.session.generation.cancel()
            self._refresh_run()

    def _on_asked(self) -> None:
        self.where.choose_region()
        self.generate()

    def generate(self) -> None:
        """Start generating what the panel says, or say why not."""
        if self.session.generation is not None:
            return
        problem = self.problem()
        if problem:
            show_warning(problem)
            return
        try:
            self.session.generate(self.values(), compare=self.edits.compare.isChecked())
        except UserError as error:
            show_error(str(error))

    def values(self) -> dict[str, Any]:
        """Fields of a `SimulateSpec`, as the panel stands."""
        checkpoints = self.session.checkpoints
        return {
            "checkpoint": checkpoints.current,
            "genes": checkpoints.gene_list,
            **self.where.values(),
            **self.edits.values(),
            **self.how.values(),
        }

    def problem(self) -> str:
        """Why nothing can be generated as the panel stands; "" if it can."""
        return self.what.problem() or self.where.problem()

    # What follows

    def refresh(self) -> None:
        """Show the session as it is now."""
        self._pages.setCurrentIndex(0 if self.session.brain is None else 1)
        self._refresh_run()

    def _refresh_plan(self) -> None:
        session, checkpoints = self.session, self.session.checkpoints
        brain, where, words = session.brain, self.where.values(), self.problem()
        facts, checkpoint = checkpoints.facts(), checkpoints.current
        known = facts if isinstance(facts, Facts) else None
        self.edits.show_panel((known.genes or brain.gene_names) if known and brain else ())
        if not words and brain is not None and where["roi"] is not None:
            speed = settings.seconds_per_evaluation(checkpoint) if checkpoint else None
            comes = speed is None and known is not None and self._measures()
            words = plan_words(
                brain, where["roi"], where["slices"], known, self.how.values(), speed, comes
            )
            words = f"{words}{self._twin(brain)}"
        self.plan_label.setText(words)
        self.button.setEnabled(session.generation is not None or not self.problem())

    def _twin(self, brain: BrainStore) -> str:
        """Say what the same again would be, where the brain has it."""
        values = self.values()
        if plain_name(values) not in taken_names(brain):
            return ""
        return (
            f"\nThis brain has this region with seed {values['seed']} already: with the same "
            "settings it would be the same image."
        )

    def _measures(self) -> bool:
        """Have the time of a patch measured; tell whether it will be known soon."""
        if self.session.generation is not None or not self.isVisible():
            return False
        brain = self.session.brain
        return brain is not None and self.timing.ask({"brain": brain.path, **self.values()})

    def _on_generation(self) -> None:
        self.timing.stop()
        if self.session.generation is not None:
            self.session.generation.progressed.connect(self._on_progress)
        self._refresh_run()

    def _on_progress(self, words: str, done: int, total: int) -> None:
        self.words.setText(words)
        self.progress.setMaximum(total)
        self.progress.setValue(done)

    def _refresh_run(self) -> None:
        generation = self.session.generation
        running = generation is not None
        self.button.setText("Cancel" if running else "Generate")
        for part in (self.what, self.where, self.edits, self.how):
            part.setEnabled(not running)
        self.progress.setVisible(running)
        if generation is not None:
            self._on_progress(generation.words, generation.done, generation.total)
        else:
            self.words.setText(self.session.outcome)
        self._refresh_plan()

"""The Attention panel: where do two genes act together, and which structures stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QProgressBar,
    QPushButton,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.attention import open_maps
from napari_teramind.attention.pairs import MAPS, MapName, pair_name
from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.jobs import Failed, Finished
from napari_teramind.plugin.layers import brain_key, tag_of
from napari_teramind.widgets.attention_jobs import plan_words
from napari_teramind.widgets.attention_pair import PairChoice
from napari_teramind.widgets.attention_results import AttentionResults
from napari_teramind.widgets.attention_run import AttentionRun
from napari_teramind.widgets.attention_where import STRUCTURES, AttentionWhere
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.checkpoints import Facts
from napari_teramind.widgets.empty import NoBrain
from napari_teramind.widgets.generation import was_cancelled
from napari_teramind.widgets.keys import bind_attention_key
from napari_teramind.widgets.panel import Panel
from napari_teramind.widgets.parts import (
    MARGIN,
    PRIMARY_HEIGHT,
    Foldable,
    Scrolling,
    sentence,
)
from napari_teramind.widgets.what import What

if TYPE_CHECKING:
    import napari

MEANS = {
    "previous-current": "The slice and the one before it",
    "current-next": "The slice and the one after it",
    "ensemble": "All slices that the network sees at once",
}


ASKS = "Where the two genes attend to each other, and in which structures"
STOPS = "End the run; the same again goes on where it was"


class AttentionWidget(Panel):
    """Computes gene-gene attention of a pair, and shows where it stands out.

    A run is a process of its own that goes on when napari is closed.

    Parameters
    ----------
    napari_viewer
        The viewer; panels of one viewer share one session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.run: AttentionRun | None = None
        self._possible: tuple[MapName, ...] = MAPS
        self._outcome = ""
        self._looked_for: str | None = None
        self.what = What(self.session)
        self.pair = PairChoice()
        self.where = AttentionWhere(self.session)
        self.maps = {name: QCheckBox(name) for name in MAPS}
        self.advanced = Foldable("Advanced", self._lay_out_maps())
        self.plan_label = sentence(plain=True)
        self.button = QPushButton("Compute attention")
        self.button.setMinimumHeight(PRIMARY_HEIGHT)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.words = sentence(plain=True)
        self.results = AttentionResults(self.session)
        self.empty = NoBrain(self.session)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self.empty)
        self._pages.addWidget(Scrolling(self._lay_out()))
        self._connect()
        self.refresh()

    def _lay_out_maps(self) -> QWidget:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(sentence("Maps"))
        for name, box in self.maps.items():
            box.setChecked(True)
            box.setToolTip(MEANS[name])
            layout.addWidget(box)
        return content

    def _lay_out(self) -> QWidget:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        for widget in (
            self.what,
            self.pair,
            self.where,
            self.advanced,
            self.plan_label,
            self.button,
            self.progress,
            self.words,
            self.results,
        ):
            layout.addWidget(widget)
        return content

    def _connect(self) -> None:
        self.session.brains_changed.connect(self.refresh)
        self.session.checkpoints.changed.connect(self._refresh_panel)
        self.session.attention_asked.connect(self._on_asked)
        bind_attention_key(self.session)
        for part in (self.what, self.pair, self.where):
            part.changed.connect(self._refresh_plan)
        for box in self.maps.values():
            box.toggled.connect(self._refresh_plan)
        self.where.choice.currentIndexChanged.connect(self._on_where)
        self.button.clicked.connect(self._on_button)
        self.destroyed.connect(self._leave)

    # What the user does

    def _on_button(self) -> None:
        if self.run is None:
            self.compute()
        else:
            self.run.cancel()

    def _on_asked(self) -> None:
        """Compute attention of the two genes whose layers are selected."""
        if self.run is not None:
            show_info("Attention is being computed already.")
            return
        viewer = self.session.viewer
        chosen = () if viewer is None else viewer.layers.selection
        genes = [tag_of(layer)["name"] for layer in self.session.layers("gene") if layer in chosen]
        if len(genes) != 2:
            show_info("Select the layers of two genes first, the second with Ctrl held down.")
            return
        self.pair.choose((genes[0], genes[1]))
        self.compute()

    def compute(self) -> None:
        """Compute what the panel says, or say why not."""
        if self.run is not None:
            return
        problem = self.problem()
        if problem:
            show_warning(problem)
            return
        try:
            self._follow(AttentionRun.start(self.values()))
        except (UserError, OSError) as error:
            show_error(str(error))

    def values(self) -> dict[str, Any]:
        """Fields of an `AttentionSpec`, as the panel stands."""
        brain, checkpoints = self.session.brain, self.session.checkpoints
        return {
            "brain": None if brain is None else brain_key(brain.path),
            "checkpoint": checkpoints.current,
            "genes": checkpoints.gene_list,
            "pairs": [self.pair.pair()],
            "maps": self.chosen_maps(),
            "name": self._free_name(),
            **self.where.values(),
        }

    def chosen_maps(self) -> list[MapName]:
        """Return the maps that are ticked and that the network can give."""
        return [name for name in self._possible if self.maps[name].isChecked()]

    def problem(self) -> str:
        """Why nothing can be computed as the panel stands; "" if it can."""
        problem = self.what.problem() or self.pair.problem() or self.where.problem()
        if not problem and not self.chosen_maps():
            problem = "Tick at least one map under Advanced."
        return problem

    def _on_where(self) -> None:
        if self.where.kind == STRUCTURES:
            self.session.structures.load()

    def _free_name(self) -> str:
        """Return a name that says what it is and that the brain does not have yet.

        A run that was cancelled is found again by its name: the same is asked for once more.
        """
        brain = self.session.brain
        where = self.where.values()
        parts = [pair_name(self.pair.pair())]
        if where["structures"]:
            parts.append(" ".join(where["structures"]))
        if where["roi"] is not None:
            y0, y1, x0, x1 = where["roi"]
            parts.append(f"y {y0}-{y1}, x {x0}-{x1}")
        base = ", ".join(parts)
        taken = set(brain.attention) if brain is not None else set()
        if base not in taken:
            return base
        return next(
            name for n in range(2, len(taken) + 3) if (name := f"{base} ({n})") not in taken
        )

    # What follows

    def _follow(self, run: AttentionRun) -> None:
        self.run, self._outcome = run, ""
        run.progressed.connect(self._on_progress)
        run.ended.connect(self._on_ended)
        self._refresh_run()

    def _on_progress(self) -> None:
        if self.run is not None:
            self.words.setText(self.run.words)
            self.progress.setMaximum(self.run.total)
            self.progress.setValue(self.run.done)
            self.button.setEnabled(not self.run.cancelling)

    def _on_ended(self, event: Finished | Failed) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        if isinstance(event, Finished):
            self._take(run, event.result["name"])
        elif was_cancelled(event):
            self._outcome = "Cancelled. The same again goes on where this one was."
        else:
            self._outcome = event.message
            show_error(event.message)
        run.deleteLater()
        self._refresh_run()

    def _take(self, run: AttentionRun, name: str) -> None:
        self._outcome = f"Done: {name}."
        brain = self.session.brain
        if brain is None or brain_key(brain.path) != run.fields["brain"]:
            show_info(f"The attention {name} is ready, in {run.fields['brain']}.")
            return
        show_info(f"The attention {name} is ready.")
        self.results.take(name)
        Beside(self, _learn, run, brain, name, then=lambda _: None)

    def refresh(self) -> None:
        """Show the session as it is now."""
        brain = self.session.brain
        self._pages.setCurrentIndex(0 if brain is None else 1)
        path = None if brain is None else brain_key(brain.path)
        if self.run is None and path is not None and path != self._looked_for:
            self._looked_for = path
            found = AttentionRun.find(path)
            if found is not None:
                self._follow(found)
        self.results.refresh()
        shown = self.results.view()
        if shown is not None and not any(self.pair.pair()):
            self.pair.choose(shown.pair)
        self._refresh_panel()
        self._refresh_run()

    def _refresh_panel(self) -> None:
        """Offer the genes and maps of the checkpoint."""
        brain, facts = self.session.brain, self.session.checkpoints.facts()
        panel: tuple[str, ...] = () if brain is None else brain.gene_names
        if isinstance(facts, Facts) and facts.genes is not None:
            panel = facts.genes
        self.pair.show_panel(panel)
        three = not isinstance(facts, Facts) or facts.config.gene_slices == 4
        self._possible = MAPS if three else MAPS[2:]
        for name, box in self.maps.items():
            possible = name in self._possible
            box.setEnabled(possible)
            box.setToolTip(
                MEANS[name] if possible else "Only networks that see four gene slices give it"
            )
        self._refresh_plan()

    def _refresh_plan(self) -> None:
        brain, problem = self.session.brain, self.problem()
        words = ""
        if brain is not None and not problem:
            words = plan_words(
                brain,
                self.where.values(),
                self.pair.pair(),
                self.chosen_maps(),
                self.session.checkpoints.current,
            )
        elif problem != self.what.hint.text():  # said there already
            words = problem
        self.plan_label.setText(words)
        running = self.run is not None
        self.button.setEnabled(running or not problem)
        self.button.setToolTip(STOPS if running else problem or ASKS)

    def _refresh_run(self) -> None:
        run = self.run
        self.button.setText("Compute attention" if run is None else "Cancel")
        for part in (self.what, self.pair, self.where, self.advanced):
            part.setEnabled(run is None)
        self.progress.setVisible(run is not None)
        if run is None:
            self.words.setText(self._outcome)
        self._refresh_plan()
        self._on_progress()

    def _leave(self) -> None:
        """Let the run go on without the panel."""
        if self.run is not None:
            self.run.leave()
            self.run = None
        self.results.abandon()


def _learn(run: AttentionRun, brain: BrainStore, name: str) -> None:
    """Keep how long a run took for as many bins as its result has."""
    depth, height, width = open_maps(brain, name).region.shape
    run.learn_speed(depth * height * width)

"""What the panels of one viewer share: its brains, the chosen checkpoint, the run."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QMainWindow, QWidget

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.errors import UserError
from napari_teramind.jobs import Failed, Finished
from napari_teramind.plugin.display import follow
from napari_teramind.plugin.layers import tag_of
from napari_teramind.widgets import settings
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.checkpoints import Checkpoints
from napari_teramind.widgets.comparing import difference_layers, identity, unedited
from napari_teramind.widgets.generation import Generation, was_cancelled
from napari_teramind.widgets.opening import add_layer, select_again, unless_told
from napari_teramind.widgets.region import Region
from napari_teramind.widgets.structures import Structures
from napari_teramind.words import about

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_teramind.plugin.layers import LayerTuple

_sessions: WeakKeyDictionary[Viewer, Session] = WeakKeyDictionary()


def session_of(viewer: Viewer) -> Session:
    """Return the session of a viewer; every panel of that viewer gets the same one."""
    # Inside widgets napari hands out proxies of the viewer, a new one every time.
    viewer = inspect.unwrap(viewer)
    if viewer not in _sessions:
        _sessions[viewer] = Session(viewer)
    return _sessions[viewer]


class Session(QObject):
    """State shared by the panels of one viewer, which is held weakly."""

    brains_changed = Signal()
    """Brains came or went, or another one was chosen."""
    generation_changed = Signal()
    """A generation began or ended."""
    generate_asked = Signal()
    attention_asked = Signal()
    """The user pressed the key for it; the Simulate panel knows with which settings."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._stores: dict[str, BrainStore] = {}
        self._lost: set[str] = set()
        self._brain: str | None = None
        self._generation: Generation | None = None
        self._next: dict[str, Any] | None = None  # what to generate after the present generation
        self._made: dict[str, str] = {}  # names of results, by what they are of
        self._window: ref[QMainWindow] | None = None
        self._closing = self._closed = False
        self._compares = False
        self.outcome = ""
        viewer.layers.events.inserted.connect(self._on_layers)
        viewer.layers.events.removed.connect(self._on_layers)
        follow(viewer)
        self.region = Region(self)
        self.checkpoints = Checkpoints(self)
        self.structures = Structures(self)

    @property
    def viewer(self) -> Viewer | None:
        """The viewer, or None once it has gone or its window was closed."""
        return None if self._closed else self._viewer()

    # Brains

    def brains(self) -> list[str]:
        """Paths of the brains that have a layer in the viewer, lowest layer first."""
        viewer = self.viewer
        paths = [tag_of(layer).get("brain") for layer in viewer.layers] if viewer else []
        return list(dict.fromkeys(path for path in paths if path))

    @property
    def brain_path(self) -> str | None:
        """The chosen brain, if it is still shown; else the first one shown."""
        brains = self.brains()
        if self._brain in brains:
            return self._brain
        return brains[0] if brains else None

    def choose_brain(self, path: str) -> None:
        """Make one of `brains` the one that the panels are about."""
        if path != self._brain:
            self._brain = path
            self.brains_changed.emit()

    @property
    def brain(self) -> BrainStore | None:
        """The chosen brain, opened; None if there is none, or if it cannot be opened any more."""
        path = self.brain_path
        if path is None or path in self._lost:
            return None
        if path not in self._stores:
            try:
                self._stores[path] = open_brain(path)
            except UserError as error:  # its layers are there, but its folder may have gone
                self._lost.add(path)
                show_error(str(error))
                return None
        return self._stores[path]

    def layers(self, kind: str) -> list[Layer]:
        """Layers of the chosen brain that show one kind of thing, lowest first."""
        viewer, brain = self.viewer, self.brain_path
        if viewer is None or brain is None:
            return []
        return [
            layer
            for layer in viewer.layers
            if tag_of(layer).get("brain") == brain and tag_of(layer).get("kind") == kind
        ]

    def _on_layers(self, event: Any) -> None:
        if tag_of(event.value).get("kind") in ("stain", "gene", "structures", "simulation"):
            self.brains_changed.emit()

    # The run

    @property
    def generation(self) -> Generation | None:
        """The generation that is running, if any."""
        return self._generation

    def generate(self, values: dict[str, Any], compare: bool = False) -> None:
        """Start generating.

        Parameters
        ----------
        values
            Fields of a `SimulateSpec`.
        compare
            Generate the same without edits first, unless it was generated before, and show the
            difference in the end.

        Raises
        ------
        UserError
            If a field cannot be.
        """
        viewer, brain = self.viewer, self.brain
        if viewer is None or brain is None or self._generation is not None:
            return
        self._next = None
        self._compares = compare and bool(values.get("edits"))
        if self._compares and self._before(brain, values) is None:
            self._next, values = values, unedited(values)
        self._start(viewer, brain, values)

    def _before(self, brain: BrainStore, values: dict[str, Any]) -> str | None:
        """Name of the result without edits, if it was generated and is still there."""
        name = self._made.get(identity(brain.path, unedited(values)))
        # Looked for in passing: to ask the store for it takes longer.
        there = name is not None and Path(brain.path, "simulations", name, "zarr.json").is_file()
        return name if there else None

    def _start(self, viewer: Viewer, brain: BrainStore, values: dict[str, Any]) -> None:
        generation = Generation(viewer, brain, values)
        generation.warned.connect(show_warning)
        generation.ended.connect(self._on_ended)
        self._generation, self.outcome = generation, ""
        self.generation_changed.emit()

    def _on_ended(self, event: Finished | Failed) -> None:
        generation, self._generation = self._generation, None
        if generation is None:
            return
        took = time.monotonic() - generation.began
        if isinstance(event, Finished):
            seconds = generation.seconds_per_evaluation()
            if seconds is not None:
                remember = settings.remember_speed  # writes to the disk
                Beside(self, remember, generation.checkpoint, seconds, then=lambda _: None)
            words = about(took).removeprefix("about ")
            self._made[identity(generation.brain.path, generation.values)] = generation.name
            self.outcome = f"Done in {words}: {', '.join(generation.layer_names)}."
            if self._go_on(generation):
                return
            show_info(self.outcome)
        elif was_cancelled(event):
            self.outcome = "Cancelled."
        else:
            self.outcome = event.message
            show_error(event.message)
        generation.deleteLater()
        self.generation_changed.emit()
        # There is a result more to tell of; the window may draw it first.
        QTimer.singleShot(0, self.brains_changed.emit)

    def _go_on(self, generation: Generation) -> bool:
        """Begin what is to follow a generation; return whether something did."""
        viewer, values = self.viewer, self._next
        self._next = None
        if viewer is not None and values is not None:
            generation.deleteLater()
            self._start(viewer, generation.brain, values)
            return True
        if self._compares and generation.values.get("edits"):
            before = self._before(generation.brain, generation.values)
            if before is not None:
                Beside(
                    self, difference_layers, generation.brain, before, generation.name,
                    then=self._show_difference,
                )  # fmt: skip
        return False

    def _show_difference(self, found: list[LayerTuple] | str) -> None:
        viewer = self.viewer
        if viewer is None:
            return
        kept = set(viewer.layers.selection)
        for layer in self.layers("difference"):
            viewer.layers.remove(layer)
        for layer_data in unless_told(found):
            add_layer(viewer, layer_data)
        select_again(viewer, kept)

    def watch(self, widget: QWidget) -> None:
        """End what runs when the window that a panel is part of goes away."""
        window: QWidget | None = widget
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        if window is not None and self._window is None:
            self._window = ref(window)  # which knows the viewer, that we hold weakly
            window.installEventFilter(self)
            window.destroyed.connect(self.abandon)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Note that the window was closed: what is still being read has nowhere to be shown.

        The window itself goes some events later. A user may have been asked, and have stayed.
        """
        window = self._window() if self._window is not None else None
        if window is not None and watched is window and event is not None:
            if event.type() == QEvent.Type.Close:
                self._closing = True
                self._closed = not window.isVisible()
            elif event.type() == QEvent.Type.Hide and not event.spontaneous():
                self._closed = self._closing
            elif event.type() == QEvent.Type.Show:
                self._closing = self._closed = False
        return super().eventFilter(watched, event)

    def abandon(self) -> None:
        """End what runs and tell nobody."""
        self._closed = True
        self.checkpoints.abandon()
        if self._generation is not None:
            self._generation.abandon()
            self._generation = None

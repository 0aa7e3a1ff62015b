"""One generation: a job, its words for the panel, its layers in the viewer."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.jobs import (
    Failed,
    Finished,
    Planned,
    Preview,
    Progress,
    SimulateSpec,
    Warned,
    build_spec,
)
from napari_teramind.jobs.events import CANCELLED
from napari_teramind.plugin.layers import LayerTuple, simulation_layers
from napari_teramind.simulate.replicates import DEVIATION, MEAN
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.results import ResultLayers
from napari_teramind.widgets.running import RunningJob
from napari_teramind.words import named_slices

if TYPE_CHECKING:
    from napari import Viewer


INTERACTIVE_PIXELS = 16_000_000
"""Pixels, over all stains and slices, up to which a region is generated in the warm worker."""
LONGEST_NAME = 90
"""Letters, so that there is room for "standard deviation" and the like."""


class Generation(QObject):
    """Generates a region as a job and shows it in a viewer as it sharpens.

    Parameters
    ----------
    viewer
        Where to show.
    brain
        The brain to generate from.
    values
        Fields of a `SimulateSpec`; ``roi``, ``slices`` and ``seed`` must be among them.

    Raises
    ------
    UserError
        If a field cannot be.
    """

    progressed = Signal(str, int, int)
    """Words, units done, units in all (0: not known)."""
    warned = Signal(str)
    ended = Signal(object)
    """``Finished`` or ``Failed``; exactly once, and not at all after `abandon`."""

    def __init__(self, viewer: Viewer, brain: BrainStore, values: dict[str, Any]) -> None:
        super().__init__()
        self.brain = brain
        self.seed: int = values["seed"]
        self.checkpoint: str = str(values["checkpoint"])
        self.values = values
        self.interactive = is_interactive(values, len(brain.stain_names))
        self.layer_names: list[str] = []
        self.name = free_name(brain, values)
        self.words, self.done, self.total = "Starting", 0, 0
        self._evaluations: int | None = None
        self.began = time.monotonic()
        self._computing_since: float | None = None
        self._cancelling = self._loading = False
        self._waiting: str | None = None
        self._layers = ResultLayers(
            viewer, brain, values["roi"], values["slices"], self.seed, bool(values.get("edits"))
        )
        fields = {"verb": "simulate", "brain": brain.path, "name": self.name, **values}
        self._job = RunningJob(
            lambda folder: self._spec(fields, folder),
            self,
            warm=self.interactive,
            outlives=not self.interactive,
        )
        self._job.told.connect(self._on_event)
        self._job.ended.connect(self._on_ended)

    @staticmethod
    def _spec(fields: dict[str, Any], folder: Path) -> SimulateSpec:
        previews = {"preview_folder": folder / "previews"}
        spec = build_spec({**fields, **previews}, "This generation")
        if not isinstance(spec, SimulateSpec):
            raise TypeError(type(spec))
        return spec

    @property
    def pid(self) -> int:
        """Process id of the job."""
        return self._job.pid

    def seconds_per_evaluation(self) -> float | None:
        """How long one patch evaluation has taken, without what came before the first."""
        if not self._evaluations or self._computing_since is None:
            return None
        return (time.monotonic() - self._computing_since) / self._evaluations

    def cancel(self) -> None:
        """Ask the job to end; `ended` follows."""
        self._cancelling = True
        self._job.cancel()
        self._say("Cancelling")

    def abandon(self) -> None:
        """Tell nobody any more, as when the window goes; a job of a large region goes on."""
        self._cancelling = True
        self._job.abandon()

    def _on_event(self, event: Any) -> None:
        match event:
            case Planned():
                self._evaluations = event.details.get("evaluations")
                self._computing_since = time.monotonic()
            case Progress() if not self._cancelling:
                left = event.time_left()
                words = left[0].upper() + left[1:] if left else event.message
                self._say(words, event.done, event.total)
            case Preview():
                self._waiting = event.path
                self._load_preview()
            case Warned():
                self.warned.emit(event.message)

    def _say(self, words: str, done: int | None = None, total: int | None = None) -> None:
        self.words = words
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.progressed.emit(self.words, self.done, self.total)

    def _load_preview(self) -> None:
        """Read the latest preview beside the event loop; those that came meanwhile are skipped."""
        if self._loading or self._waiting is None or self._cancelling:
            return
        path, self._waiting = self._waiting, None
        self._loading = True
        worker = create_worker(_load, path)
        worker.returned.connect(self._on_preview)
        worker.start()

    def _on_preview(self, image: np.ndarray | None) -> None:
        self._loading = False
        # The job may have ended, and its last image with it, while this one was being read.
        if image is not None and not self._cancelling:
            self._layers.show_preview(image)
        self._load_preview()

    def _on_ended(self, event: Finished | Failed) -> None:
        self._cancelling = True
        if isinstance(event, Failed):
            self._layers.remove_preview()
            self.ended.emit(event)
            return
        self.name = event.result["name"]
        names = [self.name]
        if self.values.get("replicates", 1) > 1:
            names.append(f"{self.name.removesuffix(f', {MEAN}')}, {DEVIATION}")
        Beside(self, _read_results, self.brain, names, then=lambda found: self._show(event, found))

    def _show(self, event: Finished, found: list[list[LayerTuple]] | str) -> None:
        """Show what was generated; a result that cannot be must not leave the panel waiting."""
        if isinstance(found, str):
            self._layers.remove_preview()
            self.ended.emit(Failed(message=found, exit_code=1))
            return
        try:
            self.layer_names = self._layers.show_result(*found)
        finally:
            self.ended.emit(event)


def was_cancelled(event: Finished | Failed) -> bool:
    """Whether a job ended because it was told to."""
    return isinstance(event, Failed) and event.exit_code == CANCELLED


def is_interactive(values: dict[str, Any], stains: int) -> bool:
    """Whether a region is small enough for somebody to wait for it."""
    (y0, y1, x0, x1), (z0, z1) = values["roi"], values["slices"]
    return stains * (y1 - y0) * (x1 - x0) * (z1 - z0) <= INTERACTIVE_PIXELS


def plain_name(values: dict[str, Any]) -> str:
    """Return a name that says what a result is, from the fields of a `SimulateSpec`."""
    y0, y1, x0, x1 = values["roi"]
    more = (*values.get("structures", ()), *("edited" for _ in values.get("edits", ())[:1]))
    words = [f"seed {values['seed']}", named_slices(*values["slices"]), f"y {y0}-{y1}"]
    words += [f"x {x0}-{x1}", *(re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in more)]
    return ", ".join(words)[:LONGEST_NAME].rstrip(" .,-")


def taken_names(brain: BrainStore) -> set[str]:
    """Return the names of a brain's results; only of one that lies on this computer."""
    folder = Path(brain.path, "simulations")  # listed in passing: a store's own list takes longer
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def free_name(brain: BrainStore, values: dict[str, Any]) -> str:
    """Return a result's name, with a number if the brain has such a one already."""
    base, taken = plain_name(values), taken_names(brain)
    if base not in taken:
        return base
    return next(name for n in range(2, len(taken) + 3) if (name := f"{base} ({n})") not in taken)


def _read_results(brain: BrainStore, names: Sequence[str]) -> list[list[LayerTuple]]:
    try:
        return [simulation_layers(brain, name) for name in names]
    except KeyError as error:
        raise UserError(f"{brain.path} has no result {error} any more.") from None


def _load(path: str) -> np.ndarray | None:
    """Read an image, or nothing if the job has removed it for a later one."""
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None

"""What a training will take, asked of a job that takes a few steps."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_teramind.errors import UserError
from napari_teramind.jobs import Failed, Finished, Progress, TrainSpec, build_spec
from napari_teramind.widgets.running import RunningJob
from napari_teramind.words import about


class Estimating(QObject):
    """Estimates one training at a time, for as long as it is the one that is asked for."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.asked: dict[str, Any] | None = None
        self._job: RunningJob | None = None

    @property
    def is_going(self) -> bool:
        """Whether steps are being timed."""
        return self._job is not None

    def start(self, values: dict[str, Any], asked: dict[str, Any]) -> None:
        """Begin; `words` tell how far it is and, in the end, what the training takes.

        Parameters
        ----------
        values
            Fields of a `TrainSpec`.
        asked
            Kept as `asked`, to know later whether the answer is still about what is asked.
        """
        self.forget()
        self.asked = asked
        try:
            spec = build_spec({**values, "verb": "train", "dry_run": True}, "This training")
        except UserError as error:
            self._say(str(error))
            return
        if not isinstance(spec, TrainSpec):
            raise TypeError(type(spec))
        steps = spec.steps
        self._job = RunningJob(lambda _: spec)
        self._job.told.connect(self._on_event)
        self._job.ended.connect(lambda event: self._on_ended(event, steps))
        self._say("Trying a few steps ...")

    def cancel(self) -> None:
        """Estimate no more."""
        job, self._job = self._job, None
        if job is not None:
            job.abandon()
            self._say("")

    def forget(self) -> None:
        """Say nothing any more, as when the settings have changed."""
        self.cancel()
        self.words, self.asked = "", None

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Progress):
            self._say(f"{event.message} ...")

    def _on_ended(self, event: Finished | Failed, steps: int) -> None:
        self._job = None
        if isinstance(event, Finished):
            self._say(estimate_words(event.result, steps))
        else:
            self._say(event.message)

    def _say(self, words: str) -> None:
        self.words = words
        self.changed.emit()


def estimate_words(result: dict[str, Any], steps: int) -> str:
    """Return a line such as "20,000 steps: about 28 h on the CPU, 1.9 GB of memory"."""
    memory = result["memory_bytes"] / 1e9
    millions = result["parameters"] / 1e6
    scaled = "" if result["measured"] else " Measured with one sample and scaled up."
    return (
        f"{steps:,} steps, {about(result['seconds'])} on {result['device']}, {memory:.1f} GB of "
        f"memory; {millions:.1f} million weights, {result['genes']} genes.{scaled}"
    )

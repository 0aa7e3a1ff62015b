"""What a running job tells the world: typed events, one JSON object a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from napari_teramind.words import about

BAD_INPUT = 2
CANCELLED = 130
FAILED = 1


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Planned(_Event):
    """What the job is about to do, before it does it."""

    event: Literal["planned"] = "planned"
    text: str
    details: dict[str, Any] = {}


class Progress(_Event):
    """How far the present phase of the job is.

    Attributes
    ----------
    message
        The phase in words.
    done, total
        Units of this phase; a total of 0 means that it is not known.
    seconds_left
        Estimated time to the end of this phase, or None while nothing can be said yet.
    """

    event: Literal["progress"] = "progress"
    message: str
    done: int
    total: int
    seconds_left: float | None = None

    def time_left(self) -> str:
        """Return the time left in words ("about 4 min left"), or "" when it is not known."""
        return "" if self.seconds_left is None else f"{about(self.seconds_left)} left"


class Preview(_Event):
    """An image to look at while the job runs.

    Attributes
    ----------
    path
        A .npy file: uint8, (stains, z, y, x), the ROI as it would look if the job stopped here.
        The job removes it some steps later.
    step, steps
        Diffusion steps done, and in all.
    """

    event: Literal["preview"] = "preview"
    path: str
    step: int
    steps: int


class Measured(_Event):
    """Numbers of a training run.

    Attributes
    ----------
    kind
        ``"training"``: means over the steps since the last such event; ``"validation"``: the loss
        on held-out crops.
    step
        Optimiser steps taken.
    values
        Numbers by name; ``loss`` is always there.
    """

    event: Literal["measured"] = "measured"
    kind: Literal["training", "validation"]
    step: int
    values: dict[str, float]


class Pictured(_Event):
    """What a network in training generates, beside the real tissue.

    Attributes
    ----------
    path
        A PNG in the run folder: a row a stain, real on the left, generated on the right.
    step
        Optimiser steps taken.
    scores
        PSNR and SSIM of every stain, by names such as ``psnr DAPI``.
    held_out
        Whether the network does not learn from what is shown.
    """

    event: Literal["pictured"] = "pictured"
    path: str
    step: int
    scores: dict[str, float]
    held_out: bool


class Warned(_Event):
    """Something that the user should know and that does not stop the job."""

    event: Literal["warning"] = "warning"
    message: str


class Finished(_Event):
    """The job is done.

    Attributes
    ----------
    result
        What came out. ``summary`` is a list of sentences for people; ``path`` is what was made.
    """

    event: Literal["finished"] = "finished"
    result: dict[str, Any]


class Failed(_Event):
    """The job ended without a result.

    Attributes
    ----------
    message
        One sentence.
    exit_code
        1 failed, 2 bad input, 130 cancelled.
    log
        File with the details of an unexpected failure.
    """

    event: Literal["failed"] = "failed"
    message: str
    exit_code: int = FAILED
    log: str | None = None


Event = Annotated[
    Planned | Progress | Preview | Measured | Pictured | Warned | Finished | Failed,
    Field(discriminator="event"),
]
Emit = Callable[[Event], None]

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> Event:
    """Read an event from one line of JSON.

    Raises
    ------
    pydantic.ValidationError
        If the line is not an event.
    """
    return _ADAPTER.validate_json(line)

"""What a running job tells the world: typed events, one JSON object a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

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
    Planned | Progress | Preview | Warned | Finished | Failed, Field(discriminator="event")
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


def about(seconds: float) -> str:
    """Return a duration as one would say it: "about 40 s", "about 4 min", "about 3 h"."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {round(seconds / 3600)} h"

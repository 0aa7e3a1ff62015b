from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_teramind.jobs import (
    Event,
    Failed,
    Finished,
    Planned,
    Preview,
    Progress,
    Warned,
    parse_event,
)
from napari_teramind.words import about

EVENTS: list[Event] = [
    Planned(text="512 x 512 px", details={"evaluations": 3}),
    Progress(message="Reading", done=1, total=3, seconds_left=2.5),
    Preview(path="a.npy", step=1, steps=15),
    Warned(message="Two planes are missing."),
    Finished(result={"path": "brain.zarr", "summary": ["Done."]}),
    Failed(message="There is no brain at x.", exit_code=2),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_an_event_survives_its_line_of_json(event: Event) -> None:
    line = event.model_dump_json()
    assert "\n" not in line
    assert parse_event(line) == event


@given(st.text())
def test_words_of_any_kind_stay_on_one_line(text: str) -> None:
    try:
        event = Warned(message=text)
    except ValidationError:  # lone surrogates are no text that JSON can hold
        return
    line = event.model_dump_json()
    assert "\n" not in line
    assert parse_event(line.encode()) == event


def test_what_is_no_event_is_refused() -> None:
    for line in ("", "12", "{}", '{"event": "dance"}', '{"event": "warning"}'):
        with pytest.raises(ValidationError):
            parse_event(line)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2, "a few seconds"),
        (41, "about 40 s"),
        (89, "about 90 s"),
        (237, "about 4 min"),
        (5300, "about 88 min"),
        (5400, "about 2 h"),
        (36000, "about 10 h"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_time_left_is_silent_until_something_is_known() -> None:
    assert Progress(message="x", done=0, total=3).time_left() == ""
    left = Progress(message="x", done=1, total=3, seconds_left=237)
    assert left.time_left() == "about 4 min left"

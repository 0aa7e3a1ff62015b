"""Events of a job as a person at a terminal, or a program behind a pipe, wants to read them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from napari_teramind.jobs.events import (
    Emit,
    Event,
    Failed,
    Finished,
    Pictured,
    Planned,
    Progress,
    Warned,
)


@contextmanager
def json_sink() -> Iterator[Emit]:
    """Write one JSON object a line on standard output, and nothing else there."""
    out = sys.stdout

    def emit(event: Event) -> None:
        out.write(event.model_dump_json() + "\n")
        out.flush()
        if isinstance(event, Failed):
            print(event.message, file=sys.stderr)

    # A library that prints must not garble the events.
    with redirect_stdout(sys.stderr):
        yield emit


@contextmanager
def silent_sink() -> Iterator[Emit]:
    """Tell nothing: for processes that help another one, which does the talking."""

    def emit(event: Event) -> None:
        if isinstance(event, Failed):  # that may be why the other one stopped
            print(event.message, file=sys.stderr)

    with redirect_stdout(sys.stderr):
        yield emit


@contextmanager
def terminal_sink() -> Iterator[Emit]:
    """Write results on standard output; plans, progress, warnings, errors on standard error."""
    terminal = _Terminal()
    with terminal.bars:
        yield terminal.emit


class _Terminal:
    """A progress bar and sentences.

    Where standard error is no terminal, the progress is a line every half minute.
    """

    LINE_INTERVAL = 30.0

    def __init__(self) -> None:
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[left]}", markup=False, style="dim"),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )
        self._task: TaskID | None = None
        self._last_line = float("-inf")
        self._plan: str | None = None

    def emit(self, event: Event) -> None:
        """Show one event."""
        if self._plan is not None:
            # What only plans says the same once more as its result.
            told = isinstance(event, Finished) and f"{self._plan}." in event.result.get(
                "summary", []
            )
            if not told:
                self._say(self._plan)
            self._plan = None
        match event:
            case Planned():
                self._plan = event.text
            case Progress():
                self._progress(event)
            case Pictured():
                self._say(f"Step {event.step}: real and generated in {event.path}")
            case Warned():
                self._say(f"Warning: {event.message}", "yellow")
            case Failed():
                self.bars.stop()
                self._say(event.message, "red")
            case Finished():
                self.bars.stop()
                for sentence in event.result.get("summary", []):
                    print(sentence)

    def _say(self, text: str, style: str | None = None) -> None:
        self._err.print(text, style=style, markup=False)

    def _progress(self, event: Progress) -> None:
        if self._err.is_terminal:
            if self._task is None:
                self._task = self.bars.add_task(event.message, left="")
            self.bars.update(
                self._task,
                description=event.message,
                completed=event.done,
                total=event.total or None,
                left=event.time_left(),
            )
        elif time.monotonic() - self._last_line >= self.LINE_INTERVAL:
            self._last_line = time.monotonic()
            share = f" ({100 * event.done // event.total} %)" if event.total else ""
            left = event.time_left()
            self._say(f"{event.message}{share}{', ' + left if left else ''}")

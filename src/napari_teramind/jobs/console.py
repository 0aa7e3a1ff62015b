"""Events of a job as a person at a terminal, or a program behind a pipe, wants to read them."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from napari_teramind.jobs.events import Event, Failed, Finished, Pictured, Planned, Progress, Warned


class Sink(Protocol):
    """Where the events of a job go; a context manager around the job."""

    def emit(self, event: Event) -> None:
        """Take one event."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""


class JsonSink:
    """One JSON object a line on standard output, and nothing else there."""

    def __init__(self) -> None:
        self._out: TextIO = sys.stdout

    def emit(self, event: Event) -> None:
        """Write one event."""
        self._out.write(event.model_dump_json() + "\n")
        self._out.flush()
        if isinstance(event, Failed):
            print(event.message, file=sys.stderr)

    def __enter__(self) -> Self:
        # A library that prints must not garble the events.
        sys.stdout = sys.stderr
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.stdout = self._out


class SilentSink:
    """Nothing: for processes that help another one, which does the talking."""

    def emit(self, event: Event) -> None:
        """Show a failure on standard error, as that may be why the other one stopped."""
        if isinstance(event, Failed):
            print(event.message, file=sys.stderr)

    def __enter__(self) -> Self:
        sys.stdout = sys.stderr
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.stdout = sys.__stdout__ or sys.stderr


class TerminalSink:
    """Results on standard output; plans, a progress bar, warnings and errors on standard error.

    Where standard error is no terminal, the progress is a line every half minute.
    """

    LINE_INTERVAL = 30.0

    def __init__(self) -> None:
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[left]}", markup=False, style="dim"),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )
        self._task: TaskID | None = None
        self._last_line = float("-inf")

    def emit(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Planned():
                self._say(event.text)
            case Progress():
                self._progress(event)
            case Pictured():
                self._say(f"Step {event.step}: real and generated in {event.path}")
            case Warned():
                self._say(f"Warning: {event.message}", "yellow")
            case Failed():
                self._bars.stop()
                self._say(event.message, "red")
            case Finished():
                self._bars.stop()
                for sentence in event.result.get("summary", []):
                    print(sentence)

    def _say(self, text: str, style: str | None = None) -> None:
        self._err.print(text, style=style, markup=False)

    def _progress(self, event: Progress) -> None:
        if self._err.is_terminal:
            if self._task is None:
                self._task = self._bars.add_task(event.message, left="")
            self._bars.update(
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

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

"""What holds the event loop of a window: gaps between its beats, and calls of this package."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

BEAT_MS = 5
OURS, NAPARI, PIXELS = "ours", "napari", "pixels"
OWNERS = {"napari_teramind": OURS, "napari": NAPARI, "vispy": NAPARI, "app_model": NAPARI}
"""Packages, and whose they are; what any other package does is done for whoever called it."""
PIXEL_FILES = {("plugin", "lazy.py"), ("plugin", "remote.py"), ("plugin", "attention.py")}
"""What napari calls for pixels."""


class Beats:
    """A timer, and how late each of its beats is.

    Attributes
    ----------
    step
        What the user is doing; nothing is noted while it is empty.
    """

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.step = ""
        self._gaps: dict[str, list[float]] = defaultdict(list)
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._on_beat)
        self._timer.start(BEAT_MS)

    def begin(self, step: str) -> None:
        """Say what the user is about to do; what lies between two steps is not counted."""
        self.step = step
        self._last = time.perf_counter()

    def end(self) -> None:
        """Beat no more."""
        self._timer.stop()

    def _on_beat(self) -> None:
        now = time.perf_counter()
        if self.step:
            self._gaps[self.step].append(1000 * (now - self._last))
        self._last = now

    def report(self) -> dict[str, Any]:
        """Return, step by step, the longest gap and the 99th percentile, ms."""
        return {
            step: {
                "longest_gap_ms": round(max(gaps), 1),
                "p99_gap_ms": round(float(np.percentile(gaps, 99)), 1),
            }
            for step, gaps in self._gaps.items()
        }


@dataclass
class Call:
    """A call of this package from outside: by Qt, by napari, by the script that plays the user.

    Attributes
    ----------
    place
        File and function.
    ms
        By whose code, beneath it, how much time was spent.
    """

    place: str
    ms: dict[str, float]


class Calls:
    """Times calls of this package in the thread that it is made in, by Python's profiler hook.

    The hook makes everything slower, so that what it tells is too much rather than too little.

    Attributes
    ----------
    step
        What the user is doing; nothing is noted while it is empty.
    """

    def __init__(self) -> None:
        self.step = ""
        self._owners: dict[CodeType, str | None] = {}
        self._above: list[str | None] = []
        self._owner: str | None = None
        self._call: Call | None = None
        self._depth = 0
        self._last = 0.0
        self._calls: dict[str, list[Call]] = defaultdict(list)
        sys.setprofile(self._event)

    def begin(self, step: str) -> None:
        """Say what the user is about to do."""
        self.step = step

    def end(self) -> None:
        """Time no more."""
        sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            code = frame.f_code
            if code not in self._owners:
                self._owners[code] = _owner(Path(code.co_filename))
            owner = self._owners[code] or self._owner
            self._above.append(self._owner)
            if self._call is None and owner in (OURS, PIXELS):
                self._call = Call(f"{Path(code.co_filename).name} {code.co_name}", {})
                self._depth, self._last = len(self._above), time.perf_counter()
            self._change(owner)
        elif event == "return" and self._above:
            self._change(self._above[-1])
            if self._call is not None and len(self._above) == self._depth:
                if self.step:
                    self._calls[self.step].append(self._call)
                self._call = None
            self._above.pop()

    def _change(self, owner: str | None) -> None:
        if self._call is not None and owner != self._owner:
            now = time.perf_counter()
            ms = self._call.ms
            who = self._owner if self._owner is not None else owner
            ms[str(who)] = ms.get(str(who), 0.0) + 1000 * (now - self._last)
            self._last = now
        self._owner = owner

    def report(self) -> dict[str, Any]:
        """Return, step by step, the longest calls of ours, and of napari and pixels in them, ms."""
        found: dict[str, Any] = {}
        for step, calls in self._calls.items():
            worst = sorted(calls, key=lambda call: -call.ms.get(OURS, 0))[:3]
            found[step] = {
                "ours_longest_ms": {call.place: round(call.ms.get(OURS, 0), 1) for call in worst},
                "pixels_longest_ms": round(max(call.ms.get(PIXELS, 0) for call in calls), 1),
                "napari_in_ours_longest_ms": round(
                    max(call.ms.get(NAPARI, 0) for call in calls), 1
                ),
            }
        return found


def _owner(path: Path) -> str | None:
    if path.parts[-2:] in PIXEL_FILES:
        return PIXELS
    return next((OWNERS[part] for part in reversed(path.parts[:-1]) if part in OWNERS), None)

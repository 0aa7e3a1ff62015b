"""The walk's story: its steps measured and photographed where a folder for that is named."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_teramind.plugin.layers import tag_of
from napari_teramind.widgets.camera import go_to

FOLDER, WHAT = "TERAMIND_WALK", "TERAMIND_WALK_MEASURES"
"""Environment variables: the folder that gets pictures and a JSON file, and what is measured,
``beats`` or ``calls``. See benchmarks/walk.py."""


class Story:
    """Steps of a user; only told, unless a folder is named."""

    def __init__(self) -> None:
        named = os.environ.get(FOLDER)
        self._folder = None if named is None else Path(named)
        self._what = os.environ.get(WHAT, "")
        self._measure: Any = None
        if self._what:
            sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
            from measuring.stalls import Beats, Calls

            self._measure = {"beats": Beats, "calls": Calls}[self._what]()

    @property
    def steps(self) -> int:
        """Diffusion steps of the walk: few, unless it is to look good."""
        return 2 if self._folder is None else 10

    @property
    def region(self) -> tuple[int, int]:
        """Height and width, px, of the region that is drawn."""
        return (128, 160) if self._folder is None else (320, 384)

    def close_up(self, viewer: Any) -> None:
        """Come near what was generated, for the pictures."""
        if self._folder is None:
            return
        shown = [layer for layer in viewer.layers if tag_of(layer).get("kind") == "simulation"]
        low, high = shown[0].extent.world
        go_to(viewer, tuple(low), tuple(high), 0.7)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Do a step, and measure what holds the event loop meanwhile."""
        if self._measure is not None:
            self._measure.begin(title)
        yield
        if self._measure is not None:
            self._measure.begin("")

    def picture(self, viewer: Any, name: str) -> None:
        """Take a picture of the window, between two steps."""
        if self._folder is not None and self._what != "calls":
            viewer.screenshot(self._folder / f"walk-{name}.png", canvas_only=False, flash=False)

    def end(self) -> None:
        """Write down what was measured."""
        if self._measure is not None and self._folder is not None:
            self._measure.end()
            told = json.dumps(self._measure.report(), indent=1)
            (self._folder / f"{self._what}.json").write_text(told + "\n")

"""What a run passed through, kept so that an edit costs only what it can reach.

A collage patch depends, step by step, on the patches around it (DESIGN 4.1). So what an edit
changes at the first step grows by one patch a step; all else of every step is as it was.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from napari_teramind.simulate.edits import Edit

MOST_BYTES = 2**29
"""Main memory that a process spends on traces at most; twice that while one replaces another."""


@dataclass
class Trace:
    """State before every step and after the last, of a run that was stepped as a whole.

    Attributes
    ----------
    states, x0
        (stains, M, rows p, columns p) each, in main memory; the predicted images go with the
        states.
    """

    states: list[Tensor] = field(default_factory=list)
    x0: list[Tensor] = field(default_factory=list)

    def add(self, state: Tensor, x0: Tensor) -> None:
        """Keep copies of a step's state and predicted image."""
        self.states.append(state.to("cpu", copy=True))
        self.x0.append(x0.to("cpu", copy=True))


@dataclass(frozen=True)
class Again:
    """A run that was traced, to be done again after an edit.

    Attributes
    ----------
    before
        Its trace.
    reach
        (rows, columns) bool over the generated area: the collage patches that the edit changes at
        the first step.
    """

    before: Trace
    reach: np.ndarray


class Traces:
    """Traces of the last run of a process.

    Parameters
    ----------
    most_bytes
        What needs more is not kept.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._run: Hashable = None
        self._kept: dict[Hashable, tuple[tuple[Edit, ...], Trace]] = {}

    def begin(self, run: Hashable) -> None:
        """Forget what is kept of any other run.

        Parameters
        ----------
        run
            What it is a run of, but for the edits.
        """
        if run != self._run:
            self._run = run
            self._kept.clear()

    def find(self, part: Hashable) -> tuple[tuple[Edit, ...], Trace] | None:
        """Return the edits and the trace of a part of the run, if it is kept."""
        return self._kept.get(part)

    def has_room(self, part: Hashable, bytes_: int) -> bool:
        """Whether a trace of that size would be kept, in the place of the part's earlier one."""
        have = sum(
            tensor.nbytes
            for other, (_, trace) in self._kept.items()
            for tensor in trace.states + trace.x0
            if other != part
        )
        return have + bytes_ <= self._most_bytes

    def keep(self, part: Hashable, edits: Sequence[Edit], trace: Trace) -> None:
        """Keep the trace of a part in the place of what was kept of it."""
        self._kept[part] = (tuple(edits), trace)

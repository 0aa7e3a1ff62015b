"""What a generation will take, in one line, before it is started."""

from __future__ import annotations

from typing import Any

from napari_teramind.brain import BrainStore
from napari_teramind.jobs import about
from napari_teramind.widgets.checkpoints import Facts

Roi = tuple[int, int, int, int]


def plan_words(
    brain: BrainStore,
    roi: Roi,
    slices: tuple[int, int],
    facts: Facts | None,
    how: dict[str, Any],
    seconds_per_evaluation: float | None,
) -> str:
    """Return a line such as "512 x 512 px x 2 slices, about 20 s".

    Parameters
    ----------
    brain
        The brain to generate from.
    roi, slices
        The region, half open.
    facts
        What the checkpoint holds; None while it is being read.
    how
        ``steps`` and ``halo``, as in a `SimulateSpec`.
    seconds_per_evaluation
        What one patch evaluation took last time on this computer, if there was a last time.
    """
    y0, y1, x0, x1 = roi
    count = slices[1] - slices[0]
    words = f"{y1 - y0:,} x {x1 - x0:,} px x {count} slice{'s' if count > 1 else ''}"
    if facts is None:
        return words
    if seconds_per_evaluation is None:
        return f"{words}; how long it takes is known after the first time"
    work = evaluations(brain, roi, slices, facts, how["steps"], how["halo"])
    return f"{words}, {about(work * seconds_per_evaluation)}"


def evaluations(
    brain: BrainStore,
    roi: Roi,
    slices: tuple[int, int],
    facts: Facts,
    steps: int,
    halo: Any,
) -> int:
    """Count the patches that the network will see, over all steps and slice groups.

    The same count as `napari_teramind.simulate.plan_roi` makes (DESIGN 4.3: every step but the
    last reaches one patch further), without its import of torch, which would freeze the window for
    seconds.
    """
    patch, (height, width) = facts.patch, brain.shape[1:]
    total = 0
    for before_last in range(steps):
        margin = before_last if halo == "exact" else min(before_last, halo)
        rows = _patches(roi[0], roi[1], height, patch, margin)
        total += rows * _patches(roi[2], roi[3], width, patch, margin)
    groups = -(-slices[1] // facts.image_slices) - slices[0] // facts.image_slices
    return groups * total


def _patches(start: int, stop: int, length: int, patch: int, margin: int) -> int:
    """Count the patches of one axis that lie between two pixels or up to `margin` beyond."""
    first = max(0, start // patch - margin)
    return min(-(-length // patch), -(-stop // patch) + margin) - first

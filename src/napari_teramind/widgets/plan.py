"""What a generation will take, in one line, before it is started."""

from __future__ import annotations

from typing import Any

from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.simulate import Request
from napari_teramind.simulate.plan import plan_run
from napari_teramind.widgets.checkpoints import Facts
from napari_teramind.words import about, size

Roi = tuple[int, int, int, int]


def plan_words(
    brain: BrainStore,
    roi: Roi,
    slices: tuple[int, int],
    facts: Facts | None,
    how: dict[str, Any],
    seconds_per_evaluation: float | None,
    is_measured: bool = False,
) -> str:
    """Return a line such as "512 x 512 px x 2 slices, 0.4 GB of memory, 1 MB on disk, about 20 s".

    Parameters
    ----------
    brain
        The brain to generate from.
    roi, slices
        The region, half open.
    facts
        What the checkpoint holds; None while it is being read.
    how
        ``steps``, ``halo`` and ``replicates``, as in a `SimulateSpec`.
    seconds_per_evaluation
        What one patch evaluation took last time on this computer, if there was a last time.
    is_measured
        Whether that is being measured.
    """
    y0, y1, x0, x1 = roi
    count = slices[1] - slices[0]
    words = f"{y1 - y0:,} x {x1 - x0:,} px x {count} slice{'s' if count > 1 else ''}"
    if facts is None:
        return words
    # Everything is counted, tissue or not: reading the mask of a large brain would take a while.
    request = Request(roi, slices, steps=how["steps"], halo=how["halo"])
    try:
        plan = plan_run(brain, facts.config, request)
    except UserError:  # the panel says why it cannot run
        return words
    samples = how["replicates"]
    if samples > 1:
        words = f"{words}, {samples} samples"
    disk = plan.disk_bytes * (1 if samples == 1 else samples + 2)
    words = f"{words}, {size(plan.memory_bytes)} of memory, {size(disk)} on disk"
    if seconds_per_evaluation is None and is_measured:
        return f"{words}; measuring how long it takes ..."
    if seconds_per_evaluation is None:
        return f"{words}; how long it takes is known after the first time"
    return f"{words}, {about(plan.evaluations * samples * seconds_per_evaluation)}"

"""What a run will take, before it starts: evaluations, memory, disk, time. Needs no torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_teramind.brain.result import result_tile
from napari_teramind.errors import UserError
from napari_teramind.model.config import Kernels, ModelConfig
from napari_teramind.model.kernels import find_compiler
from napari_teramind.simulate.request import LANE, Layout, Request, lay_out
from napari_teramind.simulate.tissue import ActivePatches

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

PYRAMID = 4 / 3
"""Size of an image with all its coarser levels, relative to its finest."""

GAPS = 1.08
"""What a heap is larger than what lies in it: freed blocks that the next ones do not fill."""

_SAFETY = 0.9


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    layout
        The request on the brain's grid.
    active
        The patches that are computed.
    evaluations
        Collage patches evaluated, over all groups and steps.
    memory_bytes
        Estimated peak of what a run adds to a process that has loaded the network; on a GPU this
        is GPU memory.
    seconds
        Estimated time; None where nothing was measured.
    """

    layout: Layout
    active: ActivePatches
    evaluations: int
    memory_bytes: int
    seconds: float | None = None

    @property
    def pixels(self) -> int:
        """Pixels of the result, over all stains and slices."""
        (y0, y1, x0, x1), (z0, z1) = self.layout.request.roi, self.layout.request.slices
        return self.layout.stains * (z1 - z0) * (y1 - y0) * (x1 - x0)

    @property
    def disk_bytes(self) -> int:
        """Size of the result with its pyramid, uncompressed: at most this much is written."""
        return int(PYRAMID * self.pixels)

    @property
    def text(self) -> str:
        """One line for people."""
        from napari_teramind.words import about, size

        (y0, y1, x0, x1), (z0, z1) = self.layout.request.roi, self.layout.request.slices
        slices = f"{z1 - z0} slice" + ("s" if z1 - z0 > 1 else "")
        words = [
            f"{y1 - y0:,} x {x1 - x0:,} px x {slices}",
            f"{self.evaluations:,} patch evaluations",
            f"{size(self.memory_bytes)} of memory",
            f"up to {size(self.disk_bytes)} on disk",
        ]
        if self.seconds is not None:
            words.append(about(self.seconds))
        return ", ".join(words)


def plan_run(
    brain: BrainStore,
    config: ModelConfig,
    request: Request,
    device: str = "cpu",
    itemsize: int = 4,
    form: Kernels | None = None,
) -> Plan:
    """Check a request and say what it takes, but for the time, which is measured.

    Parameters
    ----------
    brain, config, request
        What to generate, and with what network.
    device
        Kind of device.
    itemsize
        Bytes of a number in the network: 4, or 2 in half precision.
    form
        Of the kernels; by default compiled on a CPU, if there is a compiler.

    Raises
    ------
    UserError
        If the request cannot be met.
    """
    layout = lay_out(brain, config, request, device)
    active = ActivePatches(brain, layout)
    if form is None:
        form = _expected_form(device)
    memory = memory_bytes(layout, config, itemsize, fused=device == "cpu" and form == "compiled")
    return Plan(layout, active, active.evaluations(), memory)


@functools.cache
def _expected_form(device: str) -> Kernels:
    # Kept: a panel plans at every change, and the search goes through all folders of programs.
    return "compiled" if device == "cpu" and find_compiler() else "eager"


def check_fits(plan: Plan, memory: int, disk: int) -> None:
    """Refuse a run that cannot fit, and say what would.

    Parameters
    ----------
    plan
        Of the run.
    memory, disk
        Free bytes of the device's memory and of the store's disk.

    Raises
    ------
    UserError
        If the plan needs more than there is.
    """
    from napari_teramind.words import size

    (*_, x0, x1), (z0, z1) = plan.layout.request.roi, plan.layout.request.slices
    if plan.disk_bytes > disk:
        share = disk / plan.disk_bytes
        fits = int((z1 - z0) * share)
        what = f"{fits} slices would fit" if fits else "choose a smaller region or another disk"
        raise UserError(
            f"The result may take {size(plan.disk_bytes)} and {size(disk)} are free on the disk; "
            f"{what}."
        )
    if plan.memory_bytes > memory:
        width = int((x1 - x0) * memory / plan.memory_bytes * _SAFETY)
        what = f"a region of about {width:,} px width (now {x1 - x0:,}) would fit"
        if width < plan.layout.patch:
            what = "close what else uses it, or choose another device or a smaller network"
        raise UserError(
            f"This needs {size(plan.memory_bytes)} of memory and {size(memory)} are free; {what}."
        )


def memory_bytes(layout: Layout, config: ModelConfig, itemsize: int, fused: bool) -> int:
    """Estimate the peak of a run from the sizes of what it keeps (see :mod:`.wavefront`).

    ``fused``: with kernels that read the parts of a concatenation where they are.
    """
    c, settings, steps = config, layout.settings, layout.request.steps
    window = layout.windows[0]
    band = min(settings.band or window.rows, window.rows)
    height = layout.request.roi[1] - layout.request.roi[0]
    width = layout.request.roi[3] - layout.request.roi[2]
    tile = result_tile(height, width)
    lane_px = min(width, LANE * tile)
    columns = min(window.columns, -(-lane_px // c.patch) + 2 * steps)
    rows = min(window.rows + 2, band + steps + 1)
    plane = c.stains * c.image_slices * c.patch**2 * columns
    # The state while a band is appended to it, and the strip that the encoder reads.
    state = 4 * plane * (2 * rows + 2 * (band + 1) + steps / 2)
    if layout.request.sampler != "ddim":
        state += 4 * plane * rows
    per_patch = c.image_slices * sum(
        channels * (c.bins * 2**k) ** 2 for k, channels in enumerate((c.genes, *c.gene_channels))
    )
    features = itemsize * per_patch * rows * (columns + 1)
    genes = 3 * 4 * c.genes * c.gene_slices * 8 * c.bins**2 * (columns + 1)
    pool = itemsize * _encoded(c) * ((band + 1) * 2 + 2 * settings.batch)
    working = (
        itemsize * settings.batch * ((1 if fused else 2) * _encoded(c) + _activations(c, fused))
    )
    waiting = c.stains * c.image_slices * lane_px * tile * 3
    return int(GAPS * (state + features + genes + pool + working + waiting))


def _encoded(c: ModelConfig) -> int:
    """Values that the encoder leaves of a patch: middle and skips."""
    return c.image_slices * sum(
        (4 if level < 3 else 3) * c.channels * m * (c.patch >> level) ** 2
        for level, m in enumerate(c.multipliers)
    )


def _activations(c: ModelConfig, fused: bool) -> int:
    """Values of a patch that the widest residual block works on at a time."""
    widest = 0.0
    gene_widths = (c.genes, *c.gene_channels)
    for level, m in enumerate(c.multipliers):
        positions = c.image_slices * (c.patch >> level) ** 2
        above = c.multipliers[min(level + 1, 3)]
        joined = c.channels * (above + m) + gene_widths[3 - level]
        widest = max(widest, positions * ((1.5 if fused else 3) * joined + 4 * c.channels * m))
    return int(widest)

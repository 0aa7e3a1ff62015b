"""What generating a region takes, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_teramind.diffusion.samplers import plan_steps
from napari_teramind.model.network import TeraMind
from napari_teramind.simulate.region import (
    Halo,
    PatchBox,
    Roi,
    check_roi,
    check_slices,
    generated_area,
    slice_groups,
    step_windows,
)
from napari_teramind.simulate.wavefront import Settings

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

PLAIN_ROWS = 24
"""Up to this many patch rows a region is stepped as a whole, so that it sharpens everywhere at
once; larger ones go through in bands, which keeps memory flat."""


@dataclass(frozen=True)
class RoiPlan:
    """What generating a region takes.

    Attributes
    ----------
    roi, slices
        As asked for: pixels (y0, y1, x0, x1) and slices (z0, z1), half open.
    groups
        First slice of every slice group that is generated; results are cropped to ``slices``.
    target, area
        Patches that cover the region, and those that the run treats as existing.
    evaluations
        Collage patches evaluated, over all groups and steps.
    memory_bytes
        Estimated peak of state, gene features and activations, without the weights.
    settings
        How the field is cut.
    """

    roi: Roi
    slices: tuple[int, int]
    groups: tuple[int, ...]
    target: PatchBox
    area: PatchBox
    steps: int
    evaluations: int
    memory_bytes: int
    settings: Settings

    @property
    def text(self) -> str:
        """One line for people."""
        y0, y1, x0, x1 = self.roi
        z0, z1 = self.slices
        memory = self.memory_bytes / 1e9
        return (
            f"{y1 - y0} x {x1 - x0} px x {z1 - z0} slices, {self.evaluations:,} patch evaluations, "
            f"about {memory:.1f} GB"
        )


def plan_roi(
    brain: BrainStore,
    model: TeraMind,
    roi: Roi,
    slices: tuple[int, int],
    steps: int = 15,
    sampler: str = "ddim",
    halo: Halo = "exact",
) -> RoiPlan:
    """Check a request and say what it takes; see :func:`~napari_teramind.simulate.simulate`."""
    depth, height, width = brain.shape
    roi = check_roi(roi, height, width)
    slices = check_slices(slices, depth)
    c = model.config
    target = PatchBox.covering(roi, c.patch)
    area = generated_area(target, PatchBox.covering((0, height, 0, width), c.patch), halo)
    windows = step_windows(target, area, len(plan_steps(sampler, steps)))
    groups = slice_groups(slices, c.image_slices)
    rows = windows[0].rows
    band = None if rows <= PLAIN_ROWS else 8
    settings = Settings(band=band, block=max(1, 64 // ((band or rows) + 1)))
    return RoiPlan(
        roi,
        slices,
        tuple(groups),
        target,
        area,
        steps,
        len(groups) * sum(window.area for window in windows),
        _memory(model, windows[0], settings, steps),
        settings,
    )


def _memory(model: TeraMind, window: PatchBox, settings: Settings, steps: int) -> int:
    """Estimate peak bytes of a run from the sizes of what it keeps."""
    c = model.config
    item = torch.empty((), dtype=model.dtype).element_size()
    rows = min(window.rows + 2, (settings.band or window.rows) + steps + 1)
    state = 4 * c.stains * c.image_slices * rows * (window.columns + 2) * c.patch**2 * 3
    per_level = [
        width * (c.bins * 2**k) ** 2 for k, width in enumerate((c.genes, *c.gene_channels))
    ]
    features = item * c.image_slices * sum(per_level) * rows * (window.columns + 1)
    genes = 4 * c.genes * c.gene_slices * 16 * c.bins**2 * (window.columns + 1)
    encoded = (
        item
        * c.image_slices
        * sum(
            (4 if level < 3 else 3) * c.channels * m * (c.patch >> level) ** 2
            for level, m in enumerate(c.multipliers)
        )
    )
    banded = min(settings.band or window.rows, window.rows) + 1
    activations = encoded * (3 * banded * (settings.block + 1) + 4 * settings.batch)
    return int(state + features + genes + activations)

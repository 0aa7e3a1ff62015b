"""Generating a region of a brain as an array."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from napari_teramind.diffusion.samplers import plan_steps
from napari_teramind.model.network import TeraMind
from napari_teramind.simulate.batches import Batches
from napari_teramind.simulate.edits import Edit, Edits, difference
from napari_teramind.simulate.readers import gene_panel, gene_reader, gene_slices, noise_reader
from napari_teramind.simulate.region import Halo, PatchBox, Roi, step_windows
from napari_teramind.simulate.request import Layout, Request, lay_out
from napari_teramind.simulate.tissue import ActivePatches
from napari_teramind.simulate.trace import Again, Trace, Traces
from napari_teramind.simulate.wavefront import Wavefront

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

Report = Callable[[str, int, int], None]
"""report(message, done, total)."""

Preview = Callable[[int, np.ndarray], None]
"""preview(step, x0) with x0 (stains, z, y, x) float32 in [-1, 1]; -1 where not begun."""


def simulate(
    brain: BrainStore,
    model: TeraMind,
    roi: Roi,
    slices: tuple[int, int],
    seed: int = 0,
    steps: int = 15,
    sampler: str = "ddim",
    halo: Halo = "exact",
    noise: str = "philox",
    where: Literal["all", "tissue"] = "all",
    edits: Sequence[Edit] = (),
    report: Report | None = None,
    preview: Preview | None = None,
) -> np.ndarray:
    """Generate the stains of a region from the brain's gene expression.

    Parameters
    ----------
    brain
        The store; its genes must contain the network's panel.
    model
        The network.
    roi
        (y0, y1, x0, x1) px of the full-resolution grid, half open, anywhere inside the brain.
    slices
        (z0, z1), half open; widened to whole slice groups for the computation.
    seed, steps, sampler, halo, noise, where, edits
        See :class:`~napari_teramind.simulate.request.Request`.
    report, preview
        Callbacks for progress (in patch evaluations) and for predicted images after every step.

    Returns
    -------
    ndarray
        (stains, z, y, x) uint8.

    Raises
    ------
    UserError
        If the region leaves the brain, a gene is missing, or an option is not known.
    """
    request = Request(roi, slices, seed, steps, sampler, halo, noise, where, tuple(edits))
    layout = lay_out(brain, model.config, request, model.device.type)
    run = GroupRun(brain, model, layout, report=report, preview=preview)
    z0, z1 = slices
    out = np.zeros((model.config.stains, z1 - z0, roi[1] - roi[0], roi[3] - roi[2]), np.uint8)
    for first in layout.groups:
        for row, rows in run.rows(first, layout.target):
            paste(out, to_uint8(rows), layout, row, layout.target.left, first)
    return out


class GroupRun:
    """Runs wavefronts over slice groups of a layout, with one progress and one preview for all.

    Parameters
    ----------
    brain, model, layout
        What to generate, and how.
    batches
        Evaluates the network; default: one of its own.
    report, preview
        Callbacks, as for :func:`simulate`.
    total
        Evaluations of the whole run, for the progress; default: of the layout.
    active
        The patches that are computed; default: found out here.
    traces
        Where runs that are stepped as a whole leave what they passed through, and find it again
        when only the edits differ.
    """

    def __init__(
        self,
        brain: BrainStore,
        model: TeraMind,
        layout: Layout,
        batches: Batches | None = None,
        report: Report | None = None,
        preview: Preview | None = None,
        total: int | None = None,
        active: ActivePatches | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.brain, self.model, self.layout = brain, model, layout
        self.panel = gene_panel(brain, model)
        self.edits = Edits(brain, layout.request.edits, self.panel)
        self.active = active or ActivePatches(brain, layout)
        self.batches = batches or Batches(layout.settings.batch)
        self.steps = plan_steps(layout.request.sampler, layout.request.steps)
        self._report, self._preview = report, preview
        self._total = self.active.evaluations() if total is None else total
        self._done = 0
        y0, y1, x0, x1 = layout.request.roi
        z0, z1 = layout.request.slices
        shape = (model.config.stains, z1 - z0, y1 - y0, x1 - x0)
        self._shown = np.full(shape, -1, np.float32) if preview is not None else None
        self._traces = traces
        if traces is not None:
            traces.begin(self._identity())

    def _identity(self) -> Hashable:
        """What the run is of, but for its edits."""
        counts = Path(self.brain.path, "genes", "zarr.json")
        written = counts.stat().st_mtime_ns if counts.exists() else 0
        model = (self.model.sha256 or id(self.model), self.model.dtype, self.model.device)
        return (self.brain.path, written, model, replace(self.layout.request, edits=()))

    def rows(self, first: int, target: PatchBox) -> Iterator[tuple[int, Tensor]]:
        """Yield (patch row, finished rows in [-1, 1]) of a part of the region, for one group."""
        before = self._done
        words = self._words(first)

        def progress(done: int) -> None:
            self._done = before + done
            if self._report is not None:
                self._report(words, self._done, self._total)

        def show(step: int, _x: Tensor, x0: Tensor) -> None:
            self._show(step, x0, target.top, target.left, first)

        request = self.layout.request
        edits = self.edits or None
        trace = self._new_trace(first, target)
        run = Wavefront(
            self.model,
            target,
            self.layout.area,
            self.steps,
            gene_reader(self.brain, self.model, self.panel, first, edits),
            noise_reader(self.brain, self.model, request.noise, request.seed, first),
            self.layout.settings,
            self.active[first],
            self.batches,
            on_step=show if self._preview is not None else None,
            on_progress=progress,
            trace=trace,
            again=self._again(first, target) if trace is not None else None,
        )
        self._total += run.evaluations - self.active.evaluations_of(first, target)
        for row, rows in run.bands():
            self._show(request.steps - 1, rows, row, target.left, first)
            yield row, rows
        if self._traces is not None and trace is not None:
            self._traces.keep((first, target), request.edits, trace)

    def _new_trace(self, first: int, target: PatchBox) -> Trace | None:
        """Return where to keep what a run passes through; None where that is not done."""
        layout, c = self.layout, self.model.config
        windows = step_windows(target, layout.area, layout.request.steps)
        band = layout.settings.band
        if self._traces is None or (band is not None and band < windows[0].rows):
            return None
        around = windows[0].grown(1, layout.area)
        state = 4 * c.stains * c.image_slices * around.area * c.patch**2
        fits = self._traces.has_room((first, target), 2 * (layout.request.steps + 1) * state)
        return Trace() if fits else None

    def _again(self, first: int, target: PatchBox) -> Again | None:
        found = None if self._traces is None else self._traces.find((first, target))
        if found is None:
            return None
        edits, before = found
        changed = Edits(self.brain, difference(edits, self.layout.request.edits), self.panel)
        slices = gene_slices(self.model.config, first)
        # No step computes more than the first; a brain's whole plane would take long to look at.
        area, steps = self.layout.area, self.layout.request.steps
        window = step_windows(target, area, steps)[0]
        reach = np.zeros((area.rows, area.columns), bool)
        top, left = window.top - area.top, window.left - area.left
        reach[top : top + window.rows, left : left + window.columns] = changed.reach(
            window, self.layout.patch, slices
        )
        return Again(before, reach)

    def _words(self, first: int) -> str:
        inside = self.layout.wanted(first)
        if len(inside) == 1:
            return f"Generating slice {inside.start}"
        return f"Generating slices {inside.start} to {inside.stop - 1}"

    def _show(self, step: int, x: Tensor, row: int, column: int, first: int) -> None:
        if self._preview is None or self._shown is None:
            return
        paste(self._shown, x, self.layout, row, column, first)
        self._preview(step, self._shown)


def to_uint8(x: Tensor) -> Tensor:
    """Map [-1, 1] to 0..255 as published: (x + 1) 127.5, clipped, truncated."""
    return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def paste(out: np.ndarray, rows: Tensor, layout: Layout, row: int, column: int, first: int) -> None:
    """Copy finished patches into the region's array.

    Parameters
    ----------
    out
        (stains, z, y, x) of the region.
    rows
        (stains, M, ., .) of the group that begins at slice ``first``; its corner is patch
        (``row``, ``column``).
    """
    (y0, y1, x0, x1), z0 = layout.request.roi, layout.request.slices[0]
    inside = layout.wanted(first)
    top, left = row * layout.patch, column * layout.patch
    ys = slice(max(y0, top), min(y1, top + rows.shape[2]))
    xs = slice(max(x0, left), min(x1, left + rows.shape[3]))
    if ys.stop <= ys.start or xs.stop <= xs.start:
        return
    part = rows[
        :,
        inside.start - first : inside.stop - first,
        ys.start - top : ys.stop - top,
        xs.start - left : xs.stop - left,
    ]
    z = slice(inside.start - z0, inside.stop - z0)
    out[:, z, ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0] = part.cpu().numpy()

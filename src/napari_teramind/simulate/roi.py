"""Generating a region of a brain store."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_teramind.diffusion.noise import noise_field
from napari_teramind.diffusion.samplers import plan_steps
from napari_teramind.errors import UserError
from napari_teramind.model.network import TeraMind
from napari_teramind.simulate.plan import RoiPlan, plan_roi
from napari_teramind.simulate.region import Halo, PatchBox, Roi
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
    seed
        Seed of the noise.
    steps, sampler
        See :func:`~napari_teramind.diffusion.samplers.plan_steps`.
    halo
        ``"exact"``: the result equals the same crop of the whole brain; or a number of patches.
    noise
        ``"philox"`` or ``"published"``; see :func:`~napari_teramind.diffusion.noise.noise_field`.
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
    plan = plan_roi(brain, model, roi, slices, steps, sampler, halo)
    c = model.config
    if len(brain.stain_names) != c.stains:
        raise UserError(
            f"The checkpoint generates {c.stains} stains but the brain has "
            f"{len(brain.stain_names)} ({', '.join(brain.stain_names)}); choose another checkpoint."
        )
    panel = gene_panel(brain, model)
    (y0, y1, x0, x1), (z0, z1) = plan.roi, plan.slices
    out = np.zeros((c.stains, z1 - z0, y1 - y0, x1 - x0), np.uint8)
    shown = np.full(out.shape, -1, np.float32) if preview is not None else None
    per_group = plan.evaluations // len(plan.groups)

    for number, first in enumerate(plan.groups):
        inside = range(max(first, z0), min(first + c.image_slices, z1))
        words = f"Generating slices {inside.start} to {inside.stop - 1}"
        if len(inside) == 1:
            words = f"Generating slice {inside.start}"

        def progress(done: int, number: int = number, words: str = words) -> None:
            if report is not None:
                report(words, number * per_group + done, plan.evaluations)

        def show(step: int, _x: Tensor, x0_: Tensor, inside: range = inside) -> None:
            if preview is not None and shown is not None:
                _paste(shown, x0_, plan, plan.target.top, c.patch, inside)
                preview(step, shown)

        run = Wavefront(
            model,
            plan.target,
            plan.area,
            plan_steps(sampler, steps),
            _gene_reader(brain, model, panel, first),
            _noise_reader(brain, model, noise, seed, first),
            plan.settings,
            on_step=show if preview is not None else None,
            on_progress=progress,
        )
        for row, rows in run.bands():
            _paste(out, to_uint8(rows), plan, row, c.patch, inside)
            if shown is not None and preview is not None:
                _paste(shown, rows, plan, row, c.patch, inside)
                preview(steps - 1, shown)
    return out


def simulate_to_store(
    brain: BrainStore,
    model: TeraMind,
    name: str,
    roi: Roi,
    slices: tuple[int, int],
    seed: int = 0,
    steps: int = 15,
    sampler: str = "ddim",
    halo: Halo = "exact",
    noise: str = "philox",
    report: Report | None = None,
    preview: Preview | None = None,
    job: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """Generate a region and write it to ``simulations/<name>`` of the brain, with provenance.

    Parameters
    ----------
    name
        Name of the result inside the store.
    job
        The job's whole specification, kept in the provenance.
    overwrite
        Replace a result of that name.
    **others
        As for :func:`simulate`.

    Returns
    -------
    str
        Path of the OME-Zarr image written.
    """
    if name in brain.simulations and not overwrite:
        raise UserError(
            f"The brain has a simulation named '{name}' already; "
            "choose another name or allow overwriting."
        )
    plan = plan_roi(brain, model, roi, slices, steps, sampler, halo)
    image = simulate(brain, model, roi, slices, seed, steps, sampler, halo, noise, report, preview)
    provenance = {
        "job": dict(job or {}),
        "roi_px": list(plan.roi),
        "slices": list(plan.slices),
        "seed": seed,
        "steps": steps,
        "sampler": sampler,
        "halo": halo,
        "noise": noise,
        "checkpoint_sha256": model.sha256,
        "model": model.config.to_dict(),
        "genes_matched": "by name" if model.gene_names else "by position",
        **computation(model),
        "cut": asdict(plan.settings),
    }
    return brain.write_simulation(
        name,
        roi=plan.roi,
        slices=plan.slices,
        image=image,
        provenance=provenance,
        overwrite=overwrite,
    )


def computation(model: TeraMind) -> dict[str, Any]:
    """Return what bit-equality of results depends on besides the job (DESIGN 4.9)."""
    from napari_teramind import __version__

    device = model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "versions": {
            "napari-teramind": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": f"{device.type}: {name or platform.machine()}",
        "precision": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def gene_panel(brain: BrainStore, model: TeraMind) -> tuple[str, ...]:
    """Return the brain's genes in the order of the network's panel.

    Raises
    ------
    UserError
        If the brain lacks a gene of the panel, or if weights without a panel cannot be matched.
    """
    if model.gene_names is not None:
        missing = [gene for gene in model.gene_names if gene not in set(brain.gene_names)]
        if missing:
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise UserError(
                f"The brain lacks {len(missing)} of the checkpoint's {model.config.genes} genes "
                f"({listed}); choose a checkpoint trained on this panel."
            )
        return model.gene_names
    if len(brain.gene_names) != model.config.genes:
        raise UserError(
            f"The checkpoint names no genes and takes {model.config.genes}, but the brain has "
            f"{len(brain.gene_names)}; give the checkpoint's gene list."
        )
    warnings.warn(
        "The checkpoint names no genes; the brain's genes are taken in their order.", stacklevel=3
    )
    return tuple(brain.gene_names)


def to_uint8(x: Tensor) -> Tensor:
    """Map [-1, 1] to 0..255 as published: (x + 1) 127.5, clipped, truncated."""
    return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def _paste(
    out: np.ndarray, rows: Tensor, plan: RoiPlan, row: int, patch: int, inside: range
) -> None:
    """Copy finished patch rows, from patch row ``row`` on, into the region's array."""
    (y0, y1, x0, x1), z0 = plan.roi, plan.slices[0]
    first = plan.groups[(inside.start - plan.groups[0]) // rows.shape[1]]
    top, left = row * patch, plan.target.left * patch
    ys = slice(max(y0, top), min(y1, top + rows.shape[2]))
    if ys.stop <= ys.start:
        return
    part = rows[
        :,
        inside.start - first : inside.stop - first,
        ys.start - top : ys.stop - top,
        x0 - left : x1 - left,
    ]
    out[:, inside.start - z0 : inside.stop - z0, ys.start - y0 : ys.stop - y0] = part.cpu().numpy()


def _gene_reader(
    brain: BrainStore, model: TeraMind, panel: tuple[str, ...], first: int
) -> Callable[[PatchBox], Tensor]:
    """Return a reader of a slice group's counts, eight patch rows of the store at a time."""
    c = model.config
    b = c.bins
    slices = (first - c.gene_margin, first - c.gene_margin + c.gene_slices)
    at_once = 8

    @lru_cache(maxsize=2)
    def rows(block: int, left: int, right: int) -> Tensor:
        y0 = block * at_once * b - b // 2
        bins = (y0, y0 + at_once * b, left * b - b // 2, right * b - b // 2)
        return torch.from_numpy(brain.read_genes(bins, slices, panel))

    def read(box: PatchBox) -> Tensor:
        parts = []
        for row in range(box.top, box.bottom):
            block, offset = divmod(row, at_once)
            strip = rows(block, box.left, box.right)
            parts.append(strip[:, :, offset * b : (offset + 1) * b])
        return torch.cat(parts, dim=2)

    return read


def _noise_reader(
    brain: BrainStore, model: TeraMind, kind: str, seed: int, first: int
) -> Callable[[PatchBox], Tensor]:
    """Return a reader of a slice group's noise."""
    c = model.config

    def read(box: PatchBox) -> Tensor:
        slices = range(first, first + c.image_slices)
        pixels = box.pixels(c.patch)
        return torch.from_numpy(noise_field(kind, seed, c.stains, slices, pixels, brain.shape[0]))

    return read

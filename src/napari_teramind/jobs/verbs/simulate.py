"""Generating the stains of a region."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.events import Preview
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import Roi, SimulateSpec, Slices
from napari_teramind.jobs.verbs.common import Result, pick_device, read_panel

if TYPE_CHECKING:
    import numpy as np

    from napari_teramind.brain import BrainStore


def simulate(spec: SimulateSpec, job: JobContext) -> Result:
    """Generate the stains of a region and keep them in the brain."""
    from napari_teramind.brain import open_brain
    from napari_teramind.brain.layout import check_name
    from napari_teramind.model import load_model
    from napari_teramind.simulate import plan_roi, simulate_to_store
    from napari_teramind.simulate.roi import gene_panel

    brain = open_brain(spec.brain)
    name = _free_name(brain) if spec.name is None else check_name(spec.name, "simulation")
    model = load_model(
        spec.checkpoint, genes=read_panel(spec.genes), device=pick_device(spec.device)
    )
    gene_panel(brain, model)  # a plan for a brain that lacks genes would mislead
    depth, height, width = brain.shape
    roi = spec.roi or (0, height, 0, width)
    slices = spec.slices or (0, depth)
    plan = plan_roi(brain, model, roi, slices, spec.steps, spec.sampler, spec.halo)
    details = {"evaluations": plan.evaluations, "memory_bytes": plan.memory_bytes}
    job.planned(plan.text, **details)
    if spec.dry_run:
        return {**details, "summary": [f"{plan.text}."]}
    _check_memory(plan.memory_bytes if model.device.type == "cpu" else 0, roi, slices)
    path = simulate_to_store(
        brain,
        model,
        name,
        roi,
        slices,
        seed=spec.seed,
        steps=spec.steps,
        sampler=spec.sampler,
        halo=spec.halo,
        noise=spec.noise,
        report=job.report,
        preview=_preview_writer(spec, job),
        job=spec.model_dump(mode="json"),
        overwrite=spec.overwrite,
    )
    return {"path": path, "name": Path(path).name, "summary": [f"Generated {path}."]}


def _check_memory(computing: int, roi: Roi, slices: Slices) -> None:
    """Refuse what would not fit, rather than be killed for it after hours."""
    import psutil

    result = 2 * (slices[1] - slices[0]) * (roi[1] - roi[0]) * (roi[3] - roi[2])
    needed, free = computing + result, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"This needs about {needed / 1e9:,.0f} GB of memory and {free / 1e9:,.0f} GB are free; "
            "choose a smaller ROI or fewer slices."
        )


def _free_name(brain: BrainStore) -> str:
    number = 1
    while f"simulation-{number}" in brain.simulations:
        number += 1
    return f"simulation-{number}"


def _preview_writer(
    spec: SimulateSpec, job: JobContext
) -> Callable[[int, np.ndarray[Any, Any]], None] | None:
    """Return a callback that writes images to look at into the preview folder."""
    if spec.preview_folder is None:
        return None
    import numpy as np

    folder = spec.preview_folder
    folder.mkdir(parents=True, exist_ok=True)
    kept: list[Path] = []

    def write(step: int, x0: np.ndarray[Any, Any]) -> None:
        path = folder / f"preview-{len(kept):05d}.npy"
        image = ((x0 + 1) * 127.5).clip(0, 255).astype(np.uint8)
        with path.open("xb") as file:
            np.save(file, image)
        kept.append(path)
        job.emit(Preview(path=str(path), step=step + 1, steps=spec.steps))
        # Whoever looks may be one behind, and on Windows holds the file open.
        if len(kept) > 2:
            with suppress(PermissionError):
                kept[-3].unlink()

    return write

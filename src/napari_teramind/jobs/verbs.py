"""What each verb does: calls into the rooms, progress and results told as events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.events import Preview
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import (
    ConvertCheckpointSpec,
    ImportMerscopeSpec,
    ImportOmeZarrSpec,
    InfoSpec,
    JobSpec,
    PhantomSpec,
    Roi,
    SimulateSpec,
    Slices,
    TrainSpec,
)

if TYPE_CHECKING:
    import numpy as np

    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind

Result = dict[str, Any]


def execute(spec: JobSpec, job: JobContext) -> Result:
    """Do what a specification says, and return the result of its ``Finished`` event.

    Raises
    ------
    UserError
        If the user can mend what is wrong.
    """
    match spec:
        case ImportMerscopeSpec():
            return _import_merscope(spec, job)
        case ImportOmeZarrSpec():
            return _import_omezarr(spec, job)
        case PhantomSpec():
            return _phantom(spec, job)
        case InfoSpec():
            return _info(spec)
        case TrainSpec():
            return _train(spec, job)
        case SimulateSpec():
            return _simulate(spec, job)
        case ConvertCheckpointSpec():
            return _convert(spec)


def _import_merscope(spec: ImportMerscopeSpec, job: JobContext) -> Result:
    from napari_teramind.brain.importers.merscope import import_merscope

    report = import_merscope(
        spec.regions,
        spec.out,
        stains=spec.stains,
        planes=spec.planes,
        project=spec.project,
        percentiles=spec.percentiles,
        slice_spacing=spec.slice_spacing,
        genes=_panel(spec.genes),
        overwrite=spec.overwrite,
        report=job.report,
    )
    return {"path": str(spec.out), "report": report.to_dict(), "summary": report.summary()}


def _import_omezarr(spec: ImportOmeZarrSpec, job: JobContext) -> Result:
    from napari_teramind.brain.importers.omezarr import import_omezarr

    report = import_omezarr(
        spec.out,
        stains=spec.stains,
        genes=spec.genes,
        structures=spec.structures,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return {"path": str(spec.out), "report": report.to_dict(), "summary": report.summary()}


def _panel(location: str | None) -> tuple[str, ...] | None:
    """Read a panel of genes from a file that lists them, or from a brain."""
    if location is None:
        return None
    if "://" in location or Path(location).is_dir():
        from napari_teramind.brain import open_brain

        return open_brain(location).gene_names
    from napari_teramind.model import read_gene_list

    return read_gene_list(location)


def _phantom(spec: PhantomSpec, job: JobContext) -> Result:
    from napari_teramind.phantom import make_phantom

    brain = make_phantom(
        spec.out,
        animal=spec.animal,
        size=spec.size,
        seed=spec.seed,
        atlas=spec.atlas,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return _describe_brain(brain)


def _info(spec: InfoSpec) -> Result:
    path = Path(spec.path)
    if path.suffix in (".safetensors", ".ckpt"):
        from napari_teramind.model import load_model

        return _describe_model(spec.path, load_model(path))
    from napari_teramind.brain import open_brain

    return _describe_brain(open_brain(spec.path))


def _describe_brain(brain: BrainStore) -> Result:
    depth, height, width = brain.shape
    sides = [side * brain.pixel_size for side in (height, width)]
    unit = "um" if max(sides) < 1000 else "mm"
    size = " x ".join(f"{side if unit == 'um' else side / 1000:.3g}" for side in sides)
    summary = [
        f"{brain.path}: brain '{brain.name}'.",
        (
            f"{depth} slices of {height} x {width} px "
            f"({size} {unit} at {brain.pixel_size:.4g} um/px)."
        ),
        f"Stains: {', '.join(brain.stain_names)}.",
        f"Genes: {len(brain.gene_names)} ({_listed(brain.gene_names)}).",
        f"Labels: {', '.join(brain.labels) or 'none'}.",
        f"Simulations: {', '.join(brain.simulations) or 'none'}.",
    ]
    return {
        "kind": "brain",
        "path": brain.path,
        "name": brain.name,
        "shape": list(brain.shape),
        "pixel_size_um": brain.pixel_size,
        "slice_positions_um": brain.slice_positions.tolist(),
        "stains": list(brain.stain_names),
        "genes": list(brain.gene_names),
        "labels": list(brain.labels),
        "simulations": list(brain.simulations),
        "summary": summary,
    }


def _describe_model(path: str, model: TeraMind) -> Result:
    config = model.config
    weights = sum(p.numel() for p in model.parameters())
    genes = model.gene_names
    summary = [
        f"{path}: network of {weights / 1e6:.1f} million weights.",
        (
            f"{config.genes} genes over {config.gene_slices} slices make {config.stains} stains of "
            f"{config.image_slices} slices, in patches of {config.patch} px."
        ),
        f"Genes: {_listed(genes)}." if genes else "Its genes are not named; give the panel.",
    ]
    return {
        "kind": "checkpoint",
        "path": path,
        "config": config.to_dict(),
        "genes": None if genes is None else list(genes),
        "sha256": model.sha256,
        "summary": summary,
    }


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _train(spec: TrainSpec, job: JobContext) -> Result:
    from napari_teramind.brain import open_brain
    from napari_teramind.training import TrainConfig, fit

    config = TrainConfig(genes=_panel(spec.genes), **spec.settings())
    brains = [open_brain(path) for path in spec.brains]
    if spec.time_limit is not None:
        job.ends_within(spec.time_limit)
    fitted = fit(
        brains,
        spec.out,
        config,
        report=job.report,
        device=pick_device(spec.device),
        resume=spec.resume,
    )
    why = "" if fitted.finished else f" of {config.steps}, as the time was up"
    return {
        "path": str(fitted.checkpoint),
        "step": fitted.step,
        "loss": fitted.loss,
        "finished": fitted.finished,
        "summary": [
            f"Trained {fitted.step} steps{why}; the loss is {fitted.loss:.4f}.",
            f"The network is in {fitted.checkpoint}.",
        ],
    }


def _simulate(spec: SimulateSpec, job: JobContext) -> Result:
    from napari_teramind.brain import open_brain
    from napari_teramind.brain.layout import check_name
    from napari_teramind.model import load_model
    from napari_teramind.simulate import plan_roi, simulate_to_store
    from napari_teramind.simulate.roi import gene_panel

    brain = open_brain(spec.brain)
    name = _free_name(brain) if spec.name is None else check_name(spec.name, "simulation")
    model = load_model(spec.checkpoint, genes=_panel(spec.genes), device=pick_device(spec.device))
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


def pick_device(wanted: str) -> str:
    """Return the device that ``auto`` stands for here, or the wanted one if it is to be had.

    Raises
    ------
    UserError
        If this computer has no such device.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(device for device, there in available.items() if there)
    if not available.get(wanted.partition(":")[0], False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise UserError(f"There is no device '{wanted}' here; use one of auto, {there}.")
    return wanted


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


def _convert(spec: ConvertCheckpointSpec) -> Result:
    from napari_teramind.model import convert_checkpoint, load_model

    path = convert_checkpoint(spec.source, spec.out, _panel(spec.genes), overwrite=spec.overwrite)
    return _describe_model(str(path), load_model(path))

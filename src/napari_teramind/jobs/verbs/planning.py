"""What a simulation job will do, before it does it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.jobs.specs import SimulateSpec
from napari_teramind.jobs.specs.base import Roi, Slices
from napari_teramind.jobs.verbs.common import pick_device, read_panel
from napari_teramind.simulate import Request

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind
    from napari_teramind.model.config import Kernels
    from napari_teramind.simulate.plan import Plan
    from napari_teramind.simulate.workers import NetworkSource


@dataclass(frozen=True)
class Told:
    """A plan for people and programs."""

    text: str
    details: dict[str, Any]


def plan_simulation(spec: SimulateSpec, brain: BrainStore, model: TeraMind) -> tuple[Plan, Told]:
    """Check what a job asks for, and say what it takes.

    Raises
    ------
    UserError
        If the brain, the network and the request do not go together.
    """
    from napari_teramind.simulate.edits import Edits
    from napari_teramind.simulate.readers import gene_panel

    panel = gene_panel(brain, model)  # a plan for a brain that lacks genes would mislead
    request = _request(spec, brain)
    Edits(brain, request.edits, panel)
    plan = _plan(brain, model, request, spec)
    details: dict[str, Any] = {
        "evaluations": plan.evaluations * spec.replicates,
        "memory_bytes": plan.memory_bytes,
        "disk_bytes": plan.disk_bytes * results_of(spec),
        "seconds": None if plan.seconds is None else plan.seconds * spec.replicates,
    }
    text = plan.text if spec.replicates == 1 else f"{spec.replicates} times {plan.text}"
    return plan, Told(text, details)


def results_of(spec: SimulateSpec) -> int:
    """How many results a job leaves: replicates, their mean and their standard deviation."""
    return 1 if spec.replicates == 1 else spec.replicates + 2


def network_source(
    spec: SimulateSpec, threads: int | None = None, begun: Mapping[str, Any] | None = None
) -> NetworkSource:
    """Say how each process gets the network, and how it computes.

    Parameters
    ----------
    spec
        The job.
    threads
        Of each process; default: this process's, shared by the job's workers.
    begun
        Provenance of a result that is gone on with: what its bytes depend on stays as it was.
    """
    import torch

    from napari_teramind.model import kernels
    from napari_teramind.simulate.workers import NetworkSource

    device = pick_device(spec.device)
    path, panel = str(spec.checkpoint), read_panel(spec.genes)
    if begun is not None:
        form: Kernels = "eager"
        if begun.get("kernels") == "compiled":
            form = kernels.decide("auto", device)
        return NetworkSource(path, panel, device, begun["precision"], begun["threads"], form)
    precision = spec.precision
    if precision == "auto":
        precision = "bfloat16" if device.startswith("cuda") else "float32"
    if threads is None:
        threads = max(1, torch.get_num_threads() // spec.workers)
    return NetworkSource(path, panel, device, precision, threads)


def _request(spec: SimulateSpec, brain: BrainStore) -> Request:
    from napari_teramind.simulate.edits import parse_edit

    roi, slices = _region(spec, brain)
    return Request(
        roi=roi,
        slices=slices,
        seed=spec.seed,
        steps=spec.steps,
        sampler=spec.sampler,
        halo=spec.halo,
        noise=spec.noise,
        where=spec.where,
        edits=tuple(parse_edit(edit) for edit in spec.edits),
        structures=spec.structures,
        outline=spec.outline,
    )


def _region(spec: SimulateSpec, brain: BrainStore) -> tuple[Roi, Slices]:
    """Return the region that was asked for: by default, that of the structures or the outline."""
    from napari_teramind.brain.bins import structure_box

    depth, height, width = brain.shape
    roi, slices = spec.roi, spec.slices
    if spec.structures and (roi is None or slices is None):
        box, levels = structure_box(brain, spec.structures, slices)
        roi, slices = roi or box, slices or levels
    if spec.outline and roi is None:
        y, x = zip(*spec.outline, strict=True)
        roi = (
            max(0, int(min(y))),
            min(height, ceil(max(y))),
            max(0, int(min(x))),
            min(width, ceil(max(x))),
        )
    return roi or (0, height, 0, width), slices or (0, depth)


def _plan(brain: BrainStore, model: TeraMind, request: Request, spec: SimulateSpec) -> Plan:
    """Plan a run, and choose the form of its kernels.

    The time is measured if that is asked for, or takes little beside the run.
    """
    from napari_teramind.model import kernels
    from napari_teramind.simulate.calibrate import WORTH, seconds_per_evaluation
    from napari_teramind.simulate.plan import plan_run

    form = kernels.decide(spec.kernels, model.device.type)
    kernels.choose(form)
    plan = plan_run(brain, model.config, request, model.device.type, model.dtype.itemsize, form)
    if not spec.dry_run and plan.evaluations < WORTH * plan.layout.settings.batch:
        return plan
    pace = seconds_per_evaluation(model, plan.layout)
    return replace(plan, seconds=pace * plan.evaluations / spec.workers)


def check_room(plan: Plan, brain: BrainStore, device: Any, workers: int, results: int) -> None:
    """Refuse what would not fit, rather than fail after hours."""
    from napari_teramind.simulate.calibrate import free_memory
    from napari_teramind.simulate.plan import check_fits

    disk = shutil.disk_usage(brain.path).free if Path(brain.path).exists() else 0
    check_fits(plan, free_memory(device) // workers, disk // results)

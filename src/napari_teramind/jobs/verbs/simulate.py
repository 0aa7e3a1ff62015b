"""Generating the stains of a region."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.events import Preview
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import ResumeSpec, SimulateSpec
from napari_teramind.jobs.specs.base import Roi, Slices
from napari_teramind.jobs.verbs.common import Result, pick_device, read_panel
from napari_teramind.simulate import Request

if TYPE_CHECKING:
    import numpy as np

    from napari_teramind.brain import BrainStore
    from napari_teramind.brain.result import ResultWriter
    from napari_teramind.model import TeraMind
    from napari_teramind.simulate import Layout
    from napari_teramind.simulate.plan import Plan
    from napari_teramind.simulate.roi import Report
    from napari_teramind.simulate.tissue import ActivePatches
    from napari_teramind.simulate.workers import NetworkSource


ShowStep = Callable[[int, "np.ndarray[Any, Any]"], None]

_MOST_PREVIEWED = 64_000_000
"""Pixels, over all stains and slices, up to which a run shows all of its steps."""


def simulate(spec: SimulateSpec, job: JobContext) -> Result:
    """Generate the stains of a region and keep them in the brain."""
    from napari_teramind.brain import open_brain
    from napari_teramind.brain.layout import check_name
    from napari_teramind.brain.runs import settle
    from napari_teramind.simulate.edits import Edits
    from napari_teramind.simulate.readers import gene_panel

    brain = open_brain(spec.brain)
    if not spec.dry_run:
        settle(brain)
    name = _free_name(brain) if spec.name is None else check_name(spec.name, "simulation")
    source = _source(spec)
    model = source.load() if job.warmth is None else job.warmth.network(source)
    panel = gene_panel(brain, model)  # a plan for a brain that lacks genes would mislead
    request = _request(spec, brain)
    Edits(brain, request.edits, panel)
    plan = _plan(brain, model, request, spec)
    details: dict[str, Any] = {
        "evaluations": plan.evaluations * spec.replicates,
        "memory_bytes": plan.memory_bytes,
        "disk_bytes": plan.disk_bytes * _results(spec),
        "seconds": None if plan.seconds is None else plan.seconds * spec.replicates,
    }
    text = plan.text if spec.replicates == 1 else f"{spec.replicates} times {plan.text}"
    job.planned(text, name=name, **details)
    if spec.dry_run:
        return {**details, "summary": [f"{text}."]}
    _check_fits(plan, brain, model.device, spec.workers, _results(spec))
    run = _Run(brain, source, model, plan, spec, job)
    path = run.generate(name, request.seed) if spec.replicates == 1 else run.replicate(name)
    return {"path": path, "name": Path(path).name, "summary": [f"Generated {path}."]}


@dataclass
class _Run:
    """A checked specification, to be carried out with one seed or several."""

    brain: BrainStore
    source: NetworkSource
    model: TeraMind
    plan: Plan
    spec: SimulateSpec
    job: JobContext

    def __post_init__(self) -> None:
        self.preview = _preview_writer(self.spec, self.job, self.plan.pixels)

    def generate(self, name: str, seed: int, done: int = 0) -> str:
        """Generate with one seed; ``done`` replicates were generated before."""
        from napari_teramind.brain.result import ResultWriter
        from napari_teramind.simulate.run import begun, describe

        spec, plan = self.spec, self.plan
        layout = replace(plan.layout, request=replace(plan.layout.request, seed=seed))
        fields = {**spec.model_dump(mode="json"), "seed": seed, "name": name, "replicates": 1}
        provenance = describe(self.model, layout, fields)
        before, total = done * plan.evaluations, spec.replicates * plan.evaluations

        def report(words: str, now: int, of: int) -> None:
            if spec.replicates == 1:
                self.job.report(words, now, of)
            else:
                which = f"{words}, replicate {done + 1} of {spec.replicates}"
                self.job.report(which, min(before + now, total), total)

        going_on = spec.replicates > 1 and name in self.brain.simulations.unfinished()
        with (
            ResultWriter.resume(self.brain, name)
            if going_on and not spec.overwrite
            else begun(self.brain, name, layout, provenance, spec.overwrite)
        ) as writer:
            if Request.from_dict(writer.provenance["request"]) != layout.request:
                raise UserError(f"'{name}' was begun with other settings; choose another name.")
            return _complete(
                self.brain, writer, layout, self.source, self.model, spec.workers, self.job,
                self.preview, plan.active, report,
            )  # fmt: skip

    def replicate(self, name: str) -> str:
        """Generate with seeds that follow each other, and keep mean and standard deviation."""
        from napari_teramind.simulate.replicates import mean_and_deviation

        names = []
        for k in range(self.spec.replicates):
            names.append(f"{name}, seed {self.spec.seed + k}")
            if not self._is_there(names[-1], self.spec.seed + k):
                self.generate(names[-1], self.spec.seed + k, k)
        return mean_and_deviation(self.brain, names, name, self.spec.overwrite)

    def _is_there(self, name: str, seed: int) -> bool:
        """Whether an interrupted run of the same replicates has left this one."""
        if name not in self.brain.simulations or self.spec.overwrite:
            return False
        wanted = replace(self.plan.layout.request, seed=seed)
        found = self.brain.simulations[name].provenance
        return bool(
            found["checkpoint_sha256"] == self.model.sha256
            and Request.from_dict(found["request"]) == wanted
        )


def _results(spec: SimulateSpec) -> int:
    """How many results a job leaves: replicates, their mean and their standard deviation."""
    return 1 if spec.replicates == 1 else spec.replicates + 2


def resume(spec: ResumeSpec, job: JobContext) -> Result:
    """Go on with an interrupted simulation."""
    from napari_teramind.brain import open_brain
    from napari_teramind.brain.result import ResultWriter
    from napari_teramind.brain.runs import settle
    from napari_teramind.jobs.specs import build_spec
    from napari_teramind.simulate import lay_out
    from napari_teramind.simulate.run import computation

    brain = open_brain(spec.brain)
    settle(brain)
    name = _unfinished_name(brain, spec.name)
    with ResultWriter.resume(brain, name) as writer:
        changes = {
            key: value
            for key, value in (
                ("checkpoint", spec.checkpoint),
                ("device", spec.device),
                ("workers", spec.workers),
            )
            if value is not None
        }
        fields = {**writer.provenance["job"], "brain": spec.brain, **changes}
        began = build_spec(fields, f"The job of '{name}'")
        if not isinstance(began, SimulateSpec):
            raise UserError(f"The simulation '{name}' was not made by a job that can go on.")
        source = _source(began, writer.provenance["threads"], writer.provenance["precision"])
        model = source.load()
        if model.sha256 != writer.provenance["checkpoint_sha256"]:
            raise UserError(
                f"{began.checkpoint} is not the checkpoint that '{name}' was begun with; give that "
                "one with --checkpoint."
            )
        now = computation(model)
        differs = [key for key in now if now[key] != writer.provenance[key]]
        if differs:
            writer.update_provenance({"resumed_with": now})
            job.warn(
                f"This run goes on with other {' and '.join(differs)} than it began with; the last "
                "digit of its values may differ between its parts."
            )
        request = Request.from_dict(writer.provenance["request"])
        layout = lay_out(brain, model.config, request, model.device.type)
        ready, parts = len(writer.done), sum(1 for _ in writer.units())
        job.planned(f"Going on with '{name}': {ready} of {parts} parts are there")
        path = _complete(brain, writer, layout, source, model, began.workers, job)
    return {"path": path, "name": name, "summary": [f"Generated {path}."]}


def _complete(
    brain: BrainStore,
    writer: ResultWriter,
    layout: Layout,
    source: NetworkSource,
    model: TeraMind,
    workers: int,
    job: JobContext,
    preview: ShowStep | None = None,
    active: ActivePatches | None = None,
    report: Report | None = None,
) -> str:
    """Generate what a result lacks, here or by several processes; return its path."""
    from napari_teramind.simulate.run import complete
    from napari_teramind.simulate.workers import complete_with_workers

    report = report or job.report
    if workers > 1:
        return complete_with_workers(
            brain, writer, layout, source, workers, report, job.warn, active
        )
    traces = None if job.warmth is None else job.warmth.traces
    return complete(brain, model, writer, layout, report, preview, job.warn, active, traces)


def _unfinished_name(brain: BrainStore, wanted: str | None) -> str:
    """Return which simulation to go on with: the one named, or the only one there is."""
    if wanted is not None:
        return wanted
    names = brain.simulations.unfinished()
    if len(names) == 1:
        return names[0]
    if not names:
        raise UserError(f"{brain.path} has no unfinished simulation; there is nothing to resume.")
    raise UserError(
        f"{brain.path} has several unfinished simulations ({', '.join(names)}); name one with "
        "--name."
    )


def _source(
    spec: SimulateSpec, threads: int | None = None, precision: str | None = None
) -> NetworkSource:
    """Say how each process gets the network, and with how many threads it computes."""
    import torch

    from napari_teramind.simulate.workers import NetworkSource

    device = pick_device(spec.device)
    if precision is None:
        precision = spec.precision
    if precision == "auto":
        precision = "bfloat16" if device.startswith("cuda") else "float32"
    if threads is None:
        threads = max(1, torch.get_num_threads() // spec.workers)
    return NetworkSource(str(spec.checkpoint), read_panel(spec.genes), device, precision, threads)


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
    """Plan a run; the time is measured if that is asked for, or takes little beside the run."""
    from napari_teramind.simulate.calibrate import WORTH, seconds_per_evaluation
    from napari_teramind.simulate.plan import plan_run

    plan = plan_run(brain, model.config, request, model.device.type, model.dtype.itemsize)
    if not spec.dry_run and plan.evaluations < WORTH * plan.layout.settings.batch:
        return plan
    pace = seconds_per_evaluation(model, plan.layout)
    return replace(plan, seconds=pace * plan.evaluations / spec.workers)


def _check_fits(plan: Plan, brain: BrainStore, device: Any, workers: int, results: int) -> None:
    """Refuse what would not fit, rather than fail after hours."""
    from napari_teramind.simulate.calibrate import free_memory
    from napari_teramind.simulate.plan import check_fits

    disk = shutil.disk_usage(brain.path).free if Path(brain.path).exists() else 0
    check_fits(plan, free_memory(device) // workers, disk // results)


def _free_name(brain: BrainStore) -> str:
    taken = {*brain.simulations, *brain.simulations.unfinished()}
    number = 1
    while f"simulation-{number}" in taken:
        number += 1
    return f"simulation-{number}"


def _preview_writer(spec: SimulateSpec, job: JobContext, pixels: int) -> ShowStep | None:
    """Return a callback that writes images to look at into the preview folder, if any.

    A large region has none: its picture grows in the store.
    """
    if spec.preview_folder is None or pixels > _MOST_PREVIEWED:
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

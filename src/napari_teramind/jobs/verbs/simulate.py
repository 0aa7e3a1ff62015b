"""Generating the stains of a region."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.events import Preview
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import ResumeSpec, SimulateSpec
from napari_teramind.jobs.verbs.common import Result
from napari_teramind.jobs.verbs.planning import (
    check_room,
    network_source,
    plan_simulation,
    results_of,
)
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
    from napari_teramind.model import kernels

    brain = open_brain(spec.brain)
    if not spec.dry_run:
        settle(brain)
    name = _free_name(brain) if spec.name is None else check_name(spec.name, "simulation")
    source = network_source(spec)
    model = source.load() if job.warmth is None else job.warmth.network(source)
    plan, told = plan_simulation(spec, brain, model)
    source = replace(source, kernels=kernels.chosen())
    job.planned(told.text, name=name, **told.details)
    if spec.dry_run:
        return {**told.details, "summary": [f"{told.text}."]}
    check_room(plan, brain, model.device, spec.workers, results_of(spec))
    run = _Run(brain, source, model, plan, spec, job)
    path = run.generate(name, spec.seed) if spec.replicates == 1 else run.replicate(name)
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
        source = network_source(began, begun=writer.provenance)
        model = source.load()
        if model.sha256 != writer.provenance["checkpoint_sha256"]:
            raise UserError(
                f"{began.checkpoint} is not the checkpoint that '{name}' was begun with; give that "
                "one with --checkpoint."
            )
        now = computation(model)
        differs = [key for key in now if now[key] != writer.provenance.get(key, now[key])]
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

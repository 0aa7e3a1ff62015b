"""Carrying out studies and batches."""

from __future__ import annotations

from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs.study import BatchSpec, ReproduceSpec
from napari_teramind.jobs.verbs.common import Result


def run_reproduce(spec: ReproduceSpec, job: JobContext) -> Result:
    """Carry out a study and write its report."""
    from napari_teramind.jobs.study import read_study, reproduce

    study = read_study(spec.study)
    path = reproduce(study, spec.study.stem, job)
    return {"path": str(path), "summary": [f"The report is {path}: open it in a browser."]}


def run_batch_file(spec: BatchSpec, job: JobContext) -> Result:
    """Carry out the jobs of a batch."""
    from napari_teramind.jobs.batch import expand, read_batch, run_batch

    batch = read_batch(spec.batch, spec.workers, spec.scheduler)
    jobs = expand(batch, spec.batch)
    return run_batch(batch, jobs, job, spec.dry_run)

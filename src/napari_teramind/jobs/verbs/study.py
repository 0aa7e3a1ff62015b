"""Carrying out studies."""

from __future__ import annotations

from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs.study import ReproduceSpec
from napari_teramind.jobs.verbs.common import Result


def run_reproduce(spec: ReproduceSpec, job: JobContext) -> Result:
    """Carry out a study and write its report."""
    from napari_teramind.jobs.study import read_study, reproduce

    study = read_study(spec.study)
    path = reproduce(study, spec.study.stem, job)
    return {"path": str(path), "summary": [f"The report is {path}: open it in a browser."]}

"""Jobs that carry out other jobs: a study, a batch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_teramind.jobs.specs.base import JobPath, Spec


class ReproduceSpec(Spec):
    """A study is carried out, stage by stage, and reported."""

    verb: Literal["reproduce"] = "reproduce"
    study: JobPath


class BatchSpec(Spec):
    """Many jobs are carried out, here or on a cluster."""

    verb: Literal["batch"] = "batch"
    batch: JobPath
    workers: Annotated[int, Field(ge=1)] | None = None
    scheduler: str | None = None
    dry_run: bool = False

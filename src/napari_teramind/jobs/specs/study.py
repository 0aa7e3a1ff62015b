"""Jobs about studies: the paper's protocol from one file."""

from __future__ import annotations

from typing import Literal

from napari_teramind.jobs.specs.base import JobPath, Spec


class ReproduceSpec(Spec):
    """A study is carried out, stage by stage, and reported."""

    verb: Literal["reproduce"] = "reproduce"
    study: JobPath

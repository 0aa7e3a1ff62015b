"""Jobs that say how good results are."""

from __future__ import annotations

from typing import Literal

from napari_teramind.jobs.specs.base import JobPath, Location, Spec


class EvaluateSpec(Spec):
    """A generated result is compared with the real stains, or with another result.

    ``against`` is BRAIN/RESULT. Where only ``expression`` is given, nothing is compared.
    """

    verb: Literal["evaluate"] = "evaluate"
    brain: Location
    result: str | None = None
    against: Location | None = None
    out: JobPath | None = None
    structures: bool = False
    nuclei: Literal["watershed", "cellpose", "none"] = "watershed"
    cellpose_weights: JobPath | None = None
    inception: JobPath | None = None
    expression: JobPath | None = None
    device: str = "auto"
    overwrite: bool = False

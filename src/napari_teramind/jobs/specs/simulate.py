"""Simulation jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from napari_teramind.errors import UserError
from napari_teramind.jobs.specs.base import Checkpoint, JobPath, Location, Roi, Slices, Spec
from napari_teramind.model.config import KernelsWish
from napari_teramind.model.packaged import PACKAGED


def _edit(text: str) -> str:
    from napari_teramind.simulate.edits import parse_edit

    try:
        return str(parse_edit(text))
    except UserError as error:
        raise ValueError(str(error)) from None


class SimulateSpec(Spec):
    """Stains of an ROI are generated from its gene expression.

    Fields are those of :class:`napari_teramind.simulate.Request`, but that the whole brain is
    meant where no ROI or no slices are given, and that only tissue is computed by default. Edits
    are written as for :func:`napari_teramind.simulate.edits.parse_edit`. Of several replicates,
    with seeds that follow each other, the mean and the standard deviation are kept too.
    """

    verb: Literal["simulate"] = "simulate"
    brain: Location
    checkpoint: Annotated[Checkpoint, Field(validate_default=True)] = Path(PACKAGED)
    genes: Location | None = None
    name: str | None = None
    roi: Roi | None = None
    slices: Slices | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=1, le=1000)] = 15
    sampler: Literal["ddim", "dpm++2m"] = "ddim"
    halo: Literal["exact"] | Annotated[int, Field(ge=0)] = "exact"
    noise: Literal["philox", "published"] = "philox"
    where: Literal["all", "tissue"] = "tissue"
    edits: tuple[Annotated[str, AfterValidator(_edit)], ...] = ()
    structures: tuple[str, ...] = ()
    outline: tuple[tuple[float, float], ...] = ()
    replicates: Annotated[int, Field(ge=1, le=1000)] = 1
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    kernels: KernelsWish = "auto"
    workers: Annotated[int, Field(ge=1)] = 1
    dry_run: bool = False
    preview_folder: JobPath | None = None
    overwrite: bool = False


class ResumeSpec(Spec):
    """A simulation that was interrupted goes on."""

    verb: Literal["resume"] = "resume"
    brain: Location
    name: str | None = None
    checkpoint: Checkpoint | None = None
    device: str | None = None
    workers: Annotated[int, Field(ge=1)] | None = None

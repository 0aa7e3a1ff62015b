"""Simulation jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_teramind.jobs.specs.base import JobPath, Location, Roi, Slices, Spec


class SimulateSpec(Spec):
    """Stains of an ROI are generated from its gene expression."""

    verb: Literal["simulate"] = "simulate"
    brain: Location
    checkpoint: JobPath
    genes: Location | None = None
    name: str | None = None
    roi: Roi | None = None
    slices: Slices | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=1, le=1000)] = 15
    sampler: Literal["ddim"] = "ddim"
    halo: Literal["exact"] | Annotated[int, Field(ge=0)] = "exact"
    noise: Literal["philox", "published"] = "philox"
    device: str = "auto"
    dry_run: bool = False
    preview_folder: JobPath | None = None
    overwrite: bool = False

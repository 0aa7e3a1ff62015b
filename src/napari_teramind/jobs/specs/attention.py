"""Jobs about attention: maps, structures, files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from napari_teramind.jobs.specs.base import (
    Checkpoint,
    JobPath,
    Location,
    Roi,
    Slices,
    Spec,
    atlas_from_base,
)
from napari_teramind.model.packaged import PACKAGED

MapName = Literal["previous-current", "current-next", "ensemble"]
Quantity = Literal["attention", "A", "expression"]
AtlasName = Annotated[str, AfterValidator(atlas_from_base)]
Pairs = list[str | tuple[str, str]]
"""Pairs as two symbols, as one text ``"Nr4a2,Th"``, or as a preset: GLUT, DOPA, BLOD."""


class AttentionSpec(Spec):
    """Attention of gene pairs is computed and kept in the brain."""

    verb: Literal["attention"] = "attention"
    brain: Location
    pairs: Annotated[Pairs, Field(min_length=1)]
    checkpoint: Annotated[Checkpoint, Field(validate_default=True)] = Path(PACKAGED)
    genes: Location | None = None
    name: str | None = None
    roi: Roi | None = None
    slices: Slices | None = None
    structures: list[str] | None = None
    maps: list[MapName] | None = None
    device: str = "auto"
    dry_run: bool = False
    overwrite: bool = False


class StructuresSpec(Spec):
    """Attention is summed up by structure: of a result, or of all pairs at once."""

    verb: Literal["structures"] = "structures"
    brain: Location
    result: str | None = None
    against: list[Location] = []
    pair: str | tuple[str, str] | None = None
    map: MapName = "ensemble"
    quantity: Quantity = "attention"
    all_pairs: bool = False
    checkpoint: Checkpoint | None = None
    genes: Location | None = None
    structures: list[str] | None = None
    roi: Roi | None = None
    slices: Slices | None = None
    atlas: AtlasName | None = None
    transforms: JobPath | None = None
    trend: bool = False
    top: Annotated[int, Field(ge=1)] = 15
    out: JobPath | None = None
    device: str = "auto"
    overwrite: bool = False


class AtlasSpec(Spec):
    """An atlas is opened, fetched first if it is BrainGlobe's, and told of; or all are listed."""

    verb: Literal["atlas"] = "atlas"
    source: AtlasName | None = None
    structures: JobPath | None = None
    find: str | None = None
    top: Annotated[int, Field(ge=1)] = 15


class ExportSpec(Spec):
    """An image, table or figure of a brain becomes a file for other programs."""

    verb: Literal["export"] = "export"
    brain: Location
    image: str
    out: JobPath
    channels: list[str] | None = None
    level: Annotated[int, Field(ge=0)] = 0
    slices: Slices | None = None
    pair: str | tuple[str, str] | None = None
    map: MapName = "ensemble"
    slice: int | None = None
    overwrite: bool = False

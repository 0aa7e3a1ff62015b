"""Jobs that make and describe brains and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from napari_teramind.jobs.specs.base import JobPath, Location, Spec, atlas_from_base
from napari_teramind.model.packaged import PACKAGED, checkpoint_path, packaged_path


def _packaged(location: Any) -> Any:
    """Let ``packaged`` stand for the network that comes with the package."""
    path = packaged_path() if location == PACKAGED else None
    return location if path is None else str(path)


def _run_weights(location: str) -> str:
    """Let the folder of a training run stand for its weights."""
    return location if "://" in location else str(checkpoint_path(Path(location)))


Fraction = Annotated[float, Field(ge=0, le=100)]
Spacing = Annotated[float, Field(gt=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ImportMerscopeSpec(Spec):
    """MERSCOPE region folders, or those that a manifest names, become the slices of a brain."""

    verb: Literal["import-merscope"] = "import-merscope"
    regions: Annotated[list[JobPath], Field(min_length=1)]
    out: JobPath
    stains: dict[str, str] = {"DAPI": "DAPI", "PolyT": "PolyT"}
    planes: Literal["project", "slices"] = "project"
    project: Literal["max", "mean"] = "max"
    percentiles: tuple[Fraction, Fraction] = (0.1, 99.9)
    slice_spacing: Spacing | None = None
    region_spacing: Spacing = 100.0
    genes: Location | None = None
    name: str | None = None
    overwrite: bool = False


class ImportTilesSpec(Spec):
    """Published training tiles become a brain."""

    verb: Literal["import-tiles"] = "import-tiles"
    gene_folder: JobPath
    genes: Location
    images: JobPath | None = None
    stains: Annotated[list[str], Field(min_length=1)] = ["DAPI", "PolyT"]
    out: JobPath
    name: str | None = None
    overwrite: bool = False


class ImportTableSpec(Spec):
    """Transcript tables with any columns, and images beside them, become a brain."""

    verb: Literal["import-table"] = "import-table"
    tables: Annotated[list[JobPath], Field(min_length=1)]
    out: JobPath
    gene: str | None = None
    x: str | None = None
    y: str | None = None
    z: str | None = None
    slice_column: str | None = None
    stains: dict[str, Annotated[list[Location], Field(min_length=1)]] = {}
    unit: Literal["um", "px"] = "um"
    pixel_size: Spacing | None = None
    origin: tuple[Finite, Finite] | None = None
    project: Literal["max", "mean"] = "max"
    percentiles: tuple[Fraction, Fraction] = (0.1, 99.9)
    slice_spacing: Spacing | None = None
    gene_list: Location | None = None
    name: str | None = None
    overwrite: bool = False


class ImportSpatialDataSpec(Spec):
    """The points and images of a SpatialData store become a brain."""

    verb: Literal["import-spatialdata"] = "import-spatialdata"
    store: JobPath
    out: JobPath
    points: str | None = None
    stains: dict[str, Annotated[str, Field(min_length=1)]] = {}
    coordinate_system: str = "global"
    unit_um: Spacing | None = None
    gene: str | None = None
    slice_column: str | None = None
    project: Literal["max", "mean"] = "max"
    percentiles: tuple[Fraction, Fraction] = (0.1, 99.9)
    slice_spacing: Spacing | None = None
    gene_list: Location | None = None
    name: str | None = None
    overwrite: bool = False


class DraftManifestSpec(Spec):
    """A manifest of region folders, to be edited before they are imported."""

    verb: Literal["import-draft"] = "import-draft"
    regions: Annotated[list[JobPath], Field(min_length=1)]
    out: JobPath
    overwrite: bool = False


class QualitySpec(Spec):
    """A page that shows every slice of a brain."""

    verb: Literal["quality"] = "quality"
    brain: Location
    out: JobPath
    overwrite: bool = False


class ImportOmeZarrSpec(Spec):
    """Separate multiscale images of one tissue become a brain."""

    verb: Literal["import-omezarr"] = "import-omezarr"
    stains: Annotated[dict[str, Location], Field(min_length=1)]
    genes: Location
    gene_list: Location | None = None
    structures: Location | None = None
    tissue: Location | None = None
    slice_positions: list[float] | None = None
    percentiles: tuple[Fraction, Fraction] = (0.1, 99.9)
    name: str | None = None
    out: JobPath
    overwrite: bool = False


class PhantomSpec(Spec):
    """A procedural mouse brain."""

    verb: Literal["phantom"] = "phantom"
    out: JobPath
    animal: Literal["main", "supp_m", "supp_f"] = "main"
    size: Literal["XS", "S", "M", "L"] = "S"
    seed: Annotated[int, Field(ge=0)] = 0
    atlas: Annotated[str, AfterValidator(atlas_from_base)] | None = None
    overwrite: bool = False


class InfoSpec(Spec):
    """What a brain or a checkpoint holds."""

    verb: Literal["info"] = "info"
    path: Annotated[Location, BeforeValidator(_packaged), AfterValidator(_run_weights)]


class ListCheckpointsSpec(Spec):
    """Which networks are at hand: the packaged one, and those of a folder, or of the user's.

    Online: which were published, and which of them are in the folder.
    """

    verb: Literal["checkpoint-list"] = "checkpoint-list"
    folder: JobPath | None = None
    online: bool = False


class GetCheckpointSpec(Spec):
    """Published networks are fetched and become safetensors, in the user's folder or another."""

    verb: Literal["checkpoint-get"] = "checkpoint-get"
    name: Annotated[str, Field(min_length=1)]
    folder: JobPath | None = None
    genes: Location | None = None
    keep: bool = False
    overwrite: bool = False


class ConvertCheckpointSpec(Spec):
    """A published Lightning checkpoint becomes safetensors with a readable config."""

    verb: Literal["checkpoint-convert"] = "checkpoint-convert"
    source: JobPath
    genes: Location | None = None
    out: JobPath
    overwrite: bool = False


class JobsSpec(Spec):
    """What this user's jobs are at, or what is to be done with one of them."""

    verb: Literal["jobs"] = "jobs"
    job: str | None = None
    action: Literal["show", "cancel", "resume"] = "show"
    top: Annotated[int, Field(ge=1)] = 15

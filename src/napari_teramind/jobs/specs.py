"""What a job is to do: one pydantic model a verb, the only way to start work.

The command line, the widgets, a TOML file and a cluster all build one of these. Paths in a job file
count from the file's own folder, so that a folder with a job and its data can be moved.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)

from napari_teramind.errors import UserError


def _from_base(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return path.expanduser() if base is None else Path(base) / path.expanduser()


def _location_from_base(location: str, info: ValidationInfo) -> str:
    return location if "://" in location else str(_from_base(Path(location), info))


def _atlas_from_base(atlas: str, info: ValidationInfo) -> str:
    is_name = not any(character in atlas for character in "/\\.")
    return atlas if is_name else str(_from_base(Path(atlas), info))


JobPath = Annotated[Path, AfterValidator(_from_base)]
Location = Annotated[str, Field(min_length=1), AfterValidator(_location_from_base)]
"""A path, or the address of a remote store."""

Fraction = Annotated[float, Field(ge=0, le=100)]
Roi = tuple[int, int, int, int]
Slices = tuple[int, int]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImportMerscopeSpec(_Spec):
    """MERSCOPE region folders become the slices of a brain."""

    verb: Literal["import-merscope"] = "import-merscope"
    regions: Annotated[list[JobPath], Field(min_length=1)]
    out: JobPath
    stains: dict[str, str] = {"DAPI": "DAPI", "PolyT": "PolyT"}
    planes: Literal["project", "slices"] = "project"
    project: Literal["max", "mean"] = "max"
    percentiles: tuple[Fraction, Fraction] = (0.1, 99.9)
    slice_spacing: Annotated[float, Field(gt=0)] | None = None
    genes: Location | None = None
    overwrite: bool = False


class ImportOmeZarrSpec(_Spec):
    """Separate multiscale images of one tissue become a brain."""

    verb: Literal["import-omezarr"] = "import-omezarr"
    stains: Annotated[dict[str, Location], Field(min_length=1)]
    genes: Location
    structures: Location | None = None
    out: JobPath
    overwrite: bool = False


class PhantomSpec(_Spec):
    """A procedural mouse brain."""

    verb: Literal["phantom"] = "phantom"
    out: JobPath
    animal: Literal["main", "supp_m", "supp_f"] = "main"
    size: Literal["XS", "S", "M", "L"] = "S"
    seed: Annotated[int, Field(ge=0)] = 0
    atlas: Annotated[str, AfterValidator(_atlas_from_base)] | None = None
    overwrite: bool = False


class InfoSpec(_Spec):
    """What a brain or a checkpoint holds."""

    verb: Literal["info"] = "info"
    path: Location


class TrainSpec(_Spec):
    """A network is fitted to brains.

    Fields and defaults are those of :class:`napari_teramind.training.TrainConfig`, but for
    ``genes``, which is a panel as everywhere here: a file that lists genes, or a brain.
    """

    verb: Literal["train"] = "train"
    brains: Annotated[list[Location], Field(min_length=1)]
    out: JobPath
    resume: bool = False
    device: str = "auto"
    genes: Location | None = None
    channels: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    gene_slices: Literal[1, 4, 8, 16] = 4
    patch: Literal[32, 64, 128] = 64
    prediction: Literal["epsilon", "v"] = "v"
    crop: Annotated[int, Field(ge=32)] | None = None
    exclude: Roi | None = None
    batch: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=1)] = 2000
    time_limit: Annotated[float, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup: Annotated[int, Field(ge=0)] = 100
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Field(ge=0)] = 0
    save_every: Annotated[float, Field(gt=0)] = 60.0

    def settings(self) -> dict[str, Any]:
        """Return the fields that are training settings, without the panel."""
        return self.model_dump(exclude={"verb", "brains", "out", "resume", "device", "genes"})


class SimulateSpec(_Spec):
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


class ConvertCheckpointSpec(_Spec):
    """A published Lightning checkpoint becomes safetensors with a readable config."""

    verb: Literal["checkpoint-convert"] = "checkpoint-convert"
    source: JobPath
    genes: Location | None = None
    out: JobPath
    overwrite: bool = False


JobSpec = Annotated[
    ImportMerscopeSpec
    | ImportOmeZarrSpec
    | PhantomSpec
    | InfoSpec
    | TrainSpec
    | SimulateSpec
    | ConvertCheckpointSpec,
    Field(discriminator="verb"),
]

_ADAPTER: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)

VERBS: tuple[str, ...] = tuple(
    kind.model_fields["verb"].default for kind in get_args(get_args(JobSpec)[0])
)


def build_spec(values: dict[str, Any], source: str, base: Path | None = None) -> JobSpec:
    """Build a job specification from plain values.

    Parameters
    ----------
    values
        Fields by name, ``verb`` among them.
    source
        Where they come from, for the error message.
    base
        Folder from which relative paths count; None leaves them as they are.

    Raises
    ------
    UserError
        If a field is missing, unknown or wrong; the sentence names it.
    """
    try:
        return _ADAPTER.validate_python(values, context={"base": base})
    except ValidationError as error:
        raise UserError(_sentence(error, source)) from None


def load_spec(path: Path) -> JobSpec:
    """Read a job specification from a TOML or JSON file.

    Raises
    ------
    UserError
        If the file cannot be read, is not TOML or JSON, or is not a valid job.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"There is no job file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The job file {path} cannot be read ({error}).") from None
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:  # both parsers' errors are ValueErrors
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise UserError(f"The job file {path} is not valid {kind} ({error}).") from None
    if not isinstance(values, dict):
        raise UserError(f"The job file {path} must hold one table of fields, with a 'verb'.")
    return build_spec(values, str(path), base=path.resolve().parent)


def dump_spec(spec: JobSpec) -> str:
    """Return a job specification as JSON, its paths made absolute, for another process."""
    absolute = _ADAPTER.validate_python(spec.model_dump(), context={"base": Path.cwd()})
    return absolute.model_dump_json(indent=2)


def _sentence(error: ValidationError, source: str) -> str:
    errors = error.errors()
    first = errors[0]
    if first["type"].startswith("union_tag"):
        return f"{source} names no known verb; set 'verb' to one of {', '.join(VERBS)}."
    # loc: the verb that the discriminator chose, the field, then places inside the field.
    field = first["loc"][1]
    match first["type"]:
        case "missing" if len(first["loc"]) == 2:
            return f"{source} lacks the field '{field}'; add it."
        case "missing":
            return f"{source}: '{field}' has too few values."
        case "extra_forbidden":
            return f"{source} has an unknown field '{field}'; remove it or check its spelling."
    # A field of several types has an error for each of them.
    reasons = [e["msg"][0].lower() + e["msg"][1:] for e in errors if e["loc"][1] == field]
    return f"{source}: '{field}' cannot be {first['input']!r}; {' or '.join(reasons)}."

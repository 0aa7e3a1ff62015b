"""What a job is to do: one pydantic model a verb, the only way to start work.

The command line, the widgets, a TOML file and a cluster all build one of these. Paths in a job file
count from the file's own folder, so that a folder with a job and its data can be moved.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter, ValidationError

from napari_teramind.errors import UserError
from napari_teramind.jobs.specs.attention import (
    AtlasSpec,
    AttentionSpec,
    ExportSpec,
    StructuresSpec,
)
from napari_teramind.jobs.specs.base import JobPath, Location, Roi, Slices, Spec
from napari_teramind.jobs.specs.brains import (
    ConvertCheckpointSpec,
    DraftManifestSpec,
    GetCheckpointSpec,
    ImportMerscopeSpec,
    ImportOmeZarrSpec,
    ImportSpatialDataSpec,
    ImportTableSpec,
    ImportTilesSpec,
    InfoSpec,
    JobsSpec,
    ListCheckpointsSpec,
    PhantomSpec,
    QualitySpec,
)
from napari_teramind.jobs.specs.evaluate import EvaluateSpec
from napari_teramind.jobs.specs.simulate import ResumeSpec, SimulateSpec
from napari_teramind.jobs.specs.study import BatchSpec, ReproduceSpec
from napari_teramind.jobs.specs.train import TrainSpec

__all__ = [
    "VERBS",
    "AtlasSpec",
    "AttentionSpec",
    "BatchSpec",
    "ConvertCheckpointSpec",
    "DraftManifestSpec",
    "EvaluateSpec",
    "ExportSpec",
    "GetCheckpointSpec",
    "ImportMerscopeSpec",
    "ImportOmeZarrSpec",
    "ImportSpatialDataSpec",
    "ImportTableSpec",
    "ImportTilesSpec",
    "InfoSpec",
    "JobPath",
    "JobSpec",
    "JobsSpec",
    "ListCheckpointsSpec",
    "Location",
    "PhantomSpec",
    "QualitySpec",
    "ReproduceSpec",
    "ResumeSpec",
    "Roi",
    "SimulateSpec",
    "Slices",
    "Spec",
    "StructuresSpec",
    "TrainSpec",
    "build_spec",
    "dump_spec",
    "load_spec",
    "spec_of",
]

JobSpec = Annotated[
    ImportMerscopeSpec
    | ImportOmeZarrSpec
    | ImportTilesSpec
    | ImportTableSpec
    | ImportSpatialDataSpec
    | DraftManifestSpec
    | QualitySpec
    | ReproduceSpec
    | BatchSpec
    | PhantomSpec
    | InfoSpec
    | TrainSpec
    | SimulateSpec
    | ResumeSpec
    | AttentionSpec
    | StructuresSpec
    | AtlasSpec
    | ExportSpec
    | EvaluateSpec
    | ListCheckpointsSpec
    | GetCheckpointSpec
    | ConvertCheckpointSpec
    | JobsSpec,
    Field(discriminator="verb"),
]

_ADAPTER: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)

_KINDS: dict[str, type[Spec]] = {
    kind.model_fields["verb"].default: kind for kind in get_args(get_args(JobSpec)[0])
}
VERBS: tuple[str, ...] = tuple(_KINDS)


def spec_of(verb: str) -> type[Spec] | None:
    """Return the kind of specification of a verb; None if there is no such verb."""
    return _KINDS.get(verb)


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
        case "value_error":  # raised by our own validators, in a sentence
            return str(first["ctx"]["error"])
        case "extra_forbidden":
            return f"{source} has an unknown field '{field}'; remove it or check its spelling."
    # A field of several types has an error for each of them.
    reasons = [e["msg"][0].lower() + e["msg"][1:] for e in errors if e["loc"][1] == field]
    return f"{source}: '{field}' cannot be {first['input']!r}; {' or '.join(reasons)}."

"""What all specifications share: kinds of paths that count from the job file's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from napari_teramind.errors import UserError
from napari_teramind.model.packaged import PACKAGED, checkpoint_path


def _from_base(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return path.expanduser() if base is None else Path(base) / path.expanduser()


def _location_from_base(location: str, info: ValidationInfo) -> str:
    return location if "://" in location else str(_from_base(Path(location), info))


def atlas_from_base(atlas: str, info: ValidationInfo) -> str:
    """Make an atlas file's path count from the job file; leave a BrainGlobe name as it is."""
    is_name = not any(character in atlas for character in "/\\.")
    return atlas if is_name else str(_from_base(Path(atlas), info))


def _checkpoint_from_base(path: Path, info: ValidationInfo) -> Path:
    if str(path) != PACKAGED:
        return checkpoint_path(_from_base(path, info))
    try:
        return checkpoint_path(path)
    except UserError as error:
        raise ValueError(str(error)) from None


JobPath = Annotated[Path, AfterValidator(_from_base)]
Checkpoint = Annotated[Path, AfterValidator(_checkpoint_from_base)]
"""A file, a training run's folder, or ``packaged`` for the network that comes with the package."""
Location = Annotated[str, Field(min_length=1), AfterValidator(_location_from_base)]
"""A path, or the address of a remote store."""

Roi = tuple[int, int, int, int]
Slices = tuple[int, int]


class Spec(BaseModel):
    """A job specification: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

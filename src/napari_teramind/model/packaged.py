"""Files that names of checkpoints stand for. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from napari_teramind.errors import UserError

PACKAGED = "packaged"
"""Stands for the packaged network wherever a checkpoint is asked for."""

RUN_WEIGHTS = ("best.safetensors", "last.safetensors")
"""Weights in the folder of a training run, the better first."""

_FILE = Path(__file__).parent.parent / "networks" / "phantom.safetensors"


def packaged_path() -> Path | None:
    """Return the packaged network's file, or None where it was left out."""
    return _FILE if _FILE.is_file() else None


def checkpoint_path(path: Path) -> Path:
    """Return the file that a checkpoint's name stands for.

    A training run's folder stands for its best weights, or its last.

    Raises
    ------
    UserError
        If the packaged network is asked for and is not there.
    """
    if str(path) != PACKAGED:
        found = (path / name for name in RUN_WEIGHTS)
        return next((file for file in found if file.is_file()), path)
    packaged = packaged_path()
    if packaged is None:
        raise UserError(
            "This installation has no packaged checkpoint; give the file of another, or install "
            "napari-teramind again."
        )
    return packaged

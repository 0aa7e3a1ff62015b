"""What we remember of the user's choices from one session to the next."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from qtpy.QtCore import QSettings

from napari_teramind import published

APP = "napari-teramind"


def settings() -> QSettings:
    """Return the stored choices."""
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, APP, APP)


def last_checkpoint() -> str | None:
    """Return the checkpoint last used, if it is still there."""
    path = settings().value("checkpoint", "", type=str)
    return path if path and Path(path).is_file() else None


def remember_checkpoint(path: str) -> None:
    """Keep a checkpoint as the one to begin with."""
    settings().setValue("checkpoint", path)


def gene_list_of(checkpoint: str) -> str | None:
    """Return the gene list that was last given for a checkpoint that carries none."""
    path = settings().value(f"gene_list/{_key(checkpoint)}", "", type=str)
    return path if path and Path(path).is_file() else None


def remember_gene_list(checkpoint: str, path: str) -> None:
    """Keep the gene list of a checkpoint that carries none."""
    settings().setValue(f"gene_list/{_key(checkpoint)}", path)


def checkpoint_folder() -> Path:
    """Folder in which checkpoints are looked for."""
    return published.checkpoint_folder()


def phantom_folder() -> Path:
    """Folder in which phantom brains are kept."""
    return platformdirs.user_data_path(APP, appauthor=False) / "phantoms"


def seconds_per_evaluation(checkpoint: str) -> float | None:
    """Return how long this computer last took for one patch evaluation of a checkpoint."""
    seconds = settings().value(f"speed/{_key(checkpoint)}", 0.0, type=float)
    return seconds if seconds > 0 else None


def remember_speed(checkpoint: str, seconds: float) -> None:
    """Keep how long one patch evaluation of a checkpoint took."""
    settings().setValue(f"speed/{_key(checkpoint)}", seconds)


def _key(path: str) -> str:
    # A slash would open a group, and Qt reads "%" as an escape.
    return path.replace("/", "|").replace("\\", "|").replace("%", "_")

"""Where a user's networks are kept."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def checkpoint_folder() -> Path:
    """Folder in which a user's networks are looked for, and into which published ones go."""
    return platformdirs.user_data_path("napari-teramind", appauthor=False) / "checkpoints"

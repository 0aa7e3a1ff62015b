"""The npe2 reader: opens our brain stores, and claims nothing else."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_teramind.errors import UserError

LayerTuple = tuple[Any, dict[str, Any], str]
NO_LAYERS: list[Any] = [(None,)]
"""napari's sentinel for "read, and there is no layer to show"."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """Return a reader if `path` is a brain store, else None.

    Only the metadata of the root group are looked at, as a plain JSON file: somebody else's zarr
    or folder costs one look at the disk and no import.
    """
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    return read if is_brain(path) else None


def is_brain(path: str | Path) -> bool:
    """Whether a local folder says in its root metadata that it is one of our brain stores."""
    folder = Path(path)
    if folder.suffix.lower() == ".zip":
        return _is_zipped_brain(folder)
    for name in ("zarr.json", ".zattrs"):
        try:
            values = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no such file, unreadable, or not JSON: not ours
            continue
        if isinstance(values, dict):
            return _marked(values)
    return False


def _marked(values: dict[str, Any]) -> bool:
    attributes = values.get("attributes", values)
    mark = attributes.get("teramind") if isinstance(attributes, dict) else None
    return isinstance(mark, dict) and "format" in mark and "shape" in mark


def _is_zipped_brain(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as packed:
            values = json.loads(packed.read("zarr.json"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    return isinstance(values, dict) and _marked(values)


def read(path: str | list[str]) -> list[Any]:
    """Read the layers of a brain store.

    With a viewer open, what the user can mend is told as a notification and no layer is added.

    Raises
    ------
    UserError
        If there is no viewer and the store is incomplete or damaged.
    """
    from napari import current_viewer
    from napari.utils.notifications import show_error

    from napari_teramind.brain import open_brain
    from napari_teramind.plugin.display import follow
    from napari_teramind.plugin.layers import brain_layers

    folder = path[0] if isinstance(path, list) else path
    viewer = current_viewer()
    try:
        layers = brain_layers(open_brain(folder))
    except UserError as error:
        if viewer is None:
            raise
        show_error(str(error))
        return NO_LAYERS
    if viewer is not None:
        follow(viewer)
    return layers

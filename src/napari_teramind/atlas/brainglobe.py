"""Atlases of the BrainGlobe initiative, through ``brainglobe-atlasapi``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.atlas.structures import Structure, StructureTable
from napari_teramind.atlas.volume import Atlas
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Report = Callable[[str, int, int], None]

# BrainGlobe's word for the axes front to back, top to bottom, left to right: the letters name the
# face of the brain in which the axis starts.
_ORIENTATION = "asl"


def load_brainglobe(
    name: str, folder: str | Path | None = None, report: Report | None = None
) -> Atlas:
    """Load an atlas by BrainGlobe's name, such as ``"allen_mouse_25um"``.

    BrainGlobe downloads the atlas on first use and keeps it; after that no network is needed.

    Parameters
    ----------
    name : str
        BrainGlobe's name.
    folder : path, optional
        Where BrainGlobe keeps its atlases; the user's own folder if not given.
    report : callable, optional
        Progress of a download: message, bytes done, bytes in all.

    Raises
    ------
    UserError
        When ``brainglobe-atlasapi`` is not installed, or has no atlas of that name.
    """
    try:
        from brainglobe_atlasapi import BrainGlobeAtlas
    except ImportError as error:
        raise UserError(
            f"The atlas {name!r} comes from BrainGlobe; install it with "
            "pip install 'brainglobe-atlasapi>=2', or give the path of an annotation volume."
        ) from error

    def told(done: int, total: int) -> None:
        if report is not None:
            report(f"Fetching the atlas {name}", done, total)

    try:
        # The library prints, and standard output may carry a job's events.
        with redirect_stdout(sys.stderr):
            atlas = BrainGlobeAtlas(name, brainglobe_dir=folder, check_latest=False, fn_update=told)
            return from_brainglobe(atlas)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"BrainGlobe could not provide the atlas {name!r} ({error}); "
            "check the name in its list and the network connection."
        ) from error


def brainglobe_names() -> list[str]:
    """List BrainGlobe's atlases: those on this computer, and all others if its list is at hand.

    Raises
    ------
    UserError
        When ``brainglobe-atlasapi`` is not installed.
    """
    try:
        from brainglobe_atlasapi import list_atlases
    except ImportError as error:
        raise UserError(
            "The list of atlases comes from BrainGlobe; install it with "
            "pip install 'brainglobe-atlasapi>=2'."
        ) from error
    with redirect_stdout(sys.stderr):
        names = set(list_atlases.get_downloaded_atlases())
        try:
            names |= set(list_atlases.get_all_atlases_lastversions())
        except (OSError, KeyError, ValueError, RuntimeError):
            # No network, and no list was ever kept.
            return sorted(names)
    return sorted(names)


def from_brainglobe(atlas: Any) -> Atlas:
    """Turn a ``BrainGlobeAtlas`` that the user has already loaded into an `Atlas`.

    The annotation is turned to the axes (front to back, top to bottom, left to right), whatever
    orientation it is stored in.
    """
    annotation = np.asarray(atlas.annotation)
    resolution = tuple(float(r) for r in atlas.resolution)
    orientation = str(atlas.orientation)
    annotation, resolution = _reorient(annotation, resolution, orientation)
    table = structures_from_brainglobe(atlas.structures, str(atlas.atlas_name))
    return Atlas(
        str(atlas.atlas_name),
        annotation,
        (resolution[0], resolution[1], resolution[2]),
        table,
    )


def structures_from_brainglobe(
    structures: Mapping[Any, Mapping[str, Any]], origin: str
) -> StructureTable:
    """Build the table from BrainGlobe's dictionary of structures."""
    rows = []
    # The dictionary can be keyed by id and acronym alike; a structure must come out once.
    for entry in {int(s["id"]): s for s in structures.values()}.values():
        path = [int(i) for i in entry["structure_id_path"]]
        red, green, blue = (int(c) for c in entry["rgb_triplet"])
        rows.append(
            Structure(
                id=int(entry["id"]),
                acronym=str(entry["acronym"]),
                name=str(entry["name"]),
                color_hex=f"{red:02X}{green:02X}{blue:02X}",
                parent_id=path[-2] if len(path) > 1 else None,
            )
        )
    return StructureTable(rows, origin)


def _reorient(
    volume: np.ndarray[Any, Any], resolution: tuple[float, ...], orientation: str
) -> tuple[np.ndarray[Any, Any], tuple[float, ...]]:
    opposite = {"a": "p", "p": "a", "s": "i", "i": "s", "l": "r", "r": "l"}
    order, flips = [], []
    for letter in _ORIENTATION:
        axis = next(
            k for k, stored in enumerate(orientation) if stored in (letter, opposite[letter])
        )
        order.append(axis)
        flips.append(slice(None, None, None if orientation[axis] == letter else -1))
    return volume.transpose(order)[tuple(flips)], tuple(resolution[k] for k in order)

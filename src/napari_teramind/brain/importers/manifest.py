"""The manifest of an import: which slices, in which order, turned over, registered by what."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_teramind.errors import UserError

REGISTRATIONS = ("registration.json", "registration.csv", "affine.json", "landmarks.csv")
"""Names under which a draft looks for a slice's registration in its folder."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SliceEntry(_Table):
    """One slice.

    Attributes
    ----------
    region
        Its folder.
    exclude
        Leave it out.
    flip
        Axes that are turned round in the slice's own rectangle, before it is registered.
    transform
        Its registration; None: it lies where its own micrometers say.
    inverse
        The registration goes from the common grid to the slice.
    units_um
        Micrometers of a unit in the registration: on the slice, and on the common grid.
    position_um
        z of the slice, or of its first plane; evenly spaced if not given.
    """

    region: Path
    exclude: bool = False
    flip: Literal["", "x", "y", "xy"] = ""
    transform: Path | None = None
    inverse: bool = False
    units_um: tuple[Positive, Positive] = (1.0, 1.0)
    position_um: Finite | None = None


class GridEntry(_Table):
    """The common grid, micrometers (x, y); what all slices need if not given."""

    origin_um: tuple[Finite, Finite] | None = None
    size_um: tuple[Positive, Positive] | None = None


class Manifest(_Table):
    """What an import is made of.

    Attributes
    ----------
    slices
        In order; those left out are not among them.
    grid
        The common grid.
    """

    slices: Annotated[list[SliceEntry], Field(alias="slice", min_length=1)]
    grid: GridEntry | None = None

    @property
    def registered(self) -> bool:
        """Whether slices share a grid, instead of each having its own pixels."""
        moved = any(entry.transform is not None or entry.flip for entry in self.slices)
        return self.grid is not None or moved


def manifest_of(regions: Sequence[str | Path]) -> Manifest:
    """Return the manifest that is given alone, or one of region folders as they are.

    Raises
    ------
    UserError
        If nothing is given, or a manifest beside other things, or it cannot be read.
    """
    paths = [Path(region) for region in regions]
    if not paths:
        raise UserError("No region folder was given: name one, as region_0.")
    if not any(path.suffix.lower() == ".toml" for path in paths):
        return Manifest.model_validate({"slice": [SliceEntry(region=path) for path in paths]})
    if len(paths) > 1:
        raise UserError("A manifest names all slices itself: give it alone.")
    return read_manifest(paths[0])


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest; paths in it count from its folder, and excluded slices are left out.

    Raises
    ------
    UserError
        If it cannot be read, says something unknown, or leaves no slice.
    """
    path = Path(path)
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest.model_validate(known)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not a manifest that can be read ({error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path} is not a manifest of slices: {where}: {first['msg']}; draft one with"
            " 'teramind import draft'."
        ) from error
    kept = [entry for entry in manifest.slices if not entry.exclude]
    if not kept:
        raise UserError(f"{path} excludes every slice: set exclude = false for some.")
    positions = [entry.position_um for entry in kept]
    if None in positions and any(position is not None for position in positions):
        raise UserError(f"{path} has a position_um for some slices only: give all, or none.")
    given = [position for position in positions if position is not None]
    if any(b <= a for a, b in pairwise(given)):
        raise UserError(f"{path} has slices whose position_um do not ascend: sort the slices.")
    base = path.parent
    placed = [
        entry.model_copy(
            update={
                "region": base / entry.region.expanduser(),
                "transform": entry.transform and base / entry.transform.expanduser(),
            }
        )
        for entry in kept
    ]
    return manifest.model_copy(update={"slices": placed})


def draft_manifest(regions: Sequence[Path], out: Path, overwrite: bool = False) -> list[str]:
    """Write a manifest of region folders, ordered by the numbers in their names, to be edited.

    Parameters
    ----------
    regions : sequence of path
        Region folders.
    out : path
        The manifest, ``.toml``.
    overwrite : bool
        Replace a file at `out`.

    Returns
    -------
    list of str
        What was found, in sentences.

    Raises
    ------
    UserError
        If a region is no folder, or something is at `out` already.
    """
    for region in regions:
        if not region.is_dir():
            raise UserError(f"{region} is not a folder: name region folders, as region_0.")
    if out.suffix.lower() != ".toml":
        raise UserError(f"{out} is a manifest's name only if it ends in .toml.")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already: choose another name, or allow overwriting.")
    ordered = sorted(regions, key=lambda region: _natural(str(region)))
    lines = [
        "# Slices of a brain, in order. Edit, and import with:",
        f"#   teramind import merscope {out.name} -o brain.zarr",
        "# Of every slice:",
        "#   exclude = true             leaves it out",
        '#   flip = "x"                 turns it over ("x", "y" or "xy"), before it is registered',
        '#   transform = "file"         affine map (JSON, CSV), or landmarks of BigWarp (CSV)',
        "#   inverse = true             if the file goes from the common grid to the slice",
        "#   units_um = [0.108, 1.0]    micrometers of the file's units: slice, common grid",
        "#   position_um = 0.0          its z (all slices, or none)",
        "# A common grid other than what all slices need:",
        "# [grid]",
        "# origin_um = [0.0, 0.0]",
        "# size_um = [11000.0, 8000.0]",
    ]
    found = []
    for region in ordered:
        registration = next((n for n in REGISTRATIONS if (region / n).is_file()), None)
        place = _relative(region, out.parent)
        lines += ["", "[[slice]]", f"region = {_quoted(place)}"]
        if registration is not None:
            lines.append(f"transform = {_quoted(f'{place}/{registration}')}")
        found.append(f"{place}: {registration or 'no registration found'}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(out)
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts region_2 before region_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _relative(path: Path, base: Path) -> str:
    path, base = path.resolve(), base.resolve()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

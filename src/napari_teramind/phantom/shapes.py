"""Building blocks of the procedural anatomy: outlines, solids and ribbons between key sections.

All of them are given in coronal planes at a few positions along the anterior-posterior axis and are
interpolated between these with monotone cubics (PCHIP), which never overshoot. Lengths are in
millimetre, in the frame of the Allen Common Coordinate Framework: AP from the front, DV from the
top, ML from the midline.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import PchipInterpolator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A closed curve in a coronal plane, star-shaped about its centre.

    Attributes
    ----------
    dv, ml : float
        The centre, mm.
    radii : array of float, shape (n,)
        Distances from the centre, mm, at equal angles: from dorsal over lateral; over the full
        turn, or over half a turn (both ends included) for a curve symmetric about the midline.
    half : bool
        Which of the two.
    """

    dv: float
    ml: float
    radii: Floats
    half: bool

    def polar(self, dv: Floats, ml: Floats) -> tuple[Floats, Floats]:
        """Distance from the centre (mm) and angle (radian; 0 dorsal, positive to lateral)."""
        return np.hypot(dv - self.dv, ml - self.ml), np.arctan2(ml - self.ml, self.dv - dv)

    def radius(self, angle: Floats) -> Floats:
        """Distance of the curve from its centre (mm) in these directions (radian)."""
        if self.half:
            knots = np.linspace(0, np.pi, len(self.radii))
            return np.asarray(PchipInterpolator(knots, self.radii)(np.abs(angle)))
        # Three more knots at either end make the monotone cubic periodic.
        step = 2 * np.pi / len(self.radii)
        periodic = np.arange(-3, len(self.radii) + 3) * step
        radii = np.concatenate([self.radii[-3:], self.radii, self.radii[:3]])
        return np.asarray(PchipInterpolator(periodic, radii)(np.mod(angle, 2 * np.pi)))


@dataclass(frozen=True)
class Outline:
    """A surface as closed curves at positions along AP."""

    rows: Floats
    half: bool

    def at(self, ap: float) -> Curve | None:
        """Cut the surface at `ap` (mm); None where it does not reach."""
        if not self.rows[0, 0] <= ap <= self.rows[-1, 0]:
            return None
        values = PchipInterpolator(self.rows[:, 0], self.rows[:, 1:])(ap)
        return Curve(float(values[0]), float(values[1]), values[2:], self.half)


@dataclass(frozen=True)
class Ellipse:
    """A tilted ellipse in a coronal plane; lengths in mm, tilt in radian from ML downwards."""

    dv: float
    ml: float
    half_long: float
    half_short: float
    tilt: float

    def contains(self, dv: Floats, ml: Floats, finest: float = 0) -> NDArray[np.bool_]:
        """Which points lie inside, if the ellipse is at least `finest` (mm) thick."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        along = (ml - self.ml) * cos + (dv - self.dv) * sin
        across = (dv - self.dv) * cos - (ml - self.ml) * sin
        half_short = max(self.half_short, finest / 2)
        half_long = max(self.half_long, half_short)
        return np.asarray((along / half_long) ** 2 + (across / half_short) ** 2 <= 1)


@dataclass(frozen=True)
class Solid:
    """A structure as ellipses at positions along AP: columns ap, dv, ml, long, short, tilt."""

    structure: str
    rows: Floats

    def at(self, ap: float) -> Ellipse | None:
        """Cut the structure at `ap` (mm); None where it does not reach."""
        first, last = self.rows[0, 0], self.rows[-1, 0]
        if not first - _CAP <= ap <= last + _CAP:
            return None
        values = PchipInterpolator(self.rows[:, 0], self.rows[:, 1:])(np.clip(ap, first, last))
        dv, ml, half_long, half_short, tilt = (float(v) for v in values)
        # Beyond its first and last section a solid closes like a ball.
        beyond = max(first - ap, ap - last, 0.0) / _CAP
        round_off = max(1 - beyond**2, 1e-6) ** 0.5
        return Ellipse(dv, ml, half_long * round_off, half_short * round_off, np.deg2rad(tilt))


_CAP = 0.08  # mm
_FAR = 0.7  # mm


@dataclass(frozen=True)
class Sheet:
    """A ribbon in one coronal plane: a smooth curve sampled densely.

    Attributes
    ----------
    points : array of float, shape (n, 2)
        dv, ml in mm, from the ribbon's start to its end.
    """

    points: Floats

    def locate(self, dv: Floats, ml: Floats) -> tuple[Floats, Floats]:
        """Signed distance from the ribbon (mm) and position along it (0 to 1).

        The distance is positive on the left of the ribbon as one walks along it with DV pointing
        down and ML to the right; infinite beyond 0.7 mm.
        """
        from scipy.spatial import cKDTree

        query = np.stack([dv.ravel(), ml.ravel()], 1)
        distance, nearest = cKDTree(self.points).query(query, distance_upper_bound=_FAR)
        nearest = np.minimum(nearest, len(self.points) - 1)
        tangent = np.gradient(self.points, axis=0)[nearest]
        offset = query - self.points[nearest]
        side = np.where(tangent[:, 1] * offset[:, 0] - tangent[:, 0] * offset[:, 1] < 0, 1.0, -1.0)
        along = nearest / (len(self.points) - 1)
        return (side * distance).reshape(dv.shape), along.reshape(dv.shape)


@dataclass(frozen=True)
class Ribbon:
    """A sheet of cells as open curves at positions along AP."""

    rows: Floats
    half_width: float

    def at(self, ap: float) -> Sheet | None:
        """Cut the sheet at `ap` (mm); None where it does not reach."""
        if not self.rows[0, 0] <= ap <= self.rows[-1, 0]:
            return None
        knots = PchipInterpolator(self.rows[:, 0], self.rows[:, 1:])(ap).reshape(-1, 2)
        position = np.arange(len(knots))
        dense = np.linspace(0, len(knots) - 1, 200)
        return Sheet(np.asarray(PchipInterpolator(position, knots)(dense)))


def interpolate(rows: Sequence[Sequence[float]], ap: float) -> Floats:
    """Interpolate rows of (ap, values...) linearly; constant beyond both ends."""
    table = np.asarray(rows, float)
    return np.array([np.interp(ap, table[:, 0], column) for column in table[:, 1:].T])


@cache
def _outline_file() -> dict[str, Any]:
    source = resources.files("napari_teramind.phantom") / "outlines.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))


@cache
def load_outline(name: str) -> Outline:
    """Load an outline of ``outlines.toml`` by its name."""
    rows = np.asarray(_outline_file()["outlines"][name], float)
    return Outline(rows, half=bool((rows[:, 2] == 0).all()))


@lru_cache(maxsize=64)
def cut_outline(name: str, ap: float) -> Curve | None:
    """Cut an outline at `ap` (mm); None where it does not reach."""
    return load_outline(name).at(ap)


@cache
def load_ribbon(name: str) -> Ribbon:
    """Load a ribbon of ``outlines.toml`` by its name."""
    shapes = _outline_file()
    return Ribbon(np.asarray(shapes["ribbons"][name], float), shapes["ribbon_half_width"][name])


@lru_cache(maxsize=64)
def cut_ribbon(name: str, ap: float) -> Sheet | None:
    """Cut a ribbon at `ap` (mm); None where it does not reach."""
    return load_ribbon(name).at(ap)


def load_section_table(name: str) -> dict[str, Any]:
    """Load a table of ``outlines.toml``: ``"cortex"`` or ``"callosum"``."""
    table: dict[str, Any] = _outline_file()[name]
    return table


@cache
def load_solids() -> tuple[Solid, ...]:
    """Load the solids of ``solids.csv``, in the order in which they are painted."""
    source = resources.files("napari_teramind.phantom") / "solids.csv"
    lines = source.read_text(encoding="utf-8").splitlines()
    reader = csv.reader(line for line in lines if not line.startswith("#"))
    next(reader)
    solids: list[tuple[str, list[list[float]]]] = []
    for structure, *texts in reader:
        values = [float(text) for text in texts]
        # A structure whose AP positions start again has a second part.
        if solids and solids[-1][0] == structure and values[0] > solids[-1][1][-1][0]:
            solids[-1][1].append(values)
        else:
            solids.append((structure, [values]))
    return tuple(Solid(name, np.asarray(rows)) for name, rows in solids)


@lru_cache(maxsize=64)
def cut_solids(ap: float) -> tuple[tuple[str, Ellipse], ...]:
    """Cut all solids at `ap` (mm): those that reach there, in the order of painting."""
    cuts = ((solid.structure, solid.at(ap)) for solid in load_solids())
    return tuple((structure, ellipse) for structure, ellipse in cuts if ellipse is not None)

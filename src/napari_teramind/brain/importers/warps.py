"""Registrations of slices: from a slice's own micrometers to the brain's common ones, and back.

Transcripts are moved forth, and pixels are looked up by going back, so that a warp needs both ways
(Wu et al. 2025 apply the inverse of the atlas registration to both). Points are rows (x, y).
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_teramind.errors import UserError

_CLOSE_UM = 1e-4
_NEWTON_STEPS = 30
_MOST_BYTES = 10_000_000


class Warp(Protocol):
    """Takes points of a slice to the common grid and back."""

    def to_common(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places (x, y) of the slice to common ones, micrometers."""

    def to_own(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) common places (x, y) to those of the slice, micrometers."""


@dataclass(frozen=True)
class AffineWarp:
    """An affine map.

    Attributes
    ----------
    matrix : ndarray, (3, 3)
        Times (x, y, 1) of the slice gives (x, y, 1) of the common grid.
    """

    matrix: np.ndarray

    def to_common(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places of the slice to common ones."""
        return _times(self.matrix, points)

    def to_own(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) common places to those of the slice."""
        return _times(np.linalg.inv(self.matrix), points)


@dataclass(frozen=True)
class LandmarkWarp:
    """A thin-plate spline through pairs of landmarks, as BigWarp has it: from common to own.

    Attributes
    ----------
    own, common : ndarray, (n, 2)
        The same places on the slice and on the common grid, micrometers.
    name : str
        Where they come from, for messages.

    References
    ----------
    Bookstein (1989), "Principal warps: thin-plate splines and the decomposition of deformations".
    """

    own: np.ndarray
    common: np.ndarray
    name: str

    def __post_init__(self) -> None:
        for points in (self.own, self.common):
            if np.linalg.matrix_rank(points - points.mean(axis=0)) < 2:
                raise UserError(
                    f"{self.name} has {len(points)} landmarks on one line: a slice is placed by at"
                    " least three that are not."
                )
            if len(np.unique(points, axis=0)) < len(points):
                raise UserError(f"{self.name} has two landmarks at one place: remove one of them.")

    @cached_property
    def _back(self) -> Any:
        from scipy.interpolate import RBFInterpolator

        return RBFInterpolator(self.common, self.own, kernel="thin_plate_spline")

    @cached_property
    def _guess(self) -> Any:
        from scipy.interpolate import RBFInterpolator

        return RBFInterpolator(self.own, self.common, kernel="thin_plate_spline")

    def to_own(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) common places to those of the slice."""
        return np.asarray(self._back(points), np.float64)

    def to_common(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places of the slice to common ones: the inverse of `to_own`.

        Newton's method, from the spline that is fitted the other way round.

        Raises
        ------
        UserError
            If the landmarks fold the slice, so that there is no inverse.
        """
        if len(points) == 0:
            return np.zeros((0, 2))
        found = np.asarray(self._guess(points), np.float64)
        reach = float(np.ptp(self.common, axis=0).max())
        open_ = np.arange(len(points))
        for _ in range(_NEWTON_STEPS):
            missing = points[open_] - self.to_own(found[open_])
            far = np.hypot(*missing.T) > _CLOSE_UM
            open_, missing = open_[far], missing[far]
            if len(open_) == 0:
                return found
            move = np.linalg.solve(self._slope(found[open_]), missing[..., None])[..., 0]
            # A step across the whole slice comes from a slope that hardly is one.
            length = np.hypot(*move.T)[:, None]
            found[open_] += move * np.minimum(1, reach / np.maximum(length, 1e-12))
        raise UserError(
            f"The landmarks of {self.name} fold the slice: {len(open_):,} of {len(points):,} points"
            " have no place; look for landmarks that are swapped or wrong."
        )

    def _slope(self, points: np.ndarray) -> np.ndarray:
        """Return the Jacobian (n, 2, 2) of `to_own` by central differences."""
        step = 1e-4 * float(np.ptp(self.common, axis=0).max())
        columns = [
            (self.to_own(points + shift) - self.to_own(points - shift)) / (2 * step)
            for shift in np.eye(2) * step
        ]
        return np.stack(columns, axis=-1)


@dataclass(frozen=True)
class Chain:
    """One warp after another.

    Attributes
    ----------
    first, then
        `first` takes the slice's places to those that `then` takes to the common grid.
    """

    first: Warp
    then: Warp

    def to_common(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places of the slice to common ones."""
        return self.then.to_common(self.first.to_common(points))

    def to_own(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) common places to those of the slice."""
        return self.first.to_own(self.then.to_own(points))


def identity() -> AffineWarp:
    """Return the warp that leaves a slice where it is."""
    return AffineWarp(np.eye(3))


def mirror(flip: str, low: np.ndarray, high: np.ndarray) -> AffineWarp:
    """Return the warp that turns a slice over in its own rectangle.

    Parameters
    ----------
    flip : str
        Axes that are turned round: "", "x", "y" or "xy".
    low, high : ndarray, (2,)
        Corners (x, y) of the rectangle.
    """
    matrix = np.eye(3)
    for axis, name in enumerate("xy"):
        if name in flip:
            matrix[axis, axis], matrix[axis, 2] = -1.0, low[axis] + high[axis]
    return AffineWarp(matrix)


def _times(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved: np.ndarray = points @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


# Files


def read_warp(
    path: str | Path, units_um: tuple[float, float] = (1.0, 1.0), inverse: bool = False
) -> Warp:
    """Read a registration.

    Parameters
    ----------
    path : path
        An affine map as JSON (``{"matrix": ...}`` or the matrix itself) or CSV, 2 x 3 or 3 x 3
        numbers that take (x, y, 1) of the slice to the common grid; or landmarks as BigWarp saves
        them: rows of name, active, moving x, moving y, fixed x, fixed y, where moving is the slice
        and fixed the common grid.
    units_um : tuple of float
        Micrometers of one unit in the file: on the slice, and on the common grid.
    inverse : bool
        The file goes from the common grid to the slice (BigWarp: moving is the common grid).

    Raises
    ------
    UserError
        If it cannot be read as either.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} is too large for a registration: check the file.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a registration ({error}).") from error
    if path.suffix.lower() == ".json":
        return _affine(path, _matrix_in_json(path, text), units_um, inverse)
    rows = [row for row in csv.reader(text.splitlines()) if row]
    numbers = _numbers(rows)
    if numbers is not None and numbers.shape in ((2, 3), (3, 3)):
        return _affine(path, numbers, units_um, inverse)
    return _landmarks(path, rows, units_um, inverse)


def _matrix_in_json(path: Path, text: str) -> Any:
    try:
        known = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}).") from error
    return known.get("matrix") if isinstance(known, dict) else known


def _numbers(rows: list[list[str]]) -> np.ndarray | None:
    try:
        return np.array([[float(v) for v in row] for row in rows])
    except ValueError:
        return None


def _affine(path: Path, found: Any, units_um: tuple[float, float], inverse: bool) -> AffineWarp:
    try:
        given = np.asarray(found, np.float64)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape == (2, 3):
        given = np.vstack([given, (0.0, 0.0, 1.0)])
    if (
        given.shape != (3, 3)
        or not np.isfinite(given).all()
        or not np.allclose(given[2], (0, 0, 1))
        or abs(np.linalg.det(given[:2, :2])) < 1e-12
    ):
        raise UserError(
            f"{path} is not an affine map that can be undone: it holds 2 x 3 or 3 x 3 numbers that"
            " take (x, y, 1) to (x, y, 1)."
        )
    if inverse:
        given = np.asarray(np.linalg.inv(given), np.float64)
    own, common = (np.diag((unit, unit, 1.0)) for unit in units_um)
    return AffineWarp(common @ given @ np.linalg.inv(own))


def _landmarks(
    path: Path, rows: list[list[str]], units_um: tuple[float, float], inverse: bool
) -> LandmarkWarp:
    wide = {len(row) for row in rows}
    if wide == {8}:
        raise UserError(
            f"{path} has landmarks in 3D: a slice is registered in 2D; save them from a 2D BigWarp."
        )
    active = [row for row in rows if len(row) > 1 and row[1].strip().lower() == "true"]
    points = _numbers([row[2:] for row in active])
    if wide != {6} or points is None or not np.isfinite(points).all():
        raise UserError(
            f"{path} is neither an affine map of 2 x 3 or 3 x 3 numbers nor a table of BigWarp's"
            " landmarks (name, active, moving x, moving y, fixed x, fixed y)."
        )
    if len(points) < 3:
        raise UserError(f"{path} has {len(points)} active landmarks: a slice needs at least three.")
    moving, fixed = points[:, :2], points[:, 2:]
    own, common = (fixed, moving) if inverse else (moving, fixed)
    return LandmarkWarp(own * units_um[0], common * units_um[1], str(path))

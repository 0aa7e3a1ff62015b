"""An atlas on the slices of a brain: transforms from slice to atlas, and look-up of structures.

A transform takes a place (y, x) on a slice, micrometers in the brain's world, to a place (ap, dv,
ml) in the atlas, micrometers from the front, top and left faces of its volume. It may tilt: ap need
not be the same all over a slice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.atlas.volume import Atlas

ROUNDING = 1e-11
"""Share of a voxel by which a point may lie before its voxel: what calculating leaves."""


class SliceTransform(Protocol):
    """Takes places on a slice to places in an atlas."""

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, 2) places (y, x) to (n, 3) places (ap, dv, ml), micrometers."""


@dataclass(frozen=True)
class AffineTransform:
    """An affine map of a slice into an atlas.

    Attributes
    ----------
    matrix : array of float, (3, 3)
        Times (y, x, 1) gives (ap, dv, ml).
    """

    matrix: NDArray[np.float64]

    def __post_init__(self) -> None:
        if np.shape(self.matrix) != (3, 3) or not np.isfinite(self.matrix).all():
            raise UserError(
                "An affine transform is 3 x 3 numbers that take (y, x, 1) to (ap, dv, ml) in um."
            )

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, 2) places to (n, 3)."""
        m = np.asarray(self.matrix, np.float64)
        moved: NDArray[np.float64] = points @ m[:, :2].T + m[:, 2]
        return moved


@dataclass(frozen=True)
class LandmarkTransform:
    """A thin-plate spline through pairs of landmarks.

    Attributes
    ----------
    slice_points : array of float, (n, 2)
        Places (y, x) on the slice; at least three, not on one line.
    atlas_points : array of float, (n, 3)
        The same places (ap, dv, ml) in the atlas.
    """

    slice_points: NDArray[np.float64]
    atlas_points: NDArray[np.float64]

    def __post_init__(self) -> None:
        a = np.asarray(self.slice_points, np.float64)
        b = np.asarray(self.atlas_points, np.float64)
        if a.ndim != 2 or a.shape[1:] != (2,) or b.shape != (len(a), 3):
            raise UserError(
                "Landmarks are pairs of a place (y, x) on the slice and one (ap, dv, ml) in the"
                " atlas, in um."
            )
        spread = np.linalg.matrix_rank(np.column_stack([a, np.ones(len(a))]))
        if spread < 3:
            raise UserError(
                f"{len(a)} landmarks that lie on one line do not place a slice; give at least"
                " three that do not."
            )

    @cached_property
    def _spline(self) -> Any:
        from scipy.interpolate import RBFInterpolator

        return RBFInterpolator(
            np.asarray(self.slice_points, np.float64),
            np.asarray(self.atlas_points, np.float64),
            kernel="thin_plate_spline",
        )

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, 2) places to (n, 3)."""
        return np.asarray(self._spline(points), np.float64)


def ids_at(atlas: Atlas, points: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Structures of the voxels that hold points (n, 3) of (ap, dv, ml) um; 0 outside the volume."""
    steps = np.asarray(atlas.resolution_um)
    # A transform that puts a point on a voxel's face does so up to rounding.
    voxels = np.floor(points / steps + ROUNDING).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < atlas.annotation.shape)).all(axis=1)
    ids = np.zeros(len(points), np.uint32)
    ids[inside] = atlas.annotation[tuple(voxels[inside].T)]
    return ids


@dataclass(frozen=True)
class PlacedAtlas:
    """An atlas laid over the slices of a brain.

    Attributes
    ----------
    atlas : Atlas
        The atlas.
    transforms : mapping of int to transform
        By slice.
    """

    atlas: Atlas
    transforms: Mapping[int, SliceTransform]

    def labels(
        self, z: int, y_um: NDArray[np.float64], x_um: NDArray[np.float64]
    ) -> NDArray[np.uint32]:
        """Structures on a grid of a slice.

        Parameters
        ----------
        z : int
            Slice.
        y_um, x_um : arrays of float
            Places of rows and columns, micrometers in the brain's world.

        Returns
        -------
        array of uint32, (rows, columns)

        Raises
        ------
        UserError
            If the slice has no transform.
        """
        if z not in self.transforms:
            raise UserError(
                f"Slice {z} has no transform into the atlas {self.atlas.name}; add one for every"
                " slice."
            )
        y, x = np.meshgrid(y_um, x_um, indexing="ij")
        points = np.column_stack([y.ravel(), x.ravel()])
        return ids_at(self.atlas, self.transforms[z](points)).reshape(y.shape)


def read_transforms(path: str | Path) -> dict[int, SliceTransform]:
    """Read transforms of slices from a JSON file.

    The file holds an object of slices by number; each has either ``"affine"``, three rows of three
    numbers that take (y, x, 1) to (ap, dv, ml), or ``"landmarks"``, a list of objects with
    ``"slice": [y, x]`` and ``"atlas": [ap, dv, ml]``; all in micrometers.

    Raises
    ------
    UserError
        If the file is missing or is not of this form.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {int(z): _transform(entry) for z, entry in values.items()}
    except FileNotFoundError:
        raise UserError(f"There are no transforms at {path}; check the path.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} does not hold transforms of slices ({error!r}); give every slice an 'affine'"
            " or 'landmarks'."
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _transform(entry: Mapping[str, Any]) -> SliceTransform:
    if "affine" in entry:
        return AffineTransform(np.array(entry["affine"], np.float64))
    marks = entry["landmarks"]
    return LandmarkTransform(
        np.array([mark["slice"] for mark in marks], np.float64),
        np.array([mark["atlas"] for mark in marks], np.float64),
    )

"""Focal planes: which one a row of a transcript table belongs to, and how high it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_teramind.brain.importers.region import Region
from napari_teramind.errors import UserError

PLANE_SPACING = 1.5
"""Micrometers between the focal planes of a MERSCOPE run."""


@dataclass(frozen=True)
class PlaneHeights:
    """How values of ``global_z`` and positions in micrometers belong to focal planes.

    Attributes
    ----------
    planes : list of int
        Planes that have images, ascending.
    spacing : float
        Micrometers from a plane to the next.
    values : dict or None
        Plane of every value of ``global_z``; None where values are plane numbers themselves.
    """

    planes: list[int]
    spacing: float
    values: dict[float, int] | None

    def plane_of(self, value: float) -> int:
        """Plane that a value stands for: itself, unless values are micrometers."""
        return self.values.get(value, -1) if self.values is not None else int(value)

    def position(self, plane: int) -> float:
        """Micrometers from the first plane."""
        return (plane - self.planes[0]) * self.spacing


def plane_heights(region: Region, values: list[float], spacing: float | None) -> PlaneHeights:
    """Work out which plane every value of ``global_z`` stands for.

    Parameters
    ----------
    region : Region
        Region whose images say which planes there are.
    values : list of float
        Distinct values in its table: plane numbers, or micrometers in some exports.
    spacing : float or None
        Micrometers between planes, if the user stated them.

    Raises
    ------
    UserError
        If the values are neither plane numbers nor one height a plane.
    """
    planes = region.planes
    if all(float(value).is_integer() and value >= 0 for value in values):
        return PlaneHeights(planes, spacing or PLANE_SPACING, None)
    # Some exports hold micrometers instead of plane numbers: the n-th height is the n-th plane.
    ascending = sorted(values)
    if len(ascending) != len(planes):
        raise UserError(
            f"{region.table} has {len(ascending)} different global_z ({ascending[0]:g} to"
            f" {ascending[-1]:g}), which are no plane numbers, for {len(planes)} planes of images:"
            " import with planes projected."
        )
    step = float(np.median(np.diff(ascending))) if len(ascending) > 1 else PLANE_SPACING
    per_plane = step / max(1.0, float(np.median(np.diff(planes))) if len(planes) > 1 else 1.0)
    return PlaneHeights(planes, spacing or per_plane, dict(zip(ascending, planes, strict=True)))

"""SpatialData stores: what is in them, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from napari_teramind.errors import UserError

SYSTEM = "global"
"""Coordinate system that elements are placed in, where they know it."""


def is_spatialdata(root: zarr.Group) -> bool:
    """Whether a group says that it is of SpatialData: the root of a store, or an element."""
    return "spatialdata_attrs" in root.attrs.asdict()


def elements(root: zarr.Group, kind: str) -> list[tuple[str, zarr.Group]]:
    """Return the elements of a kind, as ``images`` or ``points``, by name."""
    group = root.get(kind)
    return sorted(group.groups()) if isinstance(group, zarr.Group) else []


def transformations(group: zarr.Group) -> dict[str, Mapping[str, Any]]:
    """Return the transformations of an element, by the coordinate system that they lead to."""
    attributes = group.attrs.asdict()
    known: Any = attributes.get("ome", attributes)
    if isinstance(known, Mapping) and known.get("multiscales"):
        known = known["multiscales"][0]
    found = known.get("coordinateTransformations", ()) if isinstance(known, Mapping) else ()
    steps = [step for step in found or () if isinstance(step, Mapping)]
    return {str((step.get("output") or {}).get("name")): step for step in steps}


def matrix_of(step: Mapping[str, Any], axes: Sequence[str], path: str) -> np.ndarray:
    """Return the matrix (n + 1, n + 1) of a transformation of n axes.

    Parameters
    ----------
    step
        As SpatialData writes it (NGFF proposal of coordinate transformations, as of 2022).
    axes
        Those of the element.
    path
        Where it lies, for messages.

    Raises
    ------
    UserError
        If it is none of identity, scale, translation, affine and sequences of them, leads to other
        axes, or is damaged.
    """
    names = _axes(step, "input") or tuple(axes)
    to = _axes(step, "output") or tuple(axes)
    if names != tuple(axes) or to != tuple(axes):
        raise UserError(
            f"{path} lies by a transformation of the axes {', '.join(names)} to {', '.join(to)}, "
            f"and has {', '.join(axes)}: transform it to its own axes first."
        )
    matrix = np.eye(len(axes) + 1)
    try:
        match step.get("type"):
            case "identity":
                pass
            case "scale":
                matrix[:-1, :-1] = np.diag(_numbers(step["scale"], axes))
            case "translation":
                matrix[:-1, -1] = _numbers(step["translation"], axes)
            case "affine":
                matrix[:-1] = step["affine"]
            case "sequence":
                for part in step["transformations"]:
                    matrix = matrix_of(part, axes, path) @ matrix
            case other:
                raise UserError(
                    f"{path} lies by a transformation {other!r}, which is not understood: use "
                    "scale, translation, affine, or sequences of them."
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} lies by a transformation that is damaged ({error}): write it again."
        ) from error
    return matrix


def _numbers(given: Any, axes: Sequence[str]) -> np.ndarray:
    found = np.asarray(given, float)
    if found.shape != (len(axes),):
        raise ValueError(f"{found.size} numbers for {len(axes)} axes")
    return found


def _axes(step: Mapping[str, Any], end: str) -> tuple[str, ...]:
    return tuple(axis["name"] for axis in (step.get(end) or {}).get("axes", ()))


def units_of(step: Mapping[str, Any]) -> set[str]:
    """Return the units of y and x of the system that a transformation leads to, as it says them."""
    axes = (step.get("output") or {}).get("axes", ())
    return {str(axis.get("unit", "unit")) for axis in axes if axis.get("name") in ("y", "x")}

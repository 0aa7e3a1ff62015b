"""Focal planes of one slice, projected into one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_teramind.brain.importers.resampling import Box
from napari_teramind.errors import UserError

PROJECTIONS = ("max", "mean")


def check_projection(project: str) -> None:
    """Raise a UserError unless this is a way to project planes."""
    if project not in PROJECTIONS:
        raise UserError(f"Projection {project!r} makes no sense: choose 'max' or 'mean'.")


def projected(planes: Sequence[Callable[[Box], np.ndarray]], project: str, box: Box) -> np.ndarray:
    """Return a box of pixels of some planes as one image.

    Parameters
    ----------
    planes
        At least one: gives a box of its pixels.
    project : {"max", "mean"}
        How; a mean is rounded.
    box
        (y0, y1, x0, x1).

    Returns
    -------
    ndarray, (y1 - y0, x1 - x0)
    """
    first = planes[0](box)
    if len(planes) == 1:
        return first
    # One plane at a time: parts of a whole mosaic are large.
    if project == "max":
        highest = first.copy()
        for plane in planes[1:]:
            np.maximum(highest, plane(box), out=highest)
        return highest
    total = first.astype(np.float64)
    for plane in planes[1:]:
        total += plane(box)
    mean: np.ndarray = total / len(planes)
    return (np.rint(mean) if first.dtype.kind in "ui" else mean).astype(first.dtype)

"""The hippocampus of the procedural brain: strata of Ammon's horn and of the dentate gyrus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.phantom.shapes import cut_ribbon, load_ribbon

if TYPE_CHECKING:
    from napari_teramind.phantom.anatomy import Canvas

# Strata from the alveus inwards, mm from the pyramidal layer: outer side, inner side.
_ORIENS, _ALVEUS = 0.20, 0.27
_RADIATUM, _LACUNOSUM = 0.32, 0.48
_MOLECULAR = 0.22
# What fills the hemisphere beneath the cortex gives way to the hippocampus; the cortex does not.
_YIELDING = ("int", "fiber tracts", "SUB", "sAMY", "CTXsp", "ccb", "ccs", "fp", "cing", "ec")


def paint_hippocampus(canvas: Canvas, ap: float) -> None:
    """Paint Ammon's horn and the dentate gyrus in the coronal plane at `ap` (mm)."""
    near = (canvas.ids != 0) & (np.abs(canvas.ml - 2.2) < 2.4) & (canvas.dv > 1.2)
    if not near.any():
        return
    free = np.isin(canvas.ids, [canvas.table.find(acronym).id for acronym in _YIELDING])
    _paint_horn(canvas, ap, "CA1", near & free)
    _paint_horn(canvas, ap, "CA3", near & (free | canvas.table.mask(canvas.ids, "CA1")))
    _paint_dentate(canvas, ap, near & (free | canvas.table.mask(canvas.ids, "HPF")))


def _paint_horn(canvas: Canvas, ap: float, field: str, where: np.ndarray) -> None:
    ribbon = load_ribbon(field)
    sheet = cut_ribbon(field, ap)
    if sheet is None:
        return
    distance = np.full(canvas.dv.shape, np.inf)
    along = np.zeros(canvas.dv.shape)
    distance[where], along[where] = sheet.locate(canvas.dv[where], canvas.ml[where])
    if field == "CA3":
        distance = -distance
    half = max(ribbon.half_width, canvas.finest / 2)
    canvas.put((distance > half) & (distance < _ALVEUS), "alv")
    canvas.put((distance > half) & (distance < _ORIENS), f"{field}so")
    canvas.put((distance < -half) & (distance > -_LACUNOSUM), f"{field}sr")
    if field == "CA1":
        canvas.put((distance < -_RADIATUM) & (distance > -_LACUNOSUM), "CA1slm")
    canvas.put(np.abs(distance) <= half, f"{field}sp")
    if field == "CA3":
        end = along > 0.9
        for stratum in ("so", "sp", "sr"):
            inside = canvas.ids == canvas.table.find(f"CA3{stratum}").id
            canvas.put(inside & end & where, f"CA2{stratum}")


def _paint_dentate(canvas: Canvas, ap: float, where: np.ndarray) -> None:
    ribbon = load_ribbon("DG")
    sheet = cut_ribbon("DG", ap)
    if sheet is None:
        return
    distance = np.full(canvas.dv.shape, np.inf)
    distance[where], _ = sheet.locate(canvas.dv[where], canvas.ml[where])
    half = max(ribbon.half_width, canvas.finest / 2)
    inside = _within(canvas, sheet.points) & where
    canvas.put((np.abs(distance) < _MOLECULAR) & ~inside, "DG-mo")
    canvas.put(inside, "DG-po")
    canvas.put(np.abs(distance) <= half, "DG-sg")


def _within(canvas: Canvas, points: np.ndarray) -> np.ndarray:
    """Which points lie inside the curve closed by the straight line between its ends."""
    from skimage.measure import points_in_poly

    query = np.stack([canvas.dv.ravel(), canvas.ml.ravel()], 1)
    return np.asarray(points_in_poly(query, points)).reshape(canvas.dv.shape)

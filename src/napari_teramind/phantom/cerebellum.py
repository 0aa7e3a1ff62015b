"""The cerebellum of the procedural brain: folia with molecular, Purkinje and granular layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.phantom.shapes import cut_outline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.phantom.anatomy import Canvas

# Axis about which the lobules are arranged like the sectors of a fan, in the sagittal plane (mm).
_AXIS_AP, _AXIS_DV = 11.45, 4.0
# Directions of the fissures between lobules, degrees from dorsal, positive to posterior; with the
# distance from the axis (mm) at which a fissure ends.
_FISSURES = (
    (-95, 0.75), (-62, 0.55), (-38, 1.1), (-14, 0.65), (12, 1.15), (38, 0.75), (66, 1.05),
    (92, 0.6), (118, 0.8),
)  # fmt: skip
_MOLECULAR, _GRANULAR = 0.15, 0.15


def paint_cerebellum(canvas: Canvas, ap: float) -> None:
    """Paint cerebellar cortex and its white matter in the coronal plane at `ap` (mm)."""
    outline = cut_outline("cerebellum", ap)
    if outline is None:
        return
    r, angle = outline.polar(canvas.dv, canvas.ml)
    surface = outline.radius(angle)
    inside = r < surface
    # Depth below the pia: of the outer surface or of the nearest fissure.
    depth = surface - r
    # The fan is not flat: lobules of the hemispheres lie further forward and are narrower.
    forward = ap - _AXIS_AP + 0.06 * canvas.ml**2 - 0.08 * np.sin(2.2 * canvas.ml)
    upward = _AXIS_DV - canvas.dv - 0.08 * canvas.ml**2
    distance = np.hypot(forward, upward)
    direction = np.rad2deg(np.arctan2(forward, upward))
    for degrees, end in _FISSURES:
        turn = np.deg2rad((direction - degrees + 180) % 360 - 180)
        sideways = np.abs(distance * np.sin(turn))
        before = np.maximum(end - distance * np.cos(turn), 0)
        depth = np.minimum(depth, np.hypot(sideways, before))
    # The vermis is set off from the hemispheres by a groove.
    groove = np.hypot(canvas.ml - 1.25, np.maximum(surface - r - 0.45, 0))
    depth = np.minimum(depth, groove)
    _paint_layers(canvas, inside, depth)
    paraflocculus = _paraflocculus(canvas, ap)
    _paint_layers(canvas, paraflocculus > 0, paraflocculus)
    for nucleus, dv, ml, half_dv, half_ml in _nuclei(ap):
        at = ((canvas.dv - dv) / half_dv) ** 2 + ((canvas.ml - ml) / half_ml) ** 2 < 1
        canvas.put(inside & at, nucleus)


def _paint_layers(canvas: Canvas, inside: NDArray[np.bool_], depth: NDArray[np.float64]) -> None:
    """Paint white matter and the three layers by their depth below the pia (mm)."""
    purkinje = max(0.015, 0.6 * canvas.finest)
    canvas.put(inside, "arb")
    canvas.put(inside & (depth < _MOLECULAR + purkinje + _GRANULAR), "CBXgr")
    canvas.put(inside & (depth < _MOLECULAR + purkinje), "CBXpu")
    canvas.put(inside & (depth < _MOLECULAR), "CBXmo")


def _paraflocculus(canvas: Canvas, ap: float) -> NDArray[np.float64]:
    """Depth below the surface (mm) of the lobe at the side of the brainstem; negative outside."""
    along = (ap - 11.05) / 0.75
    out = ((canvas.dv - 5.45) / 0.95) ** 2 + ((canvas.ml - 3.65) / 0.55) ** 2
    return np.asarray(0.55 * (1 - np.sqrt(out + along**2)))


def _nuclei(ap: float) -> list[tuple[str, float, float, float, float]]:
    """List the cerebellar nuclei in this plane: name, centre and half axes (mm)."""
    found = []
    for name, ap0, dv, ml, half_ap, half_dv, half_ml in (
        ("FN", 11.65, 3.75, 0.9, 0.50, 0.32, 0.38),
        ("IP", 11.45, 3.95, 1.75, 0.50, 0.36, 0.48),
        ("DN", 11.20, 4.15, 2.5, 0.40, 0.36, 0.32),
    ):
        rest = 1 - ((ap - ap0) / half_ap) ** 2
        if rest > 0:
            found.append((name, dv, ml, half_dv * rest**0.5, half_ml * rest**0.5))
    return found

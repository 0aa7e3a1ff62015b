"""The cortex of the procedural brain: areas by direction, layers by depth, white matter beneath."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.phantom.shapes import Curve, cut_outline, interpolate, load_section_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.phantom.anatomy import Canvas

# Radii beyond this in the table of the inner surface say "no cortex in this direction".
_NO_CORTEX = 8.0
# Fractions of depth at which layers end, in areas that are not isocortex.
_LAYERS = {
    "PIR": (("1", 0.40), ("2", 0.62), ("3", 1.0)),
    "ENTl": (("1", 0.16), ("2", 0.32), ("3", 0.52), ("5", 0.78), ("6a", 1.0)),
}


@dataclass(frozen=True)
class CortexSection:
    """The cortex in one coronal plane.

    Attributes
    ----------
    outer : Curve
        The surface of the hemisphere.
    inner : Curve
        The border between grey and white matter, about the same centre.
    ap : float
        Position of the plane, mm.
    """

    outer: Curve
    inner: Curve
    ap: float

    def paint(self, canvas: Canvas) -> None:
        """Fill the hemisphere: first its inside, then white matter, then the layers."""
        r, angle = self.outer.polar(canvas.dv, canvas.ml)
        surface = self.outer.radius(angle)
        inside = r < surface
        self._paint_core(canvas, inside)
        border = self.inner.radius(angle)
        cortical = border < _NO_CORTEX
        # Between a direction with cortex and one without, the cortex thins out.
        border = np.minimum(border, surface)
        self._paint_white_matter(canvas, inside & cortical, border - r, angle)
        thickness = np.maximum(surface - border, 1e-6)
        depth = (surface - r) / thickness
        grey = inside & (depth < 1) & (thickness > 0.15)
        self._paint_grey(canvas, grey, depth, np.rad2deg(angle))

    def _paint_core(self, canvas: Canvas, inside: NDArray[np.bool_]) -> None:
        """Fill the hemisphere with what lies between the structures that follow."""
        ap = self.ap
        if ap < 3.9:
            canvas.put(inside, "AON")
        elif ap < 6.0:
            canvas.put(inside, "CP")
            canvas.put(inside & (canvas.ml < 0.75), "TTd" if ap < 4.1 else "LS")
        else:
            canvas.put(inside, "int" if ap < 7.5 else "fiber tracts" if ap < 9.0 else "SUB")
            canvas.put(inside & (canvas.dv > 5.3), "sAMY" if ap < 7.9 else "CTXsp")

    def _paint_white_matter(
        self,
        canvas: Canvas,
        where: NDArray[np.bool_],
        below: NDArray[np.float64],
        angle: NDArray[np.float64],
    ) -> None:
        table = load_section_table("cortex")
        dorsal, lateral = interpolate(table["white_matter"], self.ap)
        # Thick under the dorsal cortex, thin on the side, and none under the piriform area.
        side = np.clip((np.abs(np.rad2deg(angle)) - 30) / 60, 0, 1)
        width = dorsal * (1 - side) + lateral * side
        width[(np.rad2deg(angle) > 125) | (np.rad2deg(angle) < -100)] = 0
        band = where & (below >= 0) & (below < np.maximum(width, canvas.finest * (width > 0)))
        degrees = np.rad2deg(angle)
        middle = "fa" if self.ap < 4.2 else "ccb" if self.ap < 7.7 else "fp"
        canvas.put(band, middle)
        canvas.put(band & (degrees > 55), "ec")
        if self.ap > 4.2:
            canvas.put(band & (degrees < -25) & (below > 0.02), "cing")

    def _paint_grey(
        self,
        canvas: Canvas,
        where: NDArray[np.bool_],
        depth: NDArray[np.float64],
        degrees: NDArray[np.float64],
    ) -> None:
        table = load_section_table("cortex")
        edges = interpolate(table["edges"], self.ap)
        for sector, choices in enumerate(table["areas"]):
            area = [name for name, start in choices if self.ap >= start][-1]
            here = where & (degrees >= edges[sector]) & (degrees < edges[sector + 1])
            canvas.put(here, area)
            start = 0.0
            for name, end in _LAYERS.get(area, table["layers"]):
                # Areas without a layer 4 have a thicker layer 5.
                if canvas.has(area + name):
                    canvas.put(here & (depth >= start) & (depth < end), area + name)
                    start = end
            if canvas.has(area + "6b"):
                # A layer of one or two cells: never thinner than a cell.
                thickness = max(0.05, canvas.finest / 0.9)
                canvas.put(here & (depth >= 1 - thickness), area + "6b")


def cortex_section(ap: float) -> CortexSection | None:
    """Cut the cortex at `ap` (mm); None where there is none."""
    outer = cut_outline("hemisphere", ap)
    inner = cut_outline("cortex_inner", ap)
    if outer is None or inner is None:
        return None
    # The two surfaces share their centre; the inner one has fewer key sections.
    return CortexSection(outer, Curve(outer.dv, outer.ml, inner.radii, half=False), ap)


def paint_callosum(canvas: Canvas, ap: float) -> None:
    """Paint the corpus callosum where it crosses the midline."""
    table = load_section_table("callosum")
    rows = table["rows"]
    if not rows[0][0] <= ap <= rows[-1][0]:
        return
    top, bottom = interpolate(rows, ap)
    (reach,) = interpolate(table["reach"], ap)
    half = max((bottom - top) / 2, canvas.finest)
    # It bends upwards on its way to the side.
    bend = -0.28 * (canvas.ml / 1.0) ** 2
    inside = np.abs(canvas.dv - (top + bottom) / 2 - bend) < half
    name = "ccg" if ap < 4.6 else "ccb" if ap < 7.4 else "ccs"
    canvas.put(inside & (canvas.ml < reach), name)

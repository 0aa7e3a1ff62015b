"""Where the structures of a phantom brain lie: the procedural mouse brain, or a given atlas.

An anatomy answers one question: which structure lies at these points of a coronal plane? Points are
in millimetre in the frame of the Allen Common Coordinate Framework (AP from the front, DV from the
top), but with ML measured from the midline and negative on the left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_teramind.atlas import Atlas, StructureTable, allen_structures
from napari_teramind.phantom.cerebellum import paint_cerebellum
from napari_teramind.phantom.cortex import cortex_section, paint_callosum
from napari_teramind.phantom.hippocampus import paint_hippocampus
from napari_teramind.phantom.shapes import Ellipse, cut_outline, cut_solids

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Solids that lie under the brainstem where the two meet; all others are painted over it.
_FOREBRAIN = frozenset((
    "AON", "TTd", "OT", "ACB", "CP", "LS", "MS", "NDB", "SI", "BST", "GPe", "GPi", "COA", "MEA",
    "CEA", "BMA", "BLA", "LA", "EPd", "CLA", "int", "act", "SUB",
))  # fmt: skip
# Solids that bulge out of the outlines; all others lie inside them.
_BULGING = frozenset(("HY", "SCs", "SCm", "IC", "PG", "och", "opt", "cpd", "mcp"))
# Layers of the olfactory bulb from its surface: where they end, mm below it.
_BULB = (
    ("onl", 0.10), ("MOBgl", 0.30), ("MOBopl", 0.45), ("MOBmi", 0.49), ("MOBipl", 0.57),
    ("MOBgr", 9.0),
)  # fmt: skip


class Anatomy(Protocol):
    """Where structures lie.

    Attributes
    ----------
    table : StructureTable
        The structures that `at` can return.
    extent_mm : tuple of float
        Size of the frame along AP, DV and ML.
    ap_range_mm : tuple of float
        Where the brain begins and ends along AP.
    frame_mm : tuple of float
        What an image has to hold: first and last DV position, and half the width along ML.
    """

    table: StructureTable
    extent_mm: tuple[float, float, float]
    ap_range_mm: tuple[float, float]
    frame_mm: tuple[float, float, float]

    def at(self, ap: float, dv: ArrayLike, ml: ArrayLike, finest: float = 0) -> NDArray[np.uint32]:
        """Find the structures at points of a coronal plane.

        Parameters
        ----------
        ap : float
            The plane, mm.
        dv, ml : arrays of float
            The points, mm; they broadcast.
        finest : float
            Layers are drawn at least this thick (mm), so that sheets of single cells survive in a
            brain whose anatomy is scaled down while its cells are not.

        Returns
        -------
        array of uint32
            Structure ids; 0 outside the brain.
        """
        ...


@dataclass
class Canvas:
    """Points of a coronal plane, folded onto the right half, and what lies there so far.

    Attributes
    ----------
    dv, ml : array of float
        The points, mm; `ml` is never negative.
    finest : float
        Smallest thickness of a layer, mm.
    ids : array of uint32
        The structures so far.
    """

    dv: NDArray[np.float64]
    ml: NDArray[np.float64]
    finest: float
    table: StructureTable
    ids: NDArray[np.uint32] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = np.zeros(self.dv.shape, np.uint32)

    def put(self, where: NDArray[np.bool_], acronym: str) -> None:
        """Paint a structure over what was there."""
        self.ids[where] = self.table.find(acronym).id

    def has(self, acronym: str) -> bool:
        """Whether the table knows the structure."""
        return self.table.has(acronym)


class ProceduralAnatomy:
    """The procedural mouse brain: smooth and symmetric, with the Allen Institute's structures."""

    extent_mm = (13.2, 8.0, 11.4)
    frame_mm = (0.0, 7.7, 5.35)

    def __init__(self, olfactory_bulb: bool = True) -> None:
        self.table = allen_structures()
        self.olfactory_bulb = olfactory_bulb
        # Without its bulb a brain begins where the cortex does.
        self.ap_range_mm = (0.25 if olfactory_bulb else 2.75, 13.0)

    def at(self, ap: float, dv: ArrayLike, ml: ArrayLike, finest: float = 0) -> NDArray[np.uint32]:
        """See `Anatomy.at`."""
        dv, ml = np.broadcast_arrays(np.asarray(dv, float), np.asarray(ml, float))
        canvas = Canvas(dv, np.abs(ml), finest, self.table)
        cortex = cortex_section(ap)
        if cortex is not None:
            cortex.paint(canvas)
        if self.olfactory_bulb:
            _paint_bulb(canvas, ap)
        paint_callosum(canvas, ap)
        paint_hippocampus(canvas, ap)
        solids = cut_solids(ap)
        _paint_solids(canvas, [solid for solid in solids if solid[0] in _FOREBRAIN])
        paint_cerebellum(canvas, ap)
        _paint_brainstem(canvas, ap)
        _paint_solids(canvas, [solid for solid in solids if solid[0] not in _FOREBRAIN])
        return canvas.ids


def _paint_solids(canvas: Canvas, solids: list[tuple[str, Ellipse]]) -> None:
    tracts = canvas.table.within("fiber tracts") | canvas.table.within("VS")
    for structure, ellipse in solids:
        # Small grey nuclei survive in small brains; tracts may thin out.
        finest = 0.0 if canvas.table.find(structure).id in tracts else canvas.finest
        inside = ellipse.contains(canvas.dv, canvas.ml, finest)
        if structure not in _BULGING:
            inside &= canvas.ids != 0
        canvas.put(inside, structure)


def _paint_bulb(canvas: Canvas, ap: float) -> None:
    outline = cut_outline("olfactory_bulb", ap)
    if outline is None:
        return
    r, angle = outline.polar(canvas.dv, canvas.ml)
    depth = outline.radius(angle) - r
    start = 0.0
    for name, end in _BULB:
        # The mitral cells are a single row.
        stop = max(end, start + canvas.finest)
        canvas.put((depth >= start) & (depth < stop), name)
        start = stop
    core = ((canvas.dv - 4.5) / 0.75) ** 2 + ((canvas.ml - 0.92) / 0.10) ** 2 < 1
    canvas.put(core & (depth > 0.4) & (ap > 0.8), "SEZ")


def _paint_brainstem(canvas: Canvas, ap: float) -> None:
    outline = cut_outline("brainstem", ap)
    if outline is None:
        return
    r, angle = outline.polar(canvas.dv, canvas.ml)
    inside = r < outline.radius(angle)
    upper, border, lower = _brainstem_parts(ap)
    canvas.put(inside, upper)
    canvas.put(inside & (canvas.dv > border), lower)


def _brainstem_parts(ap: float) -> tuple[str, float, str]:
    """Name the brainstem's upper part at `ap`, the border's DV position (mm) and the lower part."""
    if ap < 7.75:
        return "TH", 5.25, "HY"
    if ap < 8.6:
        return "MB", 5.8, "HY"
    if ap < 10.3:
        return "MB", float(np.interp(ap, [8.6, 9.0, 9.4, 10.3], [5.9, 5.3, 4.75, 4.4])), "P"
    return "P", float(np.interp(ap, [10.3, 10.5, 11.1], [7.5, 5.6, 3.5])), "MY"


class AtlasAnatomy:
    """The anatomy of an annotation volume.

    Parameters
    ----------
    atlas : Atlas
        The volume and its structures. Its midline is the middle of the third axis.
    """

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self.table = atlas.table
        ap, dv, ml = (size / 1000 for size in atlas.extent_um)
        self.extent_mm = (ap, dv, ml)
        planes = np.flatnonzero(atlas.annotation.any(axis=(1, 2)))
        step = atlas.resolution_um[0] / 1000
        # The outermost planes of a volume are slivers of tissue.
        margin = 0.02 * ap
        self.ap_range_mm = (float(planes[0]) * step + margin, float(planes[-1]) * step - margin)
        rows = np.flatnonzero(atlas.annotation.any(axis=(0, 2))) * atlas.resolution_um[1] / 1000
        columns = np.flatnonzero(atlas.annotation.any(axis=(0, 1))) * atlas.resolution_um[2] / 1000
        half = max(ml / 2 - columns[0], columns[-1] - ml / 2)
        self.frame_mm = (float(rows[0]) - 0.2, float(rows[-1]) + 0.2, float(half) + 0.2)

    def at(self, ap: float, dv: ArrayLike, ml: ArrayLike, finest: float = 0) -> NDArray[np.uint32]:
        """See `Anatomy.at`; a volume's layers are as thick as they are."""
        dv = np.asarray(dv, float) * 1000
        ml = (np.asarray(ml, float) + self.extent_mm[2] / 2) * 1000
        return self.atlas.at(ap * 1000, dv, ml)

"""Cells of a section: where they are, of what type, how large and how turned."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.phantom.expression import Compositions, Profiles
from napari_teramind.phantom.plan import BIN, BLOCK, PIXEL_SIZE, SITES
from napari_teramind.phantom.section import BLOCK_BINS, Section, Vessels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.atlas import StructureTable

# Cells stand on a jittered lattice with this many sites along the side of a block (4.4 um apart).
SITES_PER_BLOCK = 25
_PITCH = BLOCK / SITES_PER_BLOCK
_PITCH_UM = _PITCH * PIXEL_SIZE
# Rounds of thinning, and the widest distance over which two nuclei exclude each other.
_ROUNDS = 3
_REACH = 12.5 / PIXEL_SIZE
# Share of the sites along capillaries that hold a nucleus, and how many of these are pericytes.
_VESSEL_SHARE, _PERICYTES = 0.13, 0.2
_CROWDING = 0.02
# Ependyma lines the ventricles, this many bins deep.
_LINING = 4


@dataclass
class Cells:
    """Cells as columns; positions in pixels of the section.

    Attributes
    ----------
    id : array of uint32
        Unique in the brain, never 0.
    y, x : array of float
        Centre of the nucleus.
    structure : array of uint32
    type : array of int
        Index into the profiles' types.
    radius : array of float
        Of the nucleus, pixels: half the diameter of a circle of the same area.
    long : array of float
        Length of the nucleus over its width.
    angle : array of float
        Direction of its long axis, radian from x towards y.
    body : array of float
        Radius of the cell's body, pixels.
    size : array of float
        Transcripts relative to an ordinary cell of the type.
    defocus : array of float
        Distance from the focal plane, micrometre.
    texture : array of uint32
        Random bits for the looks.
    """

    id: NDArray[np.uint32]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    structure: NDArray[np.uint32]
    type: NDArray[np.int64]
    radius: NDArray[np.float64]
    long: NDArray[np.float64]
    angle: NDArray[np.float64]
    body: NDArray[np.float64]
    size: NDArray[np.float64]
    defocus: NDArray[np.float64]
    texture: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.id)

    def take(self, which: NDArray[np.generic]) -> Cells:
        """Select cells by mask or index."""
        return Cells(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def join(cls, parts: list[Cells]) -> Cells:
        """All cells of several."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


class CellField:
    """All cells of a section, block by block, each block by itself and always the same.

    Parameters
    ----------
    section : Section
    profiles : Profiles
    compositions : Compositions
    """

    def __init__(self, section: Section, profiles: Profiles, compositions: Compositions) -> None:
        self.section, self.profiles, self.compositions = section, profiles, compositions
        self._vessels = Vessels(section.plan, section.z)
        self._endothelium = profiles.index("Endothelium")
        self._pericyte = profiles.index("Pericyte")
        self._ependyma = profiles.index("Ependyma")
        self.ventricles = _ids_within(section.anatomy.table, "VS")
        self.white_matter = _ids_within(section.anatomy.table, "fiber tracts")
        self.candidates = lru_cache(maxsize=512)(self._candidates)
        self.block = lru_cache(maxsize=512)(self._block)

    def _candidates(self, row: int, column: int) -> tuple[Cells, NDArray[np.float64]]:
        """Cells of a block before thinning, and the share of their radii that they keep clear."""
        section = self.section
        blocks_y, blocks_x = section.blocks
        if not (0 <= row < blocks_y and 0 <= column < blocks_x):
            return _no_cells(), np.zeros(0)
        rng = section.plan.rng(SITES, section.z, row, column)
        n = SITES_PER_BLOCK**2
        # All numbers are drawn for all sites, so that no choice shifts the numbers of another.
        u = rng.random((6, n))
        normal = rng.standard_normal((6, n))
        bits = rng.integers(0, 2**32, n, dtype=np.uint32)
        site_y, site_x = np.divmod(np.arange(n), SITES_PER_BLOCK)
        y = row * BLOCK + (site_y + u[0]) * _PITCH
        x = column * BLOCK + (site_x + u[1]) * _PITCH
        structure, lining = self._surroundings(row, column, y, x)
        chance, packing, kind = self._choose(structure, u[2])
        angle = u[5] * np.pi
        vessel, direction = self._vessels.locate(y * PIXEL_SIZE, x * PIXEL_SIZE)
        vessel &= chance > 0
        mural = np.where(u[4] < _PERICYTES, self._pericyte, self._endothelium)
        kind, chance = np.where(vessel, mural, kind), np.where(vessel, _VESSEL_SHARE, chance)
        angle = np.where(vessel, direction + 0.15 * normal[0], angle)
        kind, chance = np.where(lining, self._ependyma, kind), np.where(lining, 0.6, chance)
        keep = (u[3] < chance) & (y < section.height - 0.5) & (x < section.width - 0.5)
        number = ((section.z * blocks_y + row) * blocks_x + column) * n + np.arange(n) + 1
        found = Cells(
            id=number.astype(np.uint32), y=y, x=x, structure=structure, type=kind, angle=angle,
            texture=bits, **self._shape(kind, normal),
        )  # fmt: skip
        return found.take(keep), packing[keep]

    def _surroundings(
        self, row: int, column: int, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Structure at points of a block, and whether they line a ventricle."""
        around = self.section.structures_around(row, column, _LINING)
        bin_y = (y // BIN).astype(int) - row * BLOCK_BINS + _LINING
        bin_x = (x // BIN).astype(int) - column * BLOCK_BINS + _LINING
        structure = around[bin_y, bin_x]
        ventricle = np.isin(around, self.ventricles)
        wall = _near(ventricle, _LINING) & ~ventricle & (around != 0)
        return structure, wall[bin_y, bin_x]

    def _choose(
        self, structure: NDArray[np.uint32], u: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Chance of a cell at each site, its packing and its type."""
        density, packing = np.zeros(len(u)), np.ones(len(u))
        kind = np.zeros(len(u), np.int64)
        for structure_id in np.unique(structure):
            if structure_id == 0:
                continue
            rule = self.compositions.of(int(structure_id))
            here = structure == structure_id
            density[here], packing[here] = rule.density, rule.packing
            kind[here] = np.searchsorted(np.cumsum(rule.shares), u[here] * (1 - 1e-12))
        plan = self.section.plan
        density *= plan.animal.density * plan.size.density
        # Thinning takes away more where cells are dense; the chance is raised to match.
        chance = np.minimum(density / 1000 * _PITCH_UM**2 * (1 + _CROWDING * density), 1)
        return chance, packing, kind

    def _shape(
        self, kind: NDArray[np.int64], normal: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Radius, elongation, body, size and defocus of cells of these types."""
        types = self.profiles.types
        look = {
            name: np.array([getattr(t, name) for t in types])[kind]
            for name in ("nucleus", "long", "body")
        }
        scale = np.exp(0.09 * np.clip(normal[1], -2, 2))
        # A section cuts nuclei at any height: some show less than their full width.
        cut = 1 - 0.10 * np.minimum(np.abs(normal[2]), 2.5) ** 2 / 2.5
        radius = np.clip(look["nucleus"] * scale * cut, 2.5, 6.0) / PIXEL_SIZE
        long = np.maximum(1 + (look["long"] - 1) * np.exp(0.35 * normal[3]), 1.0)
        body = np.maximum(look["body"] * scale, radius * PIXEL_SIZE * 1.12) / PIXEL_SIZE
        size = np.exp(0.32 * normal[4] - 0.32**2 / 2)
        defocus = 1.6 * np.abs(normal[5])
        return {"radius": radius, "long": long, "body": body, "size": size, "defocus": defocus}

    def _block(self, row: int, column: int) -> Cells:
        """Cells of a block, thinned so that nuclei overlap no more than they do in tissue."""
        parts = [self.candidates(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        cells = Cells.join([p[0] for p in parts])
        packing = np.concatenate([p[1] for p in parts])
        margin = _ROUNDS * _REACH
        near = (
            (cells.y > row * BLOCK - margin)
            & (cells.y < (row + 1) * BLOCK + margin)
            & (cells.x > column * BLOCK - margin)
            & (cells.x < (column + 1) * BLOCK + margin)
        )
        cells, packing = cells.take(near), packing[near]
        keep = _thin(cells, packing)
        own = (cells.y // BLOCK == row) & (cells.x // BLOCK == column)
        return cells.take(keep & own)

    def in_area(self, y0: int, y1: int, x0: int, x1: int) -> Cells:
        """Cells whose centres lie in a rectangle of whole blocks (half-open, pixels)."""
        rows, columns = range(y0 // BLOCK, -(-y1 // BLOCK)), range(x0 // BLOCK, -(-x1 // BLOCK))
        return Cells.join([self.block(row, column) for row in rows for column in columns])

    def around(self, row: int, column: int) -> Cells:
        """Cells of a block and of its eight neighbours, in the order of their ids."""
        cells = Cells.join(
            [self.block(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        )
        return cells.take(np.argsort(cells.id, kind="stable"))


def _ids_within(table: StructureTable, acronym: str) -> NDArray[np.uint32]:
    """Ids inside a structure; none in an atlas that does not have it."""
    return np.array(sorted(table.within(acronym)) if table.has(acronym) else [], np.uint32)


def _no_cells() -> Cells:
    number, real = np.zeros(0, np.uint32), np.zeros(0)
    reals = dict.fromkeys(("y", "x", "radius", "long", "angle", "body", "size"), real)
    kind = np.zeros(0, np.int64)
    return Cells(id=number, structure=number, type=kind, texture=number, defocus=real, **reals)


def _thin(cells: Cells, packing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Drop cells that stand too close to a cell of higher priority, in rounds."""
    from scipy.spatial import cKDTree

    n = len(cells)
    kept = np.zeros(n, bool)
    if n == 0:
        return kept
    points = np.stack([cells.y, cells.x], 1)
    pairs = cKDTree(points).query_pairs(_REACH, output_type="ndarray")
    a, b = pairs[:, 0], pairs[:, 1]
    clear = (cells.radius[a] + cells.radius[b]) * np.minimum(packing[a], packing[b])
    distance = np.hypot(*(points[a] - points[b]).T)
    close = distance < clear
    a, b = a[close], b[close]
    # Random priority with the id as tie-break: the same whichever block asks.
    priority = (cells.texture.astype(np.uint64) << np.uint64(32)) | cells.id.astype(np.uint64)
    winner = np.where(priority[a] > priority[b], a, b)
    loser = a + b - winner
    waiting = np.ones(n, bool)
    for _ in range(_ROUNDS):
        # Those beaten by nobody who still waits are kept; whom they beat is out.
        beaten = np.zeros(n, bool)
        contest = waiting[winner] & waiting[loser]
        beaten[loser[contest]] = True
        new = waiting & ~beaten
        kept |= new
        waiting &= ~new
        waiting[loser[new[winner]]] = False
        waiting[winner[new[loser]]] = False
    return kept


def _near(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Where a mask is at most `distance` bins away."""
    from scipy.ndimage import binary_dilation

    if not mask.any():
        return mask
    return np.asarray(binary_dilation(mask, iterations=distance))

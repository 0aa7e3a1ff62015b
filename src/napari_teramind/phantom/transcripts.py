"""Transcripts: how many of each gene a cell has, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.phantom.plan import (
    AMBIENT,
    BIN,
    BLOCK,
    COUNTS,
    PIXEL_SIZE,
    SCATTER,
    generator,
)
from napari_teramind.phantom.section import BLOCK_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.phantom.cells import CellField, Cells

# Overdispersion: the variance of a count of mean m is m + m^2 / _DISPERSION beyond that of the
# cell's size.
_DISPERSION = 5.0
# Share of a cell's transcripts inside the nucleus, and just outside its body (in processes).
_NUCLEAR, _PROCESSES = 0.32, 0.06
# Transcripts of no cell, over the larger panel, per 1,000 square micrometre of tissue and of glass.
_AMBIENT_TISSUE, _AMBIENT_GLASS = 60.0, 1.0
# Genes differ in how well they are detected: log-normal about 1.
_DETECTION_SPREAD = 0.25


@dataclass(frozen=True)
class Transcripts:
    """Transcripts as columns; positions in pixels of the section.

    Attributes
    ----------
    y, x : array of float32
    gene : array of uint16
        Index into the panel.
    cell : array of uint32
        Id of the cell, 0 for none.
    nuclear : array of bool
        Whether it lies in the nucleus of its cell.
    """

    y: NDArray[np.float32]
    x: NDArray[np.float32]
    gene: NDArray[np.uint16]
    cell: NDArray[np.uint32]
    nuclear: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, which: NDArray[np.generic]) -> Transcripts:
        """Select transcripts by mask or index."""
        return Transcripts(
            self.y[which], self.x[which], self.gene[which], self.cell[which], self.nuclear[which]
        )

    @classmethod
    def join(cls, parts: list[Transcripts]) -> Transcripts:
        """All of several."""
        names = ("y", "x", "gene", "cell", "nuclear")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


class TranscriptField:
    """All transcripts of a section, block by block.

    Parameters
    ----------
    cells : CellField
    """

    def __init__(self, cells: CellField) -> None:
        self.cells = cells
        self.section = cells.section
        plan = self.section.plan
        n_genes = len(cells.profiles.genes)
        # Detection is a property of the probes, the same for all sections of an animal.
        spread = generator(plan.seed, plan.animal.index, COUNTS).standard_normal(n_genes)
        self._detection = np.exp(_DETECTION_SPREAD * spread) * plan.animal.depth
        self.block = lru_cache(maxsize=512)(self._block)

    def counts(self, row: int, column: int) -> NDArray[np.int64]:
        """Transcripts of each cell of a block for each gene: (cells, genes)."""
        cells = self.cells.block(row, column)
        rng = self.section.plan.rng(COUNTS, self.section.z, row, column)
        means = self.cells.profiles.means[cells.type] * self._detection * cells.size[:, None]
        # A Poisson count about a gamma mean is negative binomial.
        return rng.poisson(means * rng.standard_gamma(_DISPERSION, means.shape) / _DISPERSION)

    def _block(self, row: int, column: int) -> Transcripts:
        """Transcripts of the cells of a block, wherever they lie, and its ambient ones."""
        blocks_y, blocks_x = self.section.blocks
        if not (0 <= row < blocks_y and 0 <= column < blocks_x):
            return _nothing()
        found = Transcripts.join([self._of_cells(row, column), self._ambient(row, column)])
        inside = (found.y >= -0.5) & (found.x >= -0.5)
        inside &= (found.y < self.section.height - 0.5) & (found.x < self.section.width - 0.5)
        return found.take(inside)

    def _of_cells(self, row: int, column: int) -> Transcripts:
        cells = self.cells.block(row, column)
        counts = self.counts(row, column)
        rng = self.section.plan.rng(SCATTER, self.section.z, row, column)
        cell, gene = np.nonzero(counts)
        times = counts[cell, gene]
        cell, gene = np.repeat(cell, times), np.repeat(gene, times)
        y, x, nuclear = _scatter(cells, cell, rng)
        return Transcripts(y, x, gene.astype(np.uint16), cells.id[cell], nuclear)

    def _ambient(self, row: int, column: int) -> Transcripts:
        rng = self.section.plan.rng(AMBIENT, self.section.z, row, column)
        structures = self.section.structures(row, column).ravel()
        area = (BIN * PIXEL_SIZE) ** 2 / 1000
        rate = np.where(structures != 0, _AMBIENT_TISSUE, _AMBIENT_GLASS) * area
        per_bin = rng.poisson(rate * self._panel_share())
        bins = np.repeat(np.arange(len(structures)), per_bin)
        y = row * BLOCK + (bins // BLOCK_BINS + rng.random(len(bins))) * BIN - 0.5
        x = column * BLOCK + (bins % BLOCK_BINS + rng.random(len(bins))) * BIN - 0.5
        gene = rng.choice(len(self._mixture()), size=len(bins), p=self._mixture())
        nobody = np.zeros(len(bins), np.uint32)
        return Transcripts(
            y.astype(np.float32),
            x.astype(np.float32),
            gene.astype(np.uint16),
            nobody,
            nobody.astype(bool),
        )

    def _mixture(self) -> NDArray[np.float64]:
        """Ambient transcripts are a mixture of what all cells express."""
        mean = (self.cells.profiles.means * self._detection).mean(0)
        return np.asarray(mean / mean.sum())

    def _panel_share(self) -> float:
        profiles = self.cells.profiles
        return float((profiles.means.sum(1) / profiles.totals).mean())

    def in_area(self, y0: int, y1: int, x0: int, x1: int) -> Transcripts:
        """Transcripts in a rectangle of whole bins (half-open, pixels), in a fixed order."""
        rows = range(y0 // BLOCK - 1, -(-y1 // BLOCK) + 1)
        columns = range(x0 // BLOCK - 1, -(-x1 // BLOCK) + 1)
        parts = []
        for row in rows:
            for column in columns:
                found = self.block(row, column)
                # A pixel reaches half its side to either side of its centre.
                here = (found.y >= y0 - 0.5) & (found.y < y1 - 0.5)
                here &= (found.x >= x0 - 0.5) & (found.x < x1 - 0.5)
                parts.append(found.take(here))
        return Transcripts.join(parts)


def _scatter(
    cells: Cells, cell: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Places for transcripts of these cells: in the nucleus, the cytoplasm or just beyond."""
    n = len(cell)
    where, radial, turn = rng.random(n), rng.random(n), rng.random(n) * 2 * np.pi
    nuclear = where < _NUCLEAR
    outside = where > 1 - _PROCESSES
    nucleus = cells.radius[cell]
    body = np.maximum(cells.body[cell], nucleus * 1.12)
    # Uniform over a disc, over a ring, and thinning out beyond the body.
    r = np.where(
        nuclear,
        0.97 * nucleus * np.sqrt(radial),
        np.sqrt(nucleus**2 + radial * (body**2 - nucleus**2)),
    )
    r = np.where(outside, body * (1 + 0.6 * radial), r)
    stretch = np.sqrt(cells.long[cell])
    along, across = r * np.cos(turn) * stretch, r * np.sin(turn) / stretch
    cos, sin = np.cos(cells.angle[cell]), np.sin(cells.angle[cell])
    y = cells.y[cell] + along * sin + across * cos
    x = cells.x[cell] + along * cos - across * sin
    return y.astype(np.float32), x.astype(np.float32), nuclear


def bin_counts(
    found: Transcripts, n_genes: int, y0: int, x0: int, bins: tuple[int, int]
) -> NDArray[np.uint16]:
    """Count transcripts in gene bins.

    Parameters
    ----------
    found : Transcripts
        All inside the rectangle.
    n_genes : int
    y0, x0 : int
        Corner of the rectangle, pixels, a multiple of the bin.
    bins : tuple of int
        Its height and width in bins.

    Returns
    -------
    array of uint16, shape (genes, height, width)
    """
    row = np.minimum((found.y + 0.5 - y0) // BIN, bins[0] - 1).astype(np.int64)
    column = np.minimum((found.x + 0.5 - x0) // BIN, bins[1] - 1).astype(np.int64)
    flat = (found.gene.astype(np.int64) * bins[0] + row) * bins[1] + column
    counts = np.bincount(flat, minlength=n_genes * bins[0] * bins[1])
    return counts.reshape(n_genes, *bins).astype(np.uint16)


def _nothing() -> Transcripts:
    empty = np.zeros(0)
    return Transcripts(
        empty.astype(np.float32),
        empty.astype(np.float32),
        empty.astype(np.uint16),
        empty.astype(np.uint32),
        empty.astype(bool),
    )

"""Counts of a brain as lists of those that are not zero, and the gene tokens that they make.

About two counts in a hundred are not zero. Kept as a list, a tile of 256 x 256 bins of 500 genes
takes a few megabytes instead of 131, and its edges, into which the patches of the next tiles reach,
a few hundred kilobytes; without them every chunk would be decoded up to nine times.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.brain.bins import BinBox
from napari_teramind.brain.layout import check_genes, runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.brain import BrainStore

Tile = tuple[int, int, int]
"""Slice, row and column of a tile."""

# Genes decoded at a time: bounds the memory of a tile on its way into a list.
_GENES_AT_ONCE = 64
# Bytes of entries kept, of whole tiles and of edges each.
_LIMIT = 128_000_000
# Width of the edges that are kept longer, in bins: at least half a patch.
_EDGE = 4


@dataclass(frozen=True, eq=False)
class Entries:
    """Counts that are not zero: gene, slice, row and column of bins, and the count itself."""

    gene: NDArray[np.int16]
    z: NDArray[np.int16]
    y: NDArray[np.int16]
    x: NDArray[np.int16]
    count: NDArray[np.float32]

    def __bool__(self) -> bool:
        return True

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return 12 * len(self.count) + 500

    def where(self, mask: NDArray[np.bool_]) -> Entries:
        """Pick some."""
        return Entries(self.gene[mask], self.z[mask], self.y[mask], self.x[mask], self.count[mask])

    def within(self, box: BinBox) -> Entries:
        """Pick those in a box, and count their places from its corner."""
        b0, b1, c0, c1 = box
        inside = (self.y >= b0) & (self.y < b1) & (self.x >= c0) & (self.x < c1)
        found = self.where(inside)
        return Entries(
            found.gene,
            found.z,
            (found.y.astype(np.int32) - b0).astype(np.int16),
            (found.x.astype(np.int32) - c0).astype(np.int16),
            found.count,
        )

    @classmethod
    def joined(cls, parts: list[Entries]) -> Entries:
        """Put lists together."""
        if not parts:
            none = np.zeros(0, np.int16)
            return cls(none, none, none, none, none.astype(np.float32))
        names = ("gene", "z", "y", "x", "count")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class _Kept:
    """Entries of tiles, the longest unused of which go when they take more than so many bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._entries: OrderedDict[Tile, Entries] = OrderedDict()

    def get(self, key: Tile) -> Entries | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: Tile, entries: Entries) -> None:
        if key in self._entries:
            return
        self._entries[key] = entries
        self._bytes += entries.nbytes
        while self._bytes > self._limit and len(self._entries) > 1:
            self._bytes -= self._entries.popitem(last=False)[1].nbytes


class SparseCounts:
    """Reads boxes of a brain's counts as `Entries`.

    Whole tiles are kept for as long as there is room; their edges, which are all that the
    neighbours need, for much longer. So a tile is decoded twice at most, and memory stays flat.

    Parameters
    ----------
    brain
        The store.
    panel
        Genes in the order wanted.
    limit
        Bytes of entries to keep.
    """

    def __init__(self, brain: BrainStore, panel: tuple[str, ...], limit: int = _LIMIT) -> None:
        self._array = brain.genes.levels[0]
        self._picked = np.asarray(check_genes(panel, brain.gene_names))
        self._side = int(self._array.chunks[-1])
        self._tiles, self._edges = _Kept(limit), _Kept(limit)

    def read(self, box: BinBox, slices: range) -> Entries:
        """Read a box; beyond the brain there are no counts.

        Parameters
        ----------
        box
            May reach beyond the brain.
        slices
            May reach beyond the brain.

        Returns
        -------
        Entries
            Places count from the corner of the box.
        """
        depth, height, width = self._array.shape[1:]
        side = self._side
        b0, b1, c0, c1 = box
        parts = []
        for z in range(max(slices.start, 0), min(slices.stop, depth)):
            for row in range(max(b0, 0) // side, -(-min(b1, height) // side)):
                for column in range(max(c0, 0) // side, -(-min(c1, width) // side)):
                    place = (
                        b0 - row * side,
                        b1 - row * side,
                        c0 - column * side,
                        c1 - column * side,
                    )
                    tile = self._tile((z, row, column), self._is_edge(place))
                    part = tile.within(place)
                    part.z[:] = z - slices.start
                    parts.append(part)
        return Entries.joined(parts)

    def _is_edge(self, place: BinBox) -> bool:
        """Say whether a box, counted from a tile's corner, meets only the tile's edge."""
        low, high = _EDGE, self._side - _EDGE
        b0, b1, c0, c1 = place
        return b1 <= low or b0 >= high or c1 <= low or c0 >= high

    def _tile(self, key: Tile, edge: bool) -> Entries:
        found = self._tiles.get(key) or (self._edges.get(key) if edge else None)
        if found is None:
            found = self._decode(*key)
            self._tiles.put(key, found)
            low, high = _EDGE, self._side - _EDGE
            outer = (found.y < low) | (found.y >= high) | (found.x < low) | (found.x >= high)
            self._edges.put(key, found.where(outer))
        return found

    def _decode(self, z: int, row: int, column: int) -> Entries:
        y0, x0 = row * self._side, column * self._side
        order = np.argsort(self._picked)
        parts = []
        for first, end in runs(self._picked[order], _GENES_AT_ONCE):
            group = order[first:end]
            start = self._picked[group[0]]
            block = np.asarray(
                self._array[
                    start : self._picked[group[-1]] + 1,
                    z,
                    y0 : y0 + self._side,
                    x0 : x0 + self._side,
                ]
            )[self._picked[group] - start]
            gene, y, x = np.nonzero(block)
            count = block[gene, y, x].astype(np.float32)
            here = group.astype(np.int16)[gene]
            zero = np.zeros(len(y), np.int16)
            parts.append(Entries(here, zero, y.astype(np.int16), x.astype(np.int16), count))
        return Entries.joined(parts)


@dataclass(frozen=True)
class PatchGrid:
    """Shifted patches that cover a box of bins.

    Patch (r, c) of the shifted grid covers bins [r b - b/2, r b + b/2) in y, likewise in x: the
    grid of the encoder, which begins half a patch before the brain.

    Attributes
    ----------
    box
        Bins asked for.
    bins
        Side b of a patch in bins.
    """

    box: BinBox
    bins: int

    @property
    def first(self) -> tuple[int, int]:
        """First patch row and column."""
        half = self.bins // 2
        return (self.box[0] + half) // self.bins, (self.box[2] + half) // self.bins

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        half = self.bins // 2
        row, column = self.first
        return (
            (self.box[1] - 1 + half) // self.bins + 1 - row,
            (self.box[3] - 1 + half) // self.bins + 1 - column,
        )

    @property
    def covered(self) -> BinBox:
        """Bins that the patches cover: the box and less than a patch around it."""
        half = self.bins // 2
        (row, column), (rows, columns) = self.first, self.shape
        y0, x0 = row * self.bins - half, column * self.bins - half
        return (y0, y0 + rows * self.bins, x0, x0 + columns * self.bins)

    def to_bins(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Spread values of patches (..., rows columns) over the bins of the box (..., y, x)."""
        y0, _, x0, _ = self.covered
        b0, b1, c0, c1 = self.box
        grid = values.reshape(*values.shape[:-1], *self.shape)
        rows = (np.arange(b0, b1) - y0) // self.bins
        columns = (np.arange(c0, c1) - x0) // self.bins
        return np.asarray(grid[..., rows[:, None], columns[None, :]])

    def any_of(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Say which patches hold any of the bins (..., y, x) of the box: (rows columns,)."""
        flat = mask.reshape(-1, *mask.shape[-2:]).any(axis=0)
        y0, _, x0, _ = self.covered
        y, x = np.nonzero(flat)
        found = np.zeros(self.shape, bool)
        found[(y + self.box[0] - y0) // self.bins, (x + self.box[2] - x0) // self.bins] = True
        return found.ravel()


@dataclass(frozen=True)
class Tokens:
    """The genes of patches that have any count; every other gene of a patch is a token of zeros.

    Attributes
    ----------
    data : array of float32, (N + 1, S, b b)
        Counts of a gene in a patch. The last token is the one of zeros.
    patch, gene : arrays of int, (N,)
        Where the tokens belong; ascending by patch, then by gene.
    patches, genes : int
        Number of patches, and of genes in the panel.
    """

    data: NDArray[np.float32]
    patch: NDArray[np.int64]
    gene: NDArray[np.int64]
    patches: int
    genes: int

    @property
    def index(self) -> NDArray[np.int32]:
        """Token of every patch and gene, (patches, genes); that of zeros where there are none."""
        found = np.full((self.patches, self.genes), len(self.patch), np.int32)
        found[self.patch, self.gene] = np.arange(len(self.patch), dtype=np.int32)
        return found


def gather_tokens(
    counts: SparseCounts, grid: PatchGrid, slices: range, genes: int, wanted: NDArray[np.bool_]
) -> Tokens:
    """Read the tokens of the shifted patches that cover a box.

    Parameters
    ----------
    counts
        Reader.
    grid
        The patches.
    slices
        The S gene slices.
    genes
        Number of genes in the panel.
    wanted
        (patches,); patches that are not wanted get no tokens.
    """
    b = grid.bins
    rows, columns = grid.shape
    entries = counts.read(grid.covered, slices)
    patch = (entries.y // b).astype(np.int64) * columns + entries.x // b
    use = wanted[patch]
    patch = patch[use]
    key = patch * genes + entries.gene[use]
    present = np.zeros(rows * columns * genes, bool)
    present[key] = True
    token = np.cumsum(present) - 1
    values = np.zeros((int(present.sum()) + 1, len(slices), b * b), np.float32)
    inside = (entries.y[use] % b) * b + entries.x[use] % b
    values[token[key], entries.z[use], inside] = entries.count[use]
    owner, gene = np.divmod(np.flatnonzero(present), genes)
    return Tokens(values, owner, gene, rows * columns, genes)

"""Maps of one tile of bins and one slice group: the unit of work of every attention job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.attention.counts import (
    Entries,
    PatchGrid,
    SparseCounts,
    Tokens,
    gather_tokens,
)
from napari_teramind.attention.pairs import (
    MapName,
    Pair,
    check_maps,
    check_pairs,
    distinct_genes,
    map_channels,
    window,
)
from napari_teramind.attention.rows import pair_entries
from napari_teramind.attention.tiles import Mask, Unit
from napari_teramind.simulate.readers import gene_panel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.attention.pairs import MapChannel
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind

STRIP = 16
"""Rows of bins of a unit that are computed at a time."""


@dataclass
class Computer:
    """Computes units of the maps of some pairs.

    Parameters
    ----------
    brain, model
        The brain and the network.
    pairs
        Gene symbols, two and two.
    maps
        Which maps; all that the network can give if None.
    mask
        Which bins are wanted; all if None. Others are zero.

    Attributes
    ----------
    channels : list of MapChannel
        Channels of a unit, in order.
    panel : tuple of str
        Genes of the network.
    """

    brain: BrainStore
    model: TeraMind
    pairs: Sequence[Sequence[str]]
    maps: Sequence[str] | None = None
    mask: Mask | None = None
    panel: tuple[str, ...] = field(init=False)
    channels: list[MapChannel] = field(init=False)

    def __post_init__(self) -> None:
        self.panel = gene_panel(self.brain, self.model)
        self.checked: list[Pair] = check_pairs(self.pairs, self.panel)
        self.names: tuple[MapName, ...] = check_maps(self.maps, self.model.config.gene_slices)
        self.channels = map_channels(self.checked, self.names)
        self.counts = SparseCounts(self.brain, self.panel)

    def compute(self, unit: Unit) -> NDArray[np.float32]:
        """Compute a unit: (channels, z, y, x) float32."""
        inside = None if self.mask is None else self.mask(unit.box, unit.slices)
        shape = (len(unit.slices), unit.box[1] - unit.box[0], unit.box[3] - unit.box[2])
        # A slice of all channels is a shard, written as it lies in memory.
        layout = (shape[0], len(self.channels), *shape[1:])
        out = np.zeros(layout, np.float32).swapaxes(0, 1)
        for strip in strips(unit, self.model.config.bins):
            rows = slice(strip.box[0] - unit.box[0], strip.box[1] - unit.box[0])
            self._fill(out[:, :, rows], strip, None if inside is None else inside[:, rows])
        return out

    def _fill(self, out: NDArray[np.float32], unit: Unit, inside: NDArray[np.bool_] | None) -> None:
        c = self.model.config
        grid = PatchGrid(unit.box, c.bins)
        wanted = np.ones(grid.shape[0] * grid.shape[1], bool)
        if inside is not None:
            wanted = grid.any_of(inside)
            if not wanted.any():
                return
        start = unit.first - c.gene_margin
        slices = range(start, start + c.gene_slices)
        tokens = gather_tokens(self.counts, grid, slices, c.genes, wanted)
        by_slice = {z: self._windows(z - unit.first) for z in unit.slices}
        windows = list(dict.fromkeys(w for windows in by_slice.values() for w in windows))
        place = {gene: i for i, gene in enumerate(self.panel)}
        pairs = [(place[a], place[b]) for a, b in self.checked]
        entries = pair_entries(self.model, tokens, pairs, windows)
        expression = self._expression(unit)
        for level, z in enumerate(unit.slices):
            chosen = entries[[windows.index(w) for w in by_slice[z]]]
            self._slice(out[:, level], grid, chosen, expression[:, level])
        if inside is not None:
            out *= inside

    def _windows(self, image_slice: int) -> list[tuple[int, ...]]:
        return [window(name, image_slice, self.model.config.gene_slices) for name in self.names]

    def _expression(self, unit: Unit) -> NDArray[np.float32]:
        """Counts of the pairs' genes, (genes, z, y, x)."""
        entries = self.counts.read(unit.box, unit.slices)
        return dense(
            entries, unit, [self.panel.index(gene) for gene in distinct_genes(self.checked)]
        )

    def _slice(
        self,
        out: NDArray[np.float32],
        grid: PatchGrid,
        entries: NDArray[np.float32],
        expression: NDArray[np.float32],
    ) -> None:
        """Fill the channels of one slice from entries (maps, pairs, 2, 2, patches) and counts."""
        genes = distinct_genes(self.checked)
        channel = 0
        for k, pair in enumerate(self.checked):
            both = expression[[genes.index(gene) for gene in pair]]
            for m in range(len(self.names)):
                a = grid.to_bins(entries[m, k])  # (2, 2, y, x)
                out[channel : channel + 2] = (a * both[None]).sum(axis=1)
                out[channel + 2 : channel + 6] = a.reshape(4, *a.shape[2:])
                channel += 6
        out[channel:] = expression


def strips(unit: Unit, bins: int, rows: int = STRIP) -> Iterator[Unit]:
    """Cut a unit into strips of whole shifted patches: bounds memory, computes nothing twice."""
    y, end = unit.box[0], unit.box[1]
    while y < end:
        # Shifted patches begin at multiples of b, less b / 2.
        edge = (y + rows + bins // 2) // bins * bins - bins // 2
        stop = min(max(edge, y + 1), end)
        yield Unit(unit.row, unit.column, (y, stop, *unit.box[2:]), unit.slices, unit.first)
        y = stop


def dense(entries: Entries, unit: Unit, genes: Sequence[int]) -> NDArray[np.float32]:
    """Counts of some genes of a unit as an array (genes, z, y, x)."""
    b0, b1, c0, c1 = unit.box
    out = np.zeros((len(genes), len(unit.slices), b1 - b0, c1 - c0), np.float32)
    for i, gene in enumerate(genes):
        at = entries.gene == gene
        out[i, entries.z[at], entries.y[at], entries.x[at]] = entries.count[at]
    return out


def unit_tokens(counts: SparseCounts, model: TeraMind, unit: Unit) -> tuple[PatchGrid, Tokens]:
    """Tokens of all patches of a unit."""
    c = model.config
    grid = PatchGrid(unit.box, c.bins)
    start = unit.first - c.gene_margin
    every = np.ones(grid.shape[0] * grid.shape[1], bool)
    slices = range(start, start + c.gene_slices)
    return grid, gather_tokens(counts, grid, slices, c.genes, every)

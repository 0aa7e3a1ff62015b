"""What is counted in maps: attention, A alone and expression of pairs, bin by bin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from napari_teramind.atlas import PlacedAtlas, StructureTable
from napari_teramind.attention.pairs import MapChannel, MapName, Pair, pair_name
from napari_teramind.attention.tiles import Region, Unit
from napari_teramind.brain.bins import BinLabels, bin_labels, structure_table
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.brain import BrainStore
    from napari_teramind.brain.bins import BinBox

Word = Literal["attention", "A", "expression"]


class Maps(Protocol):
    """Maps in memory (`AttentionMaps`) or in a brain (`StoredMaps`)."""

    @property
    def channels(self) -> list[MapChannel]:
        """What the channels are."""

    @property
    def region(self) -> Region:
        """Bins and slices covered."""

    @property
    def genes(self) -> int:
        """Number of genes in the panel."""

    @property
    def structures(self) -> list[str] | None:
        """Structures that were computed; None for all."""

    def read(self, unit: Unit, channels: Sequence[int]) -> NDArray[np.float32]:
        """Values of a unit: (channels, z, y, x)."""


@dataclass(frozen=True)
class Quantity:
    """One number a bin: the sum of some channels.

    Attributes
    ----------
    word
        ``"attention"``: A times counts, summed over the pair; ``"A"``: A[a, b] + A[b, a];
        ``"expression"``: counts of both genes, or of one.
    pair, map, gene
        Of what; None where it does not apply.
    channels
        The channels that are summed.
    """

    word: Word
    channels: tuple[int, ...]
    pair: Pair | None = None
    map: MapName | None = None
    gene: str | None = None

    @property
    def of(self) -> str:
        """The pair or gene, as text."""
        return pair_name(self.pair) if self.pair is not None else str(self.gene)


def list_quantities(channels: Sequence[MapChannel]) -> list[Quantity]:
    """Quantities of maps: of every pair and map attention and A, and expression of all genes."""
    found = []
    keys = dict.fromkeys((c.pair, c.map) for c in channels if c.pair is not None)
    expression = {c.gene: i for i, c in enumerate(channels) if c.kind == "expression"}
    for pair, name in keys:
        assert pair is not None
        here = [(i, c) for i, c in enumerate(channels) if (c.pair, c.map) == (pair, name)]
        layer = tuple(i for i, c in here if c.kind == "attention")
        cross = tuple(i for i, c in here if c.kind == "A" and c.gene != c.other)
        found += [Quantity("attention", layer, pair, name), Quantity("A", cross, pair, name)]
    for pair in dict.fromkeys(pair for pair, _ in keys):
        assert pair is not None
        found.append(Quantity("expression", tuple(expression[gene] for gene in pair), pair))
    for gene, i in expression.items():
        found.append(Quantity("expression", (i,), None, None, gene))
    return found


@dataclass(frozen=True)
class Atlas2D:
    """Structures on the bins of a brain.

    Attributes
    ----------
    labels
        Reads structure ids of bins.
    table
        The structures.
    """

    labels: BinLabels
    table: StructureTable


def brain_atlas(brain: BrainStore) -> Atlas2D:
    """Structures that a brain's own labels hold."""
    return Atlas2D(bin_labels(brain), structure_table(brain))


def placed_atlas(brain: BrainStore, placed: PlacedAtlas) -> Atlas2D:
    """Structures of an atlas that is laid over a brain's slices."""
    scale, origin = brain.genes.scale()[-2:], brain.genes.translation()[-2:]

    def labels(box: BinBox, slices: range) -> NDArray[np.integer]:
        y = origin[0] + np.arange(box[0], box[1], dtype=np.float64) * scale[0]
        x = origin[1] + np.arange(box[2], box[3], dtype=np.float64) * scale[1]
        return np.stack([placed.labels(z, y, x) for z in slices])

    return Atlas2D(labels, placed.atlas.table)


def walk(
    maps: Maps, atlas: Atlas2D, quantities: Sequence[Quantity]
) -> Iterator[tuple[int, int, NDArray[np.integer], NDArray[np.float32]]]:
    """Walk over maps, tile by tile.

    Yields
    ------
    tuple
        Units done, units in all, structure ids (bins,), values (quantities, bins); bins that were
        not computed, or that lie in no structure, are left out.
    """
    ids = None
    if maps.structures is not None:
        within = [atlas.table.within(acronym) for acronym in maps.structures]
        ids = np.fromiter(sorted(set().union(*within)), np.int64)
    needed = sorted({channel for quantity in quantities for channel in quantity.channels})
    units = list(maps.region.units(1))
    seen = 0
    for done, unit in enumerate(units):
        labels = atlas.labels(unit.box, unit.slices)
        inside = labels != 0 if ids is None else np.isin(labels, ids)
        if inside.any():
            block = maps.read(unit, needed)[:, inside]
            values = [
                block[[needed.index(channel) for channel in quantity.channels]].sum(axis=0)
                for quantity in quantities
            ]
            seen += int(inside.sum())
            yield done, len(units), labels[inside], np.stack(values)
    if not seen:
        raise UserError("No bin of these maps lies in any structure of the atlas; choose others.")

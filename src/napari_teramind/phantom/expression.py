"""Cell types, what they express, and which of them live in which structure."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.phantom.plan import panel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_teramind.atlas import StructureTable

TRANSCRIPTS = 420.0
"""Transcripts of a cell with mRNA 1, over the larger panel."""
# How transcripts grow with the mRNA of a type: less than in proportion, as small cells are
# dominated by their marker genes.
_GROWTH = 0.75
# What every cell expresses of every gene, as a share of its transcripts over the larger panel.
_LEAK = 0.04
_LAYER = re.compile(r"(?:^|[A-Za-z])(1|2/3|4|5|6a|6b)$")
_DEFAULT_PACKING = 0.95


@dataclass(frozen=True)
class CellType:
    """How cells of a type look; see ``cell_types.toml`` for units and meaning."""

    name: str
    nucleus: float
    long: float
    body: float
    dapi: float
    centres: int
    mrna: float


@dataclass(frozen=True)
class Profiles:
    """Mean counts of every type for every gene of a panel.

    Attributes
    ----------
    types : tuple of CellType
    genes : tuple of str
    means : array of float, shape (types, genes)
        Transcripts of a cell of ordinary size.
    totals : array of float, shape (types,)
        Transcripts over the larger panel: what PolyT sees, whichever panel is measured.
    """

    types: tuple[CellType, ...]
    genes: tuple[str, ...]
    means: NDArray[np.float64]
    totals: NDArray[np.float64]

    def index(self, name: str) -> int:
        """Position of a cell type."""
        return next(i for i, cell_type in enumerate(self.types) if cell_type.name == name)


@dataclass(frozen=True)
class Composition:
    """Which cells live in a structure.

    Attributes
    ----------
    density : float
        Nuclei per 1,000 square micrometre.
    packing : float
        Smallest distance between nuclei as a share of the sum of their radii.
    shares : array of float, shape (types,)
        Adds up to 1.
    """

    density: float
    packing: float
    shares: NDArray[np.float64]


@cache
def _read(name: str) -> dict[str, Any]:
    source = resources.files("napari_teramind.phantom") / name
    return tomllib.loads(source.read_text(encoding="utf-8"))


@cache
def load_profiles(animal: str) -> Profiles:
    """Cell types and their mean expression of the genes of an animal's panel."""
    file = _read("cell_types.toml")
    everything = panel("supp_m")
    column = {gene: i for i, gene in enumerate(everything)}
    types, weights = [], np.zeros((len(file["types"]), len(everything)))
    for row, (name, entry) in enumerate(file["types"].items()):
        looks = {k: entry[k] for k in ("nucleus", "long", "body", "dapi", "centres", "mrna")}
        types.append(CellType(name, **looks))
        for group in [*(file["families"][f] for f in entry["families"]), entry["markers"]]:
            for gene, count in group.items():
                weights[row, column[gene]] += count
    weights = np.maximum(weights, 0)
    shares = (1 - _LEAK) * weights / weights.sum(1, keepdims=True) + _LEAK / len(everything)
    totals = TRANSCRIPTS * np.array([t.mrna for t in types]) ** _GROWTH
    genes = panel(animal)
    means = (shares * totals[:, None])[:, : len(genes)]
    return Profiles(tuple(types), genes, means, totals)


class Compositions:
    """The rules of ``composition.toml`` for the structures of a table.

    Parameters
    ----------
    table : StructureTable
        Any atlas; a structure without a rule takes that of its nearest ancestor that has one.
    """

    def __init__(self, table: StructureTable) -> None:
        self._table = table
        file = _read("composition.toml")
        names = list(_read("cell_types.toml")["types"])
        self._rules = {k: _rule(v, file["mixes"], names) for k, v in file["rules"].items()}
        self._layers = {k: _rule(v, file["mixes"], names) for k, v in file["layers"].items()}
        self._known: dict[int, Composition] = {}

    def of(self, structure_id: int) -> Composition:
        """Tell which cells a structure holds."""
        if structure_id not in self._known:
            self._known[structure_id] = self._find(structure_id)
        return self._known[structure_id]

    def _find(self, structure_id: int) -> Composition:
        line = [structure.acronym for structure in self._table.lineage(structure_id)]
        layer = _LAYER.search(line[0])
        if layer and ("Isocortex" in line or line[0] == "6b"):
            return self._layers[layer.group(1)]
        for acronym in line:
            if acronym in self._rules:
                return self._rules[acronym]
        return self._rules["root"]


def _rule(
    entry: Mapping[str, Any], mixes: Mapping[str, Mapping[str, float]], names: Sequence[str]
) -> Composition:
    shares = np.zeros(len(names))
    for name, share in entry["mix"].items():
        for part, fraction in mixes.get(name, {name: 1.0}).items():
            shares[names.index(part)] += share * fraction
    return Composition(
        float(entry["density"]),
        float(entry.get("packing", _DEFAULT_PACKING)),
        shares / shares.sum(),
    )

"""Which maps of which gene pairs: names, presets, windows of slices, channels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from napari_teramind.errors import UserError

Pair = tuple[str, str]
MapName = Literal["previous-current", "current-next", "ensemble"]
Kind = Literal["attention", "A", "expression"]

MAPS: tuple[MapName, ...] = ("previous-current", "current-next", "ensemble")

PRESETS: dict[str, Pair] = {
    "GLUT": ("Slc17a6", "Slc17a7"),
    "DOPA": ("Nr4a2", "Th"),
    "BLOD": ("Cldn5", "Aqp4"),
}
"""Pairs that the paper looks at: glutamate transport, dopamine neurons, blood vessels."""


@dataclass(frozen=True)
class MapChannel:
    """One channel of a result.

    Attributes
    ----------
    kind
        ``"attention"``: A times counts, the published layer; ``"A"``: an entry of the gene-gene
        map alone; ``"expression"``: counts.
    gene
        Row of the map, or the gene whose counts these are.
    pair, map
        The pair and which slices were seen; None for expression.
    other
        Column of the map for ``"A"``, else None.
    """

    kind: Kind
    gene: str
    pair: Pair | None = None
    map: MapName | None = None
    other: str | None = None

    @property
    def name(self) -> str:
        """Name of the channel, as ``Nr4a2-Th ensemble Th`` or ``Th expression``."""
        if self.pair is None:
            return f"{self.gene} expression"
        row = f"A {self.gene}>{self.other}" if self.kind == "A" else self.gene
        return f"{pair_name(self.pair)} {self.map} {row}"

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary that JSON can hold."""
        pair = None if self.pair is None else list(self.pair)
        return {
            "name": self.name,
            "kind": self.kind,
            "gene": self.gene,
            "pair": pair,
            "map": self.map,
            "other": self.other,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MapChannel:
        """Read what `to_dict` wrote."""
        pair = values["pair"]
        return cls(
            values["kind"],
            values["gene"],
            None if pair is None else (pair[0], pair[1]),
            values["map"],
            values["other"],
        )


def pair_name(pair: Pair) -> str:
    """Name of a pair, as ``Nr4a2-Th``."""
    return f"{pair[0]}-{pair[1]}"


def read_pair(text: str) -> Pair:
    """Read ``"Nr4a2-Th"``, ``"Nr4a2,Th"`` or the name of a preset.

    Raises
    ------
    UserError
        If the text is none of them. Symbols with a hyphen need the comma.
    """
    if text.upper() in PRESETS:
        return PRESETS[text.upper()]
    for separator in (",", "-"):
        parts = [part.strip() for part in text.split(separator)]
        if len(parts) == 2 and all(parts):
            return parts[0], parts[1]
    raise UserError(
        f"{text!r} is no pair of genes; write two symbols with a comma, as Nr4a2,Th, or one of"
        f" {', '.join(PRESETS)}."
    )


def check_pairs(pairs: Iterable[Sequence[str]], panel: Sequence[str]) -> list[Pair]:
    """Return pairs whose genes are all in the network's panel.

    Raises
    ------
    UserError
        If there is no pair, a pair is listed twice or pairs a gene with itself, or the panel
        lacks a gene.
    """
    found: list[Pair] = []
    known = set(panel)
    for pair in pairs:
        if len(pair) != 2 or isinstance(pair, str):
            raise UserError(f"A pair has two genes, not {pair!r}.")
        a, b = pair
        if a == b:
            raise UserError(f"The pair {a}-{b} names one gene twice; choose two different genes.")
        for gene in (a, b):
            if gene not in known:
                raise UserError(_unknown(gene, panel))
        if (a, b) in found or (b, a) in found:
            raise UserError(f"The pair {a}-{b} is listed twice; list every pair once.")
        found.append((a, b))
    if not found:
        raise UserError("No pair of genes was given; give at least one, as Nr4a2,Th.")
    return found


def _unknown(gene: str, panel: Sequence[str]) -> str:
    folded = {known.casefold(): known for known in panel}
    near = difflib.get_close_matches(gene.casefold(), folded, n=3, cutoff=0.6)
    hint = f" (did you mean {' or '.join(folded[name] for name in near)}?)" if near else ""
    return (
        f"The checkpoint's panel of {len(panel)} genes lacks {gene!r}{hint}; choose a gene of its"
        " panel, or another checkpoint."
    )


def check_maps(maps: Sequence[str] | None, gene_slices: int) -> tuple[MapName, ...]:
    """Return the maps that a network can give: three at S = 4, else the ensemble only.

    Raises
    ------
    UserError
        If a map is unknown, or S does not allow it.
    """
    possible = MAPS if gene_slices == 4 else MAPS[2:]
    if maps is None:
        return possible
    for name in maps:
        if name not in MAPS:
            raise UserError(f"There is no map {name!r}; choose among {', '.join(MAPS)}.")
        if name not in possible:
            raise UserError(
                f"The map {name!r} needs a network of 4 gene slices and this one has"
                f" {gene_slices}; ask for 'ensemble'."
            )
    if not maps:
        raise UserError(f"No map was asked for; choose among {', '.join(MAPS)}.")
    return tuple(name for name in possible if name in maps)


def window(name: MapName, image_slice: int, gene_slices: int) -> tuple[int, ...]:
    """Gene slices that a map of an image slice sees; the others are set to zero.

    At S = 4 the first image slice (0) takes (0, 1) as previous-current and (1, 2) as current-next,
    the second (1, 2) and (2, 3).
    """
    if name == "ensemble":
        return tuple(range(gene_slices))
    first = image_slice + (name == "current-next")
    return first, first + 1


def map_channels(pairs: Sequence[Pair], maps: Sequence[MapName]) -> list[MapChannel]:
    """List the channels of a result.

    Of every pair and map both rows times counts, then the four entries of A alone; after the pairs
    the expression of every gene, once.
    """
    channels = []
    for a, b in pairs:
        for name in maps:
            channels += [MapChannel("attention", gene, (a, b), name) for gene in (a, b)]
            channels += [
                MapChannel("A", gene, (a, b), name, other) for gene in (a, b) for other in (a, b)
            ]
    return channels + [MapChannel("expression", gene) for gene in distinct_genes(pairs)]


def distinct_genes(pairs: Sequence[Pair]) -> list[str]:
    """Genes of the pairs, each once, in the order in which they come."""
    return list(dict.fromkeys(gene for pair in pairs for gene in pair))

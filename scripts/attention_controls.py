"""Rank structures by attention of a pair, by A alone and by counts, beside controls.

The controls: the same network without any training, and with its gene labels permuted.

usage: attention_controls.py --brain BRAIN [--checkpoint FILE] [--pair A,B] [--areas A,B,C]
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch

import napari_teramind as tm
from napari_teramind.attention.statistics import ranking, structure_statistics
from napari_teramind.brain import BrainStore
from napari_teramind.model import TeraMind

QUANTITIES = ("attention", "A", "expression")


def main() -> None:
    """Compute, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brain", required=True)
    parser.add_argument("--checkpoint", default="packaged")
    parser.add_argument("--pair", default="Nr4a2,Th")
    parser.add_argument("--areas", default="SNc,VTA,MOB")
    options = parser.parse_args()
    brain, network = tm.open_brain(options.brain), tm.load_model(options.checkpoint)
    pair, areas = options.pair.split(","), options.areas.split(",")
    torch.manual_seed(0)
    untrained = TeraMind(network.config).eval()
    untrained.gene_names = network.gene_names
    permuted = tm.load_model(options.checkpoint)
    names = list(network.gene_names)
    np.random.default_rng(0).shuffle(names)
    permuted.gene_names = tuple(names)
    models = {"trained": network, "untrained": untrained, "permuted": permuted}
    found, alone = {}, {}
    for name, model in models.items():
        found[name], alone[name] = ranks(brain, model, pair)
        tell(name, found[name], areas)
    difference = np.abs(alone["permuted"] - alone["trained"]).max()
    print(f"largest difference of A, permuted from trained: {difference:.1e}")
    for quantity in ("attention", "A"):
        like = correlation(found["trained"], found["untrained"], quantity)
        print(f"ranks by {quantity}, trained against untrained: {like:.3f}")


def ranks(
    brain: BrainStore, model: TeraMind, pair: list[str]
) -> tuple[dict[str, pd.DataFrame], np.ndarray]:
    """Return the rankings by quantity, and A alone of the pair."""
    maps = tm.attention(brain, model, [pair], maps=["ensemble"])
    table = structure_statistics(brain, maps)
    of = "-".join(pair)
    rankings = {q: ranking(table, q, of).set_index("acronym") for q in QUANTITIES}
    return rankings, maps.alone((pair[0], pair[1]))


def tell(name: str, rankings: dict[str, pd.DataFrame], areas: list[str]) -> None:
    """Print the first areas, the ranks of some, and how ranks go with those by counts."""
    for quantity in QUANTITIES:
        table = rankings[quantity]
        places = ", ".join(str(int(table["rank"][area])) for area in areas)
        print(
            f"{name}, {quantity}: {', '.join(table.index[:5])}; {', '.join(areas)} at {places} of "
            f"{len(table)}; largest enrichment {table['enrichment'].max():.2f}; ranks like those "
            f"of counts: {correlation(rankings, rankings, quantity, 'expression'):.3f}"
        )


def correlation(
    one: dict[str, pd.DataFrame], two: dict[str, pd.DataFrame], a: str, b: str | None = None
) -> float:
    """Return Spearman's correlation of the areas' means."""
    return float(one[a]["mean"].corr(two[b or a]["mean"], "spearman"))


if __name__ == "__main__":
    main()

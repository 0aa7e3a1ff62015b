"""Attention and expression of every structure, streamed over maps of any size.

Medians and percentiles come from histograms whose bins are the leading 20 bits of a float32: a
value is known to one part in 2,048 from below (counts up to 4,095 exactly), and memory does not
grow with the area.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.attention.quantities import (
    Atlas2D,
    Maps,
    Quantity,
    brain_atlas,
    list_quantities,
    walk,
)
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_teramind.atlas import Structure, StructureTable
    from napari_teramind.brain import BrainStore

Report = Callable[[str, int, int], None]

MIN_BINS = 100
"""Structures with fewer bins are not ranked: their means say little."""

_DROPPED = 12
_CODES = 1 << (32 - _DROPPED)


class Distributions:
    """Counts, sums and histograms of non-negative values by structure."""

    def __init__(self, ids: NDArray[np.int64]) -> None:
        self._ids = ids  # ascending
        self._sums = np.zeros(len(ids))
        self._keys = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)

    def add(self, labels: NDArray[np.integer], values: NDArray[np.float32]) -> None:
        """Add values that lie in structures."""
        place = np.searchsorted(self._ids, labels)
        self._sums += np.bincount(place, weights=values, minlength=len(self._ids))
        code = np.ascontiguousarray(values, np.float32).view(np.uint32) >> np.uint32(_DROPPED)
        keys, counts = np.unique(place.astype(np.int64) * _CODES + code, return_counts=True)
        every, where = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        weights = np.concatenate([self._counts, counts])
        self._counts = np.bincount(where, weights=weights).astype(np.int64)
        self._keys = every

    def within(self, ids: frozenset[int]) -> tuple[int, float, list[float]]:
        """Number of bins, sum, and the median and 95th percentile of some structures together."""
        places = [i for i, known in enumerate(self._ids.tolist()) if known in ids]
        parts = [
            slice(*np.searchsorted(self._keys, [i * _CODES, (i + 1) * _CODES])) for i in places
        ]
        if not parts:
            return 0, 0.0, [np.nan, np.nan]
        codes = np.concatenate([self._keys[part] % _CODES for part in parts])
        counts = np.concatenate([self._counts[part] for part in parts])
        order = np.argsort(codes, kind="stable")
        cumulated = np.cumsum(counts[order])
        bins = int(cumulated[-1]) if len(cumulated) else 0
        if not bins:
            return 0, 0.0, [np.nan, np.nan]
        bits = (codes[order].astype(np.uint32) << np.uint32(_DROPPED)).view(np.float32)
        # The value that at least this share of the bins does not exceed.
        at = [int(np.searchsorted(cumulated, np.ceil(q * bins))) for q in (0.5, 0.95)]
        return bins, float(self._sums[places].sum()), [float(bits[i]) for i in at]


def structure_statistics(
    brain: BrainStore,
    maps: Maps,
    atlas: Atlas2D | None = None,
    min_bins: int = MIN_BINS,
    report: Report | None = None,
) -> pd.DataFrame:
    """Attention, A alone and expression in every structure.

    Parameters
    ----------
    brain
        The brain.
    maps
        What :func:`napari_teramind.attention` or :func:`~napari_teramind.attention.open_maps`
        returns.
    atlas
        Structures on the brain's bins; its own labels if None.
    min_bins
        Structures with fewer bins get no rank.
    report
        Progress callback.

    Returns
    -------
    DataFrame
        A row per structure (its descendants included) and quantity: ``id``, ``acronym``,
        ``name``, ``depth`` (0: the root), ``area`` (whether it takes part in the ranking),
        ``quantity`` (attention: A times counts summed over the pair; A: A[a, b] + A[b, a];
        expression: counts), ``of`` (pair or gene), ``map``, ``bins``, ``mean``, ``median``,
        ``p95``, ``rest_mean`` (mean over all other bins computed), ``enrichment`` (mean /
        rest_mean) and ``rank`` (of the mean, among areas).

        Areas are the structures that bins are labelled with. Layers count with what they are layers
        of: a structure whose name continues its parent's after a comma or a stroke, as "Main
        olfactory bulb, glomerular layer".

    Raises
    ------
    UserError
        If the brain has no structures, or the maps hold no bin of any.
    """
    import pandas as pd

    atlas = brain_atlas(brain) if atlas is None else atlas
    quantities = list_quantities(maps.channels)
    known = np.array(sorted(atlas.table), np.int64)
    collected = [Distributions(known) for _ in quantities]
    present: set[int] = set()
    for done, total, labels, values in walk(maps, atlas, quantities):
        if report is not None:
            report("Reading structures", done, total)
        present.update(np.unique(labels).tolist())
        for distributions, row in zip(collected, values, strict=True):
            distributions.add(labels, row)
    unknown = present - set(known.tolist())
    if unknown:
        raise UserError(f"The labels hold the id {min(unknown)}, which {atlas.table.origin} lacks.")
    areas = {area_of(atlas.table, structure).id for structure in present}
    shown = [atlas.table[i] for i in atlas.table.subset(present)]
    rows: list[dict[str, Any]] = []
    for quantity, distributions in zip(quantities, collected, strict=True):
        rows += _rows(atlas.table, shown, areas, quantity, distributions)
    frame = pd.DataFrame(rows)
    ranked = frame["area"] & (frame["bins"] >= min_bins)
    groups = frame[ranked].groupby(["quantity", "of", "map"], sort=False)["mean"]
    frame["rank"] = groups.rank(ascending=False, method="min").astype("Int64")
    return frame


def _rows(
    table: StructureTable,
    shown: list[Structure],
    areas: set[int],
    quantity: Quantity,
    distributions: Distributions,
) -> list[dict[str, Any]]:
    everywhere = frozenset(table)
    all_bins, all_sum, _ = distributions.within(everywhere)
    rows = []
    for structure in shown:
        bins, total, (median, p95) = distributions.within(table.within_id(structure.id))
        others = all_bins - bins
        rest = (all_sum - total) / others if others else np.nan
        mean = total / bins
        rows.append(
            {
                "id": structure.id,
                "acronym": structure.acronym,
                "name": structure.name,
                "depth": len(table.lineage(structure.id)) - 1,
                "area": structure.id in areas,
                "quantity": quantity.word,
                "of": quantity.of,
                "map": quantity.map or "",
                "bins": bins,
                "mean": mean,
                "median": median,
                "p95": p95,
                "rest_mean": rest,
                "enrichment": mean / rest if rest > 0 else np.nan,
            }
        )
    return rows


def area_of(table: StructureTable, structure_id: int) -> Structure:
    """Structure that a layer is a layer of; the structure itself if it is none.

    Atlases name layers after their area: "Main olfactory bulb, glomerular layer", "Ectorhinal
    area/Layer 6a".
    """
    line = table.lineage(structure_id)
    for child, parent in pairwise(line):
        if not child.name.startswith((f"{parent.name},", f"{parent.name}/")):
            return child
    return line[-1]


def ranking(
    statistics: pd.DataFrame, quantity: str, of: str, map_name: str = "ensemble"
) -> pd.DataFrame:
    """Areas of a table of statistics from the highest mean to the lowest.

    Raises
    ------
    UserError
        If the table has no such quantity.
    """
    name = "" if quantity == "expression" else map_name
    at = (statistics["quantity"] == quantity) & (statistics["of"] == of)
    found = statistics[at & (statistics["map"] == name)]
    if found.empty:
        raise UserError(f"The table holds no {quantity} of {of} ({map_name}).")
    return found[found["rank"].notna()].sort_values("rank").reset_index(drop=True)


def rank_agreement(
    tables: Mapping[str, pd.DataFrame], quantity: str, of: str, map_name: str = "ensemble"
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Say how far several brains agree on the order of their structures.

    Parameters
    ----------
    tables
        Statistics of every brain, by name; see :func:`structure_statistics`.
    quantity, of, map_name
        Which rows.

    Returns
    -------
    DataFrame
        A row per area that every brain ranks: ``acronym``, ``name``, the rank among these areas
        in every brain (``rank <brain>``), ``mean_rank`` and ``spread`` (largest rank minus
        smallest); best first.
    dict
        ``kendall_w`` (1: all brains agree; 0: no agreement) and ``spearman <a> <b>`` for every two
        brains.

    Raises
    ------
    UserError
        If there are fewer than two brains, or fewer than three areas in common.
    """
    import pandas as pd

    if len(tables) < 2:
        raise UserError("Agreement needs the tables of at least two brains; give another one.")
    means = {
        brain: ranking(table, quantity, of, map_name).set_index("acronym")
        for brain, table in tables.items()
    }
    first = next(iter(means.values()))
    joined = pd.DataFrame({brain: frame["mean"] for brain, frame in means.items()}).dropna()
    if len(joined) < 3:
        raise UserError(f"These brains have {len(joined)} ranked areas in common; 3 are needed.")
    ranks = joined.rank(ascending=False)
    m, n = ranks.shape[1], ranks.shape[0]
    sums = ranks.sum(axis=1)
    spread = float(((sums - sums.mean()) ** 2).sum())
    agreement = {"kendall_w": 12 * spread / (m**2 * (n**3 - n))}
    for i, a in enumerate(tables):
        for b in list(tables)[i + 1 :]:
            agreement[f"spearman {a} {b}"] = float(ranks[a].corr(ranks[b]))
    table = ranks.add_prefix("rank ")
    table.insert(0, "name", first["name"].reindex(ranks.index))
    table["mean_rank"] = ranks.mean(axis=1)
    table["spread"] = ranks.max(axis=1) - ranks.min(axis=1)
    return table.sort_values("mean_rank").rename_axis("acronym").reset_index(), agreement


def write_table(frame: pd.DataFrame, path: Any, overwrite: bool = False) -> Any:
    """Write a table as ``.csv`` or ``.parquet``.

    Raises
    ------
    UserError
        If the ending is neither, or something is there already.
    """
    from pathlib import Path

    from napari_teramind.brain.export import check_target, staged

    path = Path(path)
    form = check_target(path, overwrite, (".csv", ".parquet"))
    with staged(path) as partial:
        if form == ".csv":
            frame.to_csv(partial, index=False)
        else:
            frame.to_parquet(partial, index=False)
    return path

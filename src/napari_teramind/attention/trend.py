"""How attention goes with expression: correlation and binned trend line (paper Fig. 3c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.attention.quantities import (
    Atlas2D,
    Maps,
    Quantity,
    Word,
    brain_atlas,
    list_quantities,
    walk,
)
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from napari_teramind.attention.pairs import MapName
    from napari_teramind.attention.statistics import Report
    from napari_teramind.brain import BrainStore

_WIDTH = 0.25
"""Width of a bin of the trend line in log2(count + 1)."""


@dataclass(frozen=True)
class Trend:
    """Attention against expression, over bins where either gene of the pair occurs.

    Attributes
    ----------
    pair : str
        The pair.
    quantity, map : str
        ``"attention"`` or ``"A"``, and of which map.
    pearson : float
        Correlation of log2(n value + 1), n being the number of genes, and log2(count + 1); NaN
        where one of them does not vary.
    bins : int
        Number of bins of tissue.
    table : DataFrame
        The trend line: ``expression`` (centre of a bin of log2(count + 1)), ``mean`` and ``std``
        of log2(n value + 1) in it, ``bins``.
    """

    pair: str
    quantity: str
    map: str
    pearson: float
    bins: int
    table: pd.DataFrame


def attention_trend(
    brain: BrainStore,
    maps: Maps,
    pair: Sequence[str],
    map: MapName = "ensemble",  # noqa: A002  # the paper's word
    word: Word = "attention",
    atlas: Atlas2D | None = None,
    report: Report | None = None,
) -> Trend:
    """Correlate the attention of a pair with its expression.

    Parameters
    ----------
    brain, maps, atlas, report
        See :func:`~napari_teramind.attention.structure_statistics`.
    pair
        Two symbols.
    map
        Which map.
    word
        ``"attention"`` (A times counts, which rises with counts by construction) or ``"A"``.

    Raises
    ------
    UserError
        If the maps do not hold the pair, or nowhere does either gene occur.
    """
    import pandas as pd

    def pick(kind: Word, name: str | None) -> Quantity:
        for quantity in list_quantities(maps.channels):
            if quantity.word == kind and quantity.pair == tuple(pair) and quantity.map == name:
                return quantity
        raise UserError(f"These maps hold no {kind} of {'-'.join(pair)} ({map}); compute it first.")

    chosen = [pick(word, map), pick("expression", None)]
    moments = np.zeros((2, 3))
    product = 0.0
    sums = np.zeros((3, 0))
    for done, total, _, values in walk(maps, atlas or brain_atlas(brain), chosen):
        if report is not None:
            report("Correlating with expression", done, total)
        there = values[1] > 0
        if not there.any():
            continue
        y = np.log2(maps.genes * values[0, there].astype(np.float64) + 1)
        x = np.log2(values[1, there].astype(np.float64) + 1)
        moments += [[len(v), v.sum(), (v**2).sum()] for v in (x, y)]
        product += float((x * y).sum())
        place = np.floor(x / _WIDTH).astype(int)
        here = np.stack([np.bincount(place, weights=w) for w in (np.ones_like(y), y, y**2)])
        width = max(here.shape[1], sums.shape[1])
        sums = sum(np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in (sums, here))  # type: ignore[assignment]
    n = moments[0, 0]
    if not n:
        raise UserError(f"Neither gene of {'-'.join(pair)} occurs in these maps; choose another.")
    means = moments[:, 1] / n
    variances = np.maximum(moments[:, 2] / n - means**2, 0)
    spread = float(np.sqrt(variances.prod()))
    covariance = product / n - means.prod()
    used = np.flatnonzero(sums[0])
    count, total_y, squares = sums[:, used]
    mean = total_y / count
    table = pd.DataFrame(
        {
            "expression": (used + 0.5) * _WIDTH,
            "mean": mean,
            "std": np.sqrt(np.maximum(squares / count - mean**2, 0)),
            "bins": count.astype(np.int64),
        }
    )
    pearson = covariance / spread if spread > 1e-12 else float("nan")
    return Trend("-".join(pair), word, map, float(pearson), int(n), table)

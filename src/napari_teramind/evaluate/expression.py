"""Expression by structure and gene (Fig. 8e of the paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.attention.counts import SparseCounts
from napari_teramind.brain.bins import bin_labels, label_places, structure_table
from napari_teramind.errors import UserError
from napari_teramind.evaluate.tiles import cut

if TYPE_CHECKING:
    import pandas as pd

    from napari_teramind.brain import BrainStore

Report = Callable[[str, int, int], None]

_TILE = 256


def expression_by_structure(brain: BrainStore, report: Report | None = None) -> pd.DataFrame:
    """Mean of log2(count + 1) over the bins of every structure, gene by gene.

    Bins are read tile by tile and slice by slice: memory grows with structures times genes, not
    with the brain.

    Parameters
    ----------
    brain
        A brain with structures.
    report
        Progress callback.

    Returns
    -------
    DataFrame
        A row per structure (its descendants included) and gene: ``id``, ``acronym``, ``name``,
        ``gene``, ``mean_log2``, ``bins`` (those of the structure, empty ones included).

    Raises
    ------
    UserError
        If the brain has no structures, or its labels hold none of them.
    """
    import pandas as pd

    table, labels = structure_table(brain), bin_labels(brain)
    ids = np.array(sorted(table), np.int64)
    genes = brain.gene_names
    counts = SparseCounts(brain, genes, limit=0)  # every tile is read once
    depth, rows, columns = brain.genes.shape[1:]
    tiles = list(cut((0, rows, 0, columns), _TILE))
    # The last place is that of bins in no structure.
    bins = np.zeros(len(ids) + 1, np.int64)
    sums = np.zeros((len(ids) + 1, len(genes)))
    for z in range(depth):
        for k, tile in enumerate(tiles):
            if report is not None:
                report("Reading expression", z * len(tiles) + k, depth * len(tiles))
            place = label_places(ids, labels(tile, range(z, z + 1))[0], table.origin)
            bins += np.bincount(place.ravel(), minlength=bins.size)
            found = counts.read(tile, range(z, z + 1))
            at = place[found.y, found.x] * len(genes) + found.gene
            weights = np.log2(found.count.astype(np.float64) + 1)
            sums += np.bincount(at, weights, minlength=sums.size).reshape(sums.shape)
    shown = table.subset(ids[bins[:-1] > 0].tolist())
    if not len(shown):
        raise UserError(f"No bin of {brain.path} lies in a structure; import its structures again.")
    frames = []
    for structure in shown.values():
        inside = np.searchsorted(ids, sorted(table.within_id(structure.id)))
        total = int(bins[inside].sum())
        frames.append(
            pd.DataFrame(
                {
                    "id": structure.id,
                    "acronym": structure.acronym,
                    "name": structure.name,
                    "gene": genes,
                    "mean_log2": sums[inside].sum(axis=0) / total,
                    "bins": total,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)

"""All pairs of genes at once: the mean gene-gene map of every structure, streamed.

A patch's map is a block over the genes that occur in it and, for all the others, one row and one
column that repeat. With P the genes that occur, alpha_i = A[i, absent], beta_j = A[absent, j] and
gamma = A[absent, absent],

    A[i, j] = gamma + [i in P] (alpha_i - gamma) + [j in P] (beta_j - gamma)
              + [i, j in P] (A[i, j] - alpha_i - beta_j + gamma),

so that only blocks are added up, and the rest once for every structure at the end.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_teramind.atlas import StructureTable
from napari_teramind.attention.counts import PatchGrid, SparseCounts, Tokens
from napari_teramind.attention.pairs import check_pairs, window
from napari_teramind.attention.quantities import Atlas2D, brain_atlas
from napari_teramind.attention.rows import Queries, batches
from napari_teramind.attention.statistics import area_of
from napari_teramind.attention.tiles import region_of
from napari_teramind.attention.units import strips, unit_tokens
from napari_teramind.errors import UserError
from napari_teramind.simulate.readers import gene_panel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StructureMatrices:
    """Mean gene-gene maps (ensemble) of structures; every bin counts once.

    Attributes
    ----------
    genes : tuple of str
        The panel, in the order of rows and columns.
    ids : array of int
        Structures that bins are labelled with.
    bins : array of int
        Their bins.
    sums : array of float64, (structures, genes, genes)
        A summed over their bins.
    table : StructureTable
        The structures' tree.
    """

    genes: tuple[str, ...]
    ids: NDArray[np.int64]
    bins: NDArray[np.int64]
    sums: NDArray[np.float64]
    table: StructureTable

    def mean(self, acronym: str) -> NDArray[np.float64]:
        """Mean A over a structure and everything in it, (genes, genes); rows sum to 1.

        Raises
        ------
        UserError
            If there is no such structure, or no bin lies in it.
        """
        inside = self._inside(acronym)
        mean: NDArray[np.float64] = self.sums[inside].sum(axis=0) / self.bins[inside].sum()
        return mean

    def rest(self, acronym: str) -> NDArray[np.float64]:
        """Mean A over all structures but this one; NaN where there is nothing else."""
        outside = ~self._inside(acronym)
        count = self.bins[outside].sum()
        total: NDArray[np.float64] = self.sums[outside].sum(axis=0)
        return total / count if count else np.full_like(total, np.nan)

    def top(self, acronym: str, count: int | None = 20) -> pd.DataFrame:
        """Pairs that interact most in a structure.

        Parameters
        ----------
        acronym
            The structure.
        count
            How many pairs; all if None.

        Returns
        -------
        DataFrame
            ``gene_a``, ``gene_b``, ``A`` (A[a, b] + A[b, a], mean), ``rest`` (the same elsewhere)
            and ``enrichment``, the largest enrichment first.
        """
        import pandas as pd

        here, there = (m + m.T for m in (self.mean(acronym), self.rest(acronym)))
        a, b = np.triu_indices(len(self.genes), 1)
        values, rest = here[a, b], there[a, b]
        names = np.array(self.genes, object)
        frame = pd.DataFrame(
            {
                "gene_a": names[a],
                "gene_b": names[b],
                "A": values,
                "rest": rest,
                "enrichment": values / rest,
            }
        )
        frame = frame.sort_values("enrichment", ascending=False, kind="stable", na_position="last")
        return (frame if count is None else frame.head(count)).reset_index(drop=True)

    def where(self, pair: Sequence[str]) -> pd.DataFrame:
        """Structures in which a pair stands out.

        Returns
        -------
        DataFrame
            A row per area: ``acronym``, ``name``, ``bins``, ``A``, ``rest``, ``enrichment``, the
            largest enrichment first.

        Raises
        ------
        UserError
            If a gene is not in the panel.
        """
        import pandas as pd

        ((first, second),) = check_pairs([pair], self.genes)
        a, b = self.genes.index(first), self.genes.index(second)
        sums = self.sums[:, a, b] + self.sums[:, b, a]
        rows = []
        for structure in self._areas():
            inside = np.isin(self.ids, list(self.table.within_id(structure)))
            bins, others = int(self.bins[inside].sum()), int(self.bins[~inside].sum())
            rest = sums[~inside].sum() / others if others else np.nan
            value = sums[inside].sum() / bins
            entry = self.table[structure]
            rows.append((entry.acronym, entry.name, bins, value, rest, value / rest))
        columns = ["acronym", "name", "bins", "A", "rest", "enrichment"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.sort_values("enrichment", ascending=False).reset_index(drop=True)

    def frame(self, count: int | None = 100) -> pd.DataFrame:
        """Top pairs of every area, as `top` gives them, with a column ``acronym``."""
        import pandas as pd

        parts = []
        for structure in self._areas():
            acronym = self.table[structure].acronym
            part = self.top(acronym, count)
            part.insert(0, "acronym", acronym)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write everything to an ``.npz`` file, which NumPy reads without pickle."""
        from napari_teramind.brain.export import check_target, staged

        path = Path(path)
        check_target(path, overwrite, (".npz",))
        rows = self.table.rows()
        with staged(path) as partial:
            np.savez_compressed(
                partial,
                genes=np.array(self.genes),
                ids=self.ids,
                bins=self.bins,
                sums=self.sums.astype(np.float32),
                structure_ids=np.array([row["id"] for row in rows]),
                acronyms=np.array([row["acronym"] for row in rows]),
                names=np.array([row["name"] for row in rows]),
            )
        return path

    def _areas(self) -> list[int]:
        return list(dict.fromkeys(area_of(self.table, int(i)).id for i in self.ids))

    def _inside(self, acronym: str) -> NDArray[np.bool_]:
        inside = np.isin(self.ids, list(self.table.within(acronym)))
        if not inside.any():
            raise UserError(
                f"No bin of the region lies in {acronym}; choose another structure or region."
            )
        return inside


@dataclass
class _Sums:
    """Sums of one structure, in the four parts of the module's formula."""

    block: Tensor
    rows: Tensor
    columns: Tensor
    absent: float = 0.0
    bins: int = 0

    def total(self) -> NDArray[np.float64]:
        full = self.block + self.rows[:, None] + self.columns[None, :] + self.absent
        return full.cpu().numpy()


@dataclass
class _Accumulator:
    model: TeraMind
    genes: int
    queries: Queries = field(init=False)
    sums: dict[int, _Sums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        slices = self.model.config.gene_slices
        self.queries = Queries(self.model, [window("ensemble", 0, slices)])

    def of(self, structure: int) -> _Sums:
        if structure not in self.sums:
            # MPS has no float64; sums there are made in float32.
            kind = torch.float32 if self.model.device.type == "mps" else torch.float64
            device, n = self.model.device, self.genes
            self.sums[structure] = _Sums(
                torch.zeros(n, n, dtype=kind, device=device),
                torch.zeros(n, dtype=kind, device=device),
                torch.zeros(n, dtype=kind, device=device),
            )
        return self.sums[structure]

    @torch.inference_mode()
    def add(self, tokens: Tokens, weights: NDArray[np.int64], structures: list[int]) -> None:
        """Add patches, each to its structures with their number of bins.

        Parameters
        ----------
        tokens
            Counts of the patches.
        weights
            (patches, structures), bins.
        structures
            Ids.
        """
        counts = np.bincount(tokens.patch, minlength=tokens.patches)
        starts = np.concatenate([[0], np.cumsum(counts)])
        wanted = np.flatnonzero(weights.any(axis=1))
        absent = len(tokens.patch)
        owner = np.append(tokens.gene, 0)
        for members, most in batches(counts[wanted], 1):
            # Blocks are K x K: no more patches at once than keep them small.
            for start in range(0, len(members), _blocks_at_once(most)):
                patches = wanted[members[start : start + _blocks_at_once(most)]]
                columns = np.arange(most)
                inside = columns < counts[patches, None]
                chosen = np.where(inside, starts[patches, None] + columns, absent)
                chosen = np.append(chosen, np.full((len(patches), 1), absent), axis=1)
                self._add(tokens, chosen, owner[chosen[:, :-1]], weights[patches], structures)

    def _add(
        self,
        tokens: Tokens,
        chosen: NDArray[np.int64],
        genes: NDArray[np.int64],
        weights: NDArray[np.int64],
        structures: list[int],
    ) -> None:
        device, n = self.model.device, self.genes
        values = torch.from_numpy(tokens.data[chosen]).to(device, self.model.dtype)
        (q,) = self.queries(values)
        logits = (q @ q.mT / self.queries.width).float()
        repeated = torch.zeros(logits.shape[-1], device=device)
        # The last token stands for every gene that has no token of its own here.
        rest = n - (chosen.shape[1] - 1)
        repeated[-1] = math.log(rest) if rest else -math.inf
        a = torch.exp(logits - torch.logsumexp(logits + repeated, dim=-1, keepdim=True))
        gamma = a[:, -1, -1]
        alpha, beta = a[:, :-1, -1], a[:, -1, :-1]
        block = a[:, :-1, :-1] - alpha[:, :, None] - beta[:, None, :] + gamma[:, None, None]
        place = torch.from_numpy(genes).to(device)
        cells = place[:, :, None] * n + place[:, None, :]
        for k, structure in enumerate(structures):
            at = np.flatnonzero(weights[:, k])
            if not len(at):
                continue
            sums = self.of(structure)
            here = torch.from_numpy(at).to(device)
            w = torch.from_numpy(weights[at, k]).to(device, sums.rows.dtype)
            flat = (block[here] * w[:, None, None]).to(sums.rows.dtype).flatten()
            sums.block.view(-1).index_add_(0, cells[here].flatten(), flat)
            for target, part in ((sums.rows, alpha), (sums.columns, beta)):
                change = (part[here] - gamma[here, None]).to(w.dtype) * w[:, None]
                target.index_add_(0, place[here].flatten(), change.flatten())
            sums.absent += float((gamma[here].to(w.dtype) * w).sum())
            sums.bins += int(weights[at, k].sum())


def _blocks_at_once(most: int) -> int:
    return max(1, 2_000_000 // (most + 1) ** 2)


def structure_matrices(
    brain: BrainStore,
    model: TeraMind,
    roi: tuple[int, int, int, int] | None = None,
    slices: tuple[int, int] | None = None,
    structures: Sequence[str] | None = None,
    atlas: Atlas2D | None = None,
    report: Report | None = None,
) -> StructureMatrices:
    """Mean gene-gene map of every structure: all pairs at once.

    Parameters
    ----------
    brain, model
        The brain and the network.
    roi, slices
        As for :func:`napari_teramind.attention`.
    structures
        Acronyms of those wanted; all if None.
    atlas
        Structures on the brain's bins; its own labels if None.
    report
        Progress callback.

    Raises
    ------
    UserError
        If a gene or structure is not to be had, or no bin lies in any structure.
    """
    panel = gene_panel(brain, model)
    region = region_of(brain, roi, slices)
    atlas = brain_atlas(brain) if atlas is None else atlas
    counts = SparseCounts(brain, panel)
    ids = None
    if structures is not None:
        within = [atlas.table.within(acronym) for acronym in structures]
        ids = np.fromiter(sorted(set().union(*within)), np.int64)
    accumulator = _Accumulator(model, len(panel))
    units = list(region.units(model.config.image_slices))
    for done, unit in enumerate(units):
        if report is not None:
            report("Adding up gene-gene maps", done, len(units))
        labels = np.asarray(atlas.labels(unit.box, unit.slices))
        if ids is not None:
            labels = np.where(np.isin(labels, ids), labels, 0)
        if not labels.any():
            continue
        for strip in strips(unit, model.config.bins):
            rows = slice(strip.box[0] - unit.box[0], strip.box[1] - unit.box[0])
            if labels[:, rows].any():
                grid, tokens = unit_tokens(counts, model, strip)
                accumulator.add(tokens, *_bins_by_patch(grid, labels[:, rows]))
    if not accumulator.sums:
        raise UserError("No bin of the region lies in any of the structures; choose others.")
    order = sorted(accumulator.sums)
    return StructureMatrices(
        panel,
        np.array(order),
        np.array([accumulator.sums[i].bins for i in order]),
        np.stack([accumulator.sums[i].total() for i in order]),
        atlas.table,
    )


def _bins_by_patch(
    grid: PatchGrid, labels: NDArray[np.integer]
) -> tuple[NDArray[np.int64], list[int]]:
    """Bins of every structure in every patch, (patches, structures), and the structures' ids."""
    y0, _, x0, _ = grid.covered
    z, y, x = np.nonzero(labels)
    ids, which = np.unique(labels[z, y, x], return_inverse=True)
    rows, columns = grid.shape
    patch = (y + grid.box[0] - y0) // grid.bins * columns + (x + grid.box[2] - x0) // grid.bins
    size = rows * columns * len(ids)
    weights = np.bincount(patch * len(ids) + which, minlength=size)
    return weights.reshape(rows * columns, len(ids)), [int(i) for i in ids]

"""Entries of the softmaxed gene-gene map, from no more of it than they need.

A = softmax(q q^T / d) over the n genes of a patch (DESIGN section 2). The entries of a pair need
two rows of logits; the full map is never made. Of the n tokens of a patch most are all zeros, and
these have one and the same query q0: a row's normaliser is

    Z_a = sum over tokens with counts exp(q_a q_j / d) + (number of others) exp(q_a q0 / d),

which is exact. Patches are batched with as many tokens as the fullest of them has; what fills the
others up are tokens of zeros, which each of them has anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_teramind.attention.counts import Tokens
from napari_teramind.model.network import TeraMind

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENS_AT_ONCE = 2048
"""Tokens in a batch: bounds memory, whatever the number of genes and patches."""


class Queries:
    """Normed queries of tokens, for several windows of slices at once.

    The projection is linear, so that it is made slice by slice once, and summed for every window.

    Parameters
    ----------
    model
        The network.
    windows
        Gene slices that each map sees.
    """

    def __init__(self, model: TeraMind, windows: Sequence[tuple[int, ...]]) -> None:
        self._block = model.genes.gene_gene
        self._slices = model.config.gene_slices
        self._windows = list(windows)
        self.device, self.dtype = model.device, model.dtype
        self.width = self._block.q.weight.shape[0]

    def __call__(self, values: Tensor) -> list[Tensor]:
        """Map counts (..., S, b b) to queries (..., d), one tensor a window."""
        weight, bias = self._block.q.weight, self._block.q.bias
        lead = values.shape[:-2]
        flat = values.reshape(-1, *values.shape[-2:])
        if self._windows == [tuple(range(self._slices))]:
            return [self._block.queries(flat.flatten(1)).reshape(*lead, -1)]
        by_slice = weight.view(self.width, self._slices, -1).permute(1, 2, 0)
        parts = flat.transpose(0, 1) @ by_slice  # (S, N, d)
        return [
            self._block.q_norm(sum((parts[z] for z in window), bias)).reshape(*lead, -1)
            for window in self._windows
        ]


def batches(others: NDArray[np.int64], always: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Cut patches into batches of patches with about as many tokens.

    Parameters
    ----------
    others
        Tokens of every patch, without those that every patch has.
    always
        Number of the latter.

    Yields
    ------
    tuple
        Patches, and how many other tokens each is to have in the batch.
    """
    order = np.argsort(-others, kind="stable")
    start = 0
    while start < len(order):
        most = int(others[order[start]])
        count = max(1, TOKENS_AT_ONCE // (most + always))
        yield order[start : start + count], most
        start += count


@torch.inference_mode()
def pair_entries(
    model: TeraMind,
    tokens: Tokens,
    pairs: Sequence[tuple[int, int]],
    windows: Sequence[tuple[int, ...]],
) -> NDArray[np.float32]:
    """Entries a->a, a->b, b->a, b->b of A for pairs of genes, in every patch.

    Parameters
    ----------
    model
        The network.
    tokens
        Counts of the patches.
    pairs
        Places of two genes in the panel.
    windows
        Gene slices that each map sees; the others count as zero.

    Returns
    -------
    array of float32, (windows, pairs, 2, 2, patches)
        ``[w, k, i, j]`` is row i (0: a, 1: b), column j. Rows of A sum to 1 over all genes.
    """
    n = tokens.genes
    genes = sorted({gene for pair in pairs for gene in pair})
    place = {gene: i for i, gene in enumerate(genes)}
    rows = torch.tensor([[place[a], place[b]] for a, b in pairs], device=model.device)
    queries = Queries(model, windows)
    # A patch without counts is uniform: all its tokens are alike.
    out = np.full((len(windows), len(pairs), 2, 2, tokens.patches), 1 / n, np.float32)
    index = tokens.index[:, genes]
    other = ~np.isin(tokens.gene, genes)
    counts = np.bincount(tokens.patch[other], minlength=tokens.patches)
    starts = np.concatenate([[0], np.cumsum(counts)])
    listed = np.append(np.flatnonzero(other), len(tokens.patch))
    filled = np.flatnonzero(np.bincount(tokens.patch, minlength=tokens.patches))
    zero = torch.zeros(1, *tokens.data.shape[1:], device=model.device, dtype=model.dtype)
    for members, most in batches(counts[filled], len(genes)):
        patches = filled[members]
        columns = np.arange(most)
        where = np.where(
            columns < counts[patches, None], starts[patches, None] + columns, len(listed) - 1
        )
        chosen = np.concatenate([index[patches], listed[where]], axis=1)
        values = torch.from_numpy(tokens.data[chosen]).to(model.device, model.dtype)
        rest = n - chosen.shape[1]
        for w, (q, q0) in enumerate(zip(queries(values), queries(zero), strict=True)):
            logits = q[:, : len(genes)] @ q.mT / queries.width
            total = torch.logsumexp(logits.float(), dim=-1)
            if rest:
                alike = (q[:, : len(genes)] @ q0[0] / queries.width).float()
                total = torch.logaddexp(total, alike + math.log(rest))
            block = logits[:, rows[:, :, None], rows[:, None, :]].float()  # (B, pairs, 2, 2)
            entries = torch.exp(block - total[:, rows][..., None])
            out[w][..., patches] = entries.permute(1, 2, 3, 0).cpu().numpy()
    return out

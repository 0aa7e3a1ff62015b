"""What a wavefront reads from a brain: counts of the network's panel, and noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_teramind.diffusion.noise import noise_field
from napari_teramind.errors import UserError
from napari_teramind.model.network import TeraMind
from napari_teramind.simulate.region import PatchBox

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import ModelConfig
    from napari_teramind.simulate.edits import Edits

_AT_ONCE = 8
"""Patch rows of genes read from the store at a time: reading re-reads whole chunks."""


def gene_panel(brain: BrainStore, model: TeraMind) -> tuple[str, ...]:
    """Return the brain's genes in the order of the network's panel.

    Raises
    ------
    UserError
        If the brain lacks a gene of the panel, or if weights without a panel cannot be matched.
    """
    if model.gene_names is not None:
        missing = [gene for gene in model.gene_names if gene not in set(brain.gene_names)]
        if missing:
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise UserError(
                f"The brain lacks {len(missing)} of the checkpoint's {model.config.genes} genes "
                f"({listed}); choose a checkpoint trained on this panel."
            )
        return model.gene_names
    if len(brain.gene_names) != model.config.genes:
        raise UserError(
            f"The checkpoint names no genes and takes {model.config.genes}, but the brain has "
            f"{len(brain.gene_names)}; give the checkpoint's gene list."
        )
    warnings.warn(
        "The checkpoint names no genes; the brain's genes are taken in their order.", stacklevel=3
    )
    return tuple(brain.gene_names)


def gene_slices(config: ModelConfig, first: int) -> tuple[int, int]:
    """Slices of genes that condition the slice group at ``first``; may reach beyond the stack."""
    return first - config.gene_margin, first - config.gene_margin + config.gene_slices


def gene_reader(
    brain: BrainStore,
    model: TeraMind,
    panel: tuple[str, ...],
    first: int,
    edits: Edits | None = None,
) -> Callable[[PatchBox], Tensor]:
    """Return a reader of the counts, edited, that condition the slice group at ``first``."""
    c = model.config
    b = c.bins
    slices = gene_slices(c, first)

    @lru_cache(maxsize=2)
    def rows(block: int, left: int, right: int) -> Tensor:
        y0 = block * _AT_ONCE * b - b // 2
        bins = (y0, y0 + _AT_ONCE * b, left * b - b // 2, right * b - b // 2)
        counts = brain.read_genes(bins, slices, panel)
        if edits is not None:
            edits.apply(counts, bins, slices)
        return torch.from_numpy(counts)

    columns = [0, 0]

    def read(box: PatchBox) -> Tensor:
        # Rows of tissue differ in width: read the widest seen, so that a block serves them all.
        if columns[0] == columns[1]:
            columns[:] = box.left, box.right
        columns[:] = min(columns[0], box.left), max(columns[1], box.right)
        left, right = columns
        parts = []
        for row in range(box.top, box.bottom):
            block, offset = divmod(row, _AT_ONCE)
            strip = rows(block, left, right)[:, :, offset * b : (offset + 1) * b]
            parts.append(strip[..., (box.left - left) * b : (box.right - left) * b])
        return torch.cat(parts, dim=2)

    return read


def noise_reader(
    brain: BrainStore, model: TeraMind, kind: str, seed: int, first: int
) -> Callable[[PatchBox], Tensor]:
    """Return a reader of a slice group's noise."""
    c = model.config

    def read(box: PatchBox) -> Tensor:
        slices = range(first, first + c.image_slices)
        pixels = box.pixels(c.patch)
        return torch.from_numpy(noise_field(kind, seed, c.stains, slices, pixels, brain.shape[0]))

    return read

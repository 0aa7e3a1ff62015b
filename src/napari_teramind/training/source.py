"""Blocks of brain stores to draw samples from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.errors import UserError
from napari_teramind.model.config import BIN, ModelConfig
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.samples import Block, Sample, allowed_corners, draw

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

BLOCK_PX = 1024
"""Side of a block in px: reading one reads each gene's chunks once for many crops."""

BLOCKS = 4
"""Blocks held at a time."""

DRAWS = 32
"""Crops drawn from a block before it is replaced."""


def common_panel(brains: Sequence[BrainStore], genes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the panel: ``genes``, or all genes that the brains share, in the first one's order.

    Raises
    ------
    UserError
        If a brain lacks a gene of the panel, or the brains share none.
    """
    if not brains:
        raise UserError("Training needs at least one brain; give the path of a brain store.")
    if genes is None:
        shared = set.intersection(*(set(brain.gene_names) for brain in brains))
        panel = tuple(gene for gene in brains[0].gene_names if gene in shared)
        if not panel:
            raise UserError("The brains have no gene in common; train on brains of one panel.")
        return panel
    for brain in brains:
        missing = [gene for gene in genes if gene not in set(brain.gene_names)]
        if missing:
            raise UserError(
                f"The brain at {brain.path} has no gene '{missing[0]}'; "
                "train on the genes that all brains have."
            )
    return tuple(genes)


class SampleSource:
    """Samples from one or several brains, the same for a number whatever was drawn before.

    Parameters
    ----------
    brains
        Stores with the same stains.
    panel
        Gene symbols, in the order of the network's gene axis.
    config
        Shape of the network.
    train
        Crop size, held-out field, seed.
    """

    def __init__(
        self,
        brains: Sequence[BrainStore],
        panel: tuple[str, ...],
        config: ModelConfig,
        train: TrainConfig,
    ) -> None:
        self.brains = brains
        self.panel = panel
        self.config = config
        self.train = train
        self._generation = -1
        self._blocks: list[Block] = []
        for brain in brains:
            if min(brain.shape[1:]) // BIN < train.crop_bins:
                raise UserError(
                    f"The brain at {brain.path} is smaller than a training crop of "
                    f"{train.crop_px} px; use a smaller crop or patch."
                )

    def __getitem__(self, number: int) -> Sample:
        """Draw sample ``number``."""
        generation = number // (BLOCKS * DRAWS)
        if generation != self._generation:
            first = generation * BLOCKS
            self._blocks = [self._read(first + k) for k in range(BLOCKS)]
            self._generation = generation
        rng = np.random.default_rng([self.train.seed, 1, number])
        return draw(self._blocks[number % BLOCKS], self.config, self.train.crop_px, rng)

    def _read(self, number: int) -> Block:
        """Read block ``number``: a random place of a random brain that allows a crop."""
        rng = np.random.default_rng([self.train.seed, 0, number])
        for _ in range(200):
            brain = self.brains[int(rng.integers(len(self.brains)))]
            block = self._try(brain, rng)
            if block is not None:
                return block
        raise UserError(
            f"No training crop of {self.train.crop_px} px fits on the tissue outside the held-out "
            "field; use a smaller crop or field."
        )

    def _try(self, brain: BrainStore, rng: np.random.Generator) -> Block | None:
        """Read a block at a random place, or None if no crop may be drawn there."""
        c = self.config
        depth, height, width = brain.shape
        z = int(rng.integers(max(1, depth - c.image_slices + 1)))
        side = min(BLOCK_PX // BIN, height // BIN, width // BIN)
        y0 = int(rng.integers(height // BIN - side + 1))
        x0 = int(rng.integers(width // BIN - side + 1))
        box = (y0, y0 + side, x0, x0 + side)
        corners = allowed_corners(
            box, self.train.crop_bins, self.train.exclude, tissue_at(brain, box, z)
        )
        if not len(corners):
            return None
        pixels = (BIN * box[0], BIN * box[1], BIN * box[2], BIN * box[3])
        stains = brain.read_stains(pixels, (z, min(depth, z + c.image_slices)))
        short = c.image_slices - stains.shape[1]
        if short:
            stains = np.pad(stains, ((0, 0), (0, short), (0, 0), (0, 0)))
        first = z - c.gene_margin
        genes = brain.read_genes(box, (first, first + c.gene_slices), self.panel)
        return Block(stains, genes, corners)


def tissue_at(brain: BrainStore, box: tuple[int, int, int, int], z: int) -> np.ndarray | None:
    """Return where a box of bins of a slice is tissue; None where the brain has no mask."""
    if brain.tissue is None:
        return None
    level = brain.tissue.levels[0]
    scale = brain.tissue.scale(0)[-1] / (BIN * brain.pixel_size)
    ys = np.minimum(((np.arange(box[0], box[1]) + 0.5) / scale).astype(int), level.shape[-2] - 1)
    xs = np.minimum(((np.arange(box[2], box[3]) + 0.5) / scale).astype(int), level.shape[-1] - 1)
    mask = np.asarray(level[z, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]) > 0
    return np.asarray(mask[ys - ys[0]][:, xs - xs[0]])

"""Which samples there are: blocks of brain stores, and the crops drawn from them, by number.

Reading a gene decodes a chunk of 4096 x 4096 px whatever the size of the crop, so a *block* of
1024 px is read at once and many crops are drawn from it. A batch mixes the blocks of up to eight
*streams*; each stream replaces its block after ``DRAWS`` crops, the streams in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.errors import UserError
from napari_teramind.model.config import BIN, ModelConfig
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.samples import Block, Sample, allowed_corners, draw

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

BLOCK_PX = 1024
"""Side of a block in px."""

STREAMS = 8
"""Blocks that a batch is drawn from, if it has as many samples."""

DRAWS = 32
"""Crops drawn from a block before it is replaced."""

BlockKey = tuple[int, int]
"""Stream, and number of the block in it."""


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

    Sample ``n`` is the one in slot ``n % batch`` of evaluation ``n // batch``.

    Parameters
    ----------
    brains
        Stores with the same stains.
    panel
        Gene symbols, in the order of the network's gene axis.
    config
        Shape of the network.
    train
        Crop size, held-out field, batch, seed.
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
        self._held: dict[int, tuple[int, Block]] = {}
        for brain in brains:
            if min(brain.shape[1:]) // BIN < train.crop_bins:
                raise UserError(
                    f"The brain at {brain.path} is smaller than a training crop of "
                    f"{train.crop_px} px; use a smaller crop or patch."
                )

    def block_key(self, number: int) -> BlockKey:
        """Return which block sample ``number`` is drawn from."""
        evaluation, slot = divmod(number, self.train.batch)
        streams = min(STREAMS, self.train.batch)
        stream = slot % streams
        slots = len(range(stream, self.train.batch, streams))
        drawn = evaluation * slots + slot // streams
        # Streams replace their blocks in turn, so that reading is spread evenly.
        return stream, (drawn + stream * DRAWS // streams) // DRAWS

    def draw(self, number: int, block: Block) -> Sample:
        """Draw sample ``number`` from its block."""
        rng = np.random.default_rng([self.train.seed, 1, number])
        return draw(block, self.config, self.train.crop_px, rng, self.train.block)

    def __getitem__(self, number: int) -> Sample:
        """Return sample ``number``, reading its block if it is not the stream's last one."""
        key = self.block_key(number)
        stream, index = key
        if self._held.get(stream, (None,))[0] != index:
            self._held[stream] = index, self.read(key)
        return self.draw(number, self._held[stream][1])

    def read(self, key: BlockKey) -> Block:
        """Read a block: a random place of a random brain that allows a crop."""
        rng = np.random.default_rng([self.train.seed, 0, *key])
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
        depth, height, width = brain.shape
        z = int(rng.integers(max(1, depth - self.config.image_slices + 1)))
        side = min(BLOCK_PX // BIN, height // BIN, width // BIN)
        y0 = int(rng.integers(height // BIN - side + 1))
        x0 = int(rng.integers(width // BIN - side + 1))
        box = (y0, y0 + side, x0, x0 + side)
        corners = allowed_corners(
            box, self.train.crop_bins, self.train.exclude, tissue_at(brain, box, z)
        )
        if not len(corners):
            return None
        return read_block(brain, box, z, self.panel, self.config, corners)


def read_block(
    brain: BrainStore,
    box: tuple[int, int, int, int],
    z: int,
    panel: tuple[str, ...],
    config: ModelConfig,
    corners: np.ndarray,
) -> Block:
    """Read images and gene window of a place.

    Parameters
    ----------
    brain
        The store.
    box
        (y0, y1, x0, x1) in bins, within the brain.
    z
        First image slice; slices beyond the brain are empty.
    panel, config, corners
        As in :class:`SampleSource` and :class:`~napari_teramind.training.samples.Block`.
    """
    last = min(brain.shape[0], z + config.image_slices)
    pixels = (BIN * box[0], BIN * box[1], BIN * box[2], BIN * box[3])
    stains = brain.read_stains(pixels, (z, last))
    short = config.image_slices - stains.shape[1]
    if short:
        stains = np.pad(stains, ((0, 0), (0, short), (0, 0), (0, 0)))
    first = z - config.gene_margin
    genes = brain.read_genes(box, (first, first + config.gene_slices), panel)
    # The store's own type, which holds its counts exactly, takes half the memory.
    return Block(stains, genes.astype(brain.genes.levels[0].dtype), corners)


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


def same_store(one: str, other: str) -> bool:
    """Whether two paths or addresses are of one store."""
    if "://" in one or "://" in other:
        return one == other
    return Path(one).resolve() == Path(other).resolve()

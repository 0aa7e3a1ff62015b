"""How good a network in training is, on tissue that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_teramind.errors import UserError
from napari_teramind.model.config import BIN, ModelConfig
from napari_teramind.model.network import TeraMind
from napari_teramind.simulate import sample
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.loss import Batch, diffuse, losses
from napari_teramind.training.samples import Sample, allowed_corners, draw
from napari_teramind.training.source import BLOCK_PX, read_block, tissue_at

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

Bins = tuple[int, int, int, int]

BLOCKS = 4
"""Places from which the validation crops are drawn."""
SLICE_TRIES = 16
GAP = 4
"""White pixels between the images of a picture."""


@dataclass(frozen=True)
class Field:
    """A held-out part of a brain: a box of bins in every slice."""

    brain: BrainStore
    bins: Bins

    @property
    def side(self) -> int:
        """Smaller side in px."""
        y0, y1, x0, x1 = self.bins
        return BIN * min(y1 - y0, x1 - x0)


@dataclass(frozen=True)
class Picture:
    """A generated field beside the real one.

    Attributes
    ----------
    image
        (y, x) uint8: a row a stain, real on the left, generated on the right, first slice.
    scores
        ``psnr`` (dB) and ``ssim`` of every stain over all slices, by names such as ``psnr DAPI``.
    """

    image: np.ndarray
    scores: dict[str, float]


def held_out_fields(
    brains: Sequence[BrainStore], validation: Sequence[BrainStore], config: TrainConfig
) -> list[Field]:
    """Return what is held out: whole validation brains, and the excluded field of the others.

    Raises
    ------
    UserError
        If something that is held out cannot hold a patch.
    """
    fields = [Field(b, (0, b.shape[1] // BIN, 0, b.shape[2] // BIN)) for b in validation]
    if config.exclude is not None:
        y0, y1, x0, x1 = config.exclude
        for brain in brains:
            height, width = brain.shape[1:]
            if y0 >= height or x0 >= width:
                raise UserError(
                    f"The field to hold out, {y0},{y1},{x0},{x1}, lies outside {brain.path}, which "
                    f"has {height:,} x {width:,} px; choose one within it."
                )
            bottom, right = min(y1, height) // BIN, min(x1, width) // BIN
            fields.append(Field(brain, (-(-y0 // BIN), bottom, -(-x0 // BIN), right)))
    for field in fields:
        if field.side < config.patch:
            raise UserError(
                f"What is held out of {field.brain.path} is smaller than a patch of "
                f"{config.patch} px; hold out a larger field that lies within the brain."
            )
    return fields


class Validator:
    """Measures networks on the same crops, noise and times every time.

    Parameters
    ----------
    fields
        From :func:`held_out_fields`; must not be empty. Read when first needed.
    panel, shape
        Genes and shape of the network.
    config
        Settings of the run.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        panel: tuple[str, ...],
        shape: ModelConfig,
        config: TrainConfig,
    ) -> None:
        self._fields = fields
        self._panel = panel
        self._shape = shape
        self._config = config
        self._batches: list[Batch] | None = None
        self._scene: tuple[np.ndarray, torch.Tensor] | None = None

    @torch.no_grad()
    def loss(self, model: TeraMind) -> tuple[float, float]:
        """Return the two terms of the loss, the mean over all validation crops."""
        if self._batches is None:
            self._batches = self._make_batches()
        total = torch.zeros(2, dtype=torch.float64)
        count = 0
        with evaluating(model):
            for batch in self._batches:
                size = len(batch.t)
                parts = (batch.noisy, batch.target, batch.genes, batch.mask, batch.t)
                there = Batch(*(part.to(model.device) for part in parts))
                total += size * torch.stack(losses(model, there)).double().cpu()
                count += size
        collage, shifted = (total / count).tolist()
        return collage, shifted

    def picture(self, model: TeraMind, stains: Sequence[str]) -> Picture:
        """Generate the scene, always from the same noise, and compare it with the real one."""
        if self._scene is None:
            self._scene = self._read_scene()
        real, genes = self._scene
        generator = torch.Generator().manual_seed(self._config.seed)
        noise = torch.randn(real.shape, generator=generator)
        with evaluating(model):
            field = sample(
                model, noise.to(model.device), genes.to(model.device), self._config.sample_steps
            )
        made = ((field.cpu().numpy() + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return Picture(_side_by_side(real[:, 0], made[:, 0]), _scores(real, made, stains))

    def _make_batches(self) -> list[Batch]:
        c, n = self._config, self._config.validation_crops
        places = min(BLOCKS, n)
        samples = [s for k in range(places) for s in self._samples(k, len(range(k, n, places)))]
        # Times are spread evenly, so that the loss of a few crops means something.
        t = torch.tensor([int((k + 0.5) * 1000 / n) for k in range(n)])
        t = t[torch.randperm(n, generator=torch.Generator().manual_seed(c.seed))]
        clean, genes, mask = (
            torch.from_numpy(np.stack([getattr(s, name) for s in samples]))
            for name in ("clean", "genes", "mask")
        )
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(c.seed + 1))
        size = max(1, c.batch // c.processes)
        return [
            diffuse(clean[at], genes[at], mask[at, None, None], t[at], noise[at], c.prediction)
            for at in (slice(first, first + size) for first in range(0, n, size))
        ]

    def _samples(self, place: int, count: int) -> list[Sample]:
        """Draw crops from one place of the held-out fields."""
        c = self._config
        rng = np.random.default_rng([c.seed, 2, place])
        field = self._fields[place % len(self._fields)]
        crop = min(c.crop_px, field.side // c.patch * c.patch)
        top, left, z = self._place(field, min(BLOCK_PX, field.side) // BIN, rng)
        side = min(BLOCK_PX, field.side) // BIN
        box = (top, top + side, left, left + side)
        corners = allowed_corners(box, crop // BIN, None, tissue_at(field.brain, box, z))
        if not len(corners):  # a field beside the tissue is measured all the same
            corners = allowed_corners(box, crop // BIN, None)
        block = read_block(field.brain, box, z, self._panel, self._shape, corners)
        return [draw(block, self._shape, crop, rng) for _ in range(count)]

    def _place(self, field: Field, side: int, rng: np.random.Generator) -> tuple[int, int, int]:
        """Choose bins (top, left) and first slice of a square in a field that is full of tissue."""
        y0, y1, x0, x1 = field.bins
        m = self._shape.image_slices
        found = []
        for _ in range(SLICE_TRIES):
            z = m * int(rng.integers(max(1, field.brain.shape[0] // m)))
            top = int(rng.integers(y0, y1 - side + 1))
            left = int(rng.integers(x0, x1 - side + 1))
            tissue = tissue_at(field.brain, (top, top + side, left, left + side), z)
            found.append((1.0 if tissue is None else float(tissue.mean()), (top, left, z)))
        return max(found)[1]

    def _read_scene(self) -> tuple[np.ndarray, torch.Tensor]:
        """Return real stains (stains, M, y, x) and genes with half a patch around them."""
        c, field = self._config, self._fields[0]
        side = min(c.sample_px, field.side) // c.patch * c.patch
        rng = np.random.default_rng([c.seed, 3])
        top, left, z = self._place(field, side // BIN, rng)
        box = (top, top + side // BIN, left, left + side // BIN)
        block = read_block(field.brain, box, z, self._panel, self._shape, np.empty((0, 2), int))
        half, first = c.patch // 2 // BIN, z - self._shape.gene_margin
        around = (box[0] - half, box[1] + half, box[2] - half, box[3] + half)
        window = (first, first + self._shape.gene_slices)
        genes = field.brain.read_genes(around, window, self._panel)
        return block.stains, torch.from_numpy(genes)


class evaluating:  # reads as what it is: a context
    """Put a network into evaluation mode for a while."""

    def __init__(self, model: TeraMind) -> None:
        self._model, self._training = model, model.training

    def __enter__(self) -> None:
        self._model.eval()

    def __exit__(self, *_: object) -> None:
        self._model.train(self._training)


def _side_by_side(real: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return a row a stain: real, a gap, generated."""
    stains, height, width = real.shape
    image = np.full((stains * (height + GAP) - GAP, 2 * width + GAP), 255, np.uint8)
    for k in range(stains):
        rows = slice(k * (height + GAP), k * (height + GAP) + height)
        image[rows, :width], image[rows, width + GAP :] = real[k], made[k]
    return image


def _scores(real: np.ndarray, made: np.ndarray, stains: Sequence[str]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for k, stain in enumerate(stains):
        # Of equal images the ratio has no bound, and a table wants a number.
        same = np.array_equal(real[k], made[k])
        psnr = 100.0 if same else peak_signal_noise_ratio(real[k], made[k], data_range=255)
        ssim = np.mean(
            [
                structural_similarity(a, b, data_range=255)
                for a, b in zip(real[k], made[k], strict=True)
            ]
        )
        scores |= {f"psnr {stain}": float(psnr), f"ssim {stain}": float(ssim)}
    return scores

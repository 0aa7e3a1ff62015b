"""The same network and the same field for both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from napari_teramind.brain import BrainStore, BrainWriter, open_brain
from napari_teramind.diffusion.noise import noise_field
from napari_teramind.model import ModelConfig, TeraMind, save_model

RATE = 0.1
"""Mean transcripts per bin and gene; genes differ by a lognormal factor."""


def random_network(config: ModelConfig, seed: int) -> TeraMind:
    """Make a network without a zero weight.

    Kernels and matrices are drawn from N(0, 1 / fan-in), norms' weights from N(1, 0.2^2), biases
    from N(0, 0.2^2), those too that start at zero in training.
    """
    model = TeraMind(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                draw /= parameter[0].numel() ** 0.5
            else:
                draw = 0.2 * draw + (0.0 if name.endswith("bias") else 1.0)
            # Among millions of draws a few are zero.
            parameter.copy_(draw.where(draw != 0, torch.tensor(0.01)))
    return model


def make_world(folder: Path, config: ModelConfig, height: int, width: int, seed: int) -> None:
    """Write ``network.safetensors`` and ``brain.zarr``, a brain of one slice group."""
    rng = np.random.default_rng(seed)
    symbols = tuple(f"G{i:03}" for i in range(config.genes))
    model = random_network(config, seed)
    model.gene_names = symbols
    save_model(model, folder / "network.safetensors")
    writer = BrainWriter.create(
        folder / "brain.zarr",
        name="benchmark",
        shape=(config.image_slices, height, width),
        genes=symbols,
    )
    abundance = rng.lognormal(0.0, 1.0, config.genes).astype(np.float32)
    rates = RATE * abundance / abundance.mean()
    side = writer.gene_tile
    rows, columns = height // 16, width // 16
    for z in range(config.image_slices):
        for y in range(0, rows, side):
            for x in range(0, columns, side):
                shape = (min(side, rows - y), min(side, columns - x))
                counts = rng.poisson(rates[:, None, None], (config.genes, *shape))
                writer.write_genes(z, y, x, counts)
    writer.finish()


def field_arrays(folder: Path, config: ModelConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise (stains, M, H, W) and genes (genes, S, (H + p)/16, (W + p)/16) of the whole brain."""
    brain: BrainStore = open_brain(folder / "brain.zarr")
    depth, height, width = brain.shape
    noise = noise_field(
        "philox", seed, config.stains, range(config.image_slices), (0, height, 0, width), depth
    )
    pad = config.patch // 32
    genes = brain.read_genes(
        (-pad, height // 16 + pad, -pad, width // 16 + pad),
        (-config.gene_margin, config.gene_slices - config.gene_margin),
    )
    return noise, genes

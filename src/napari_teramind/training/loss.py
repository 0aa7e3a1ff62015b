"""The two-term loss on a block of shifted patches (DESIGN section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_teramind.diffusion.schedule import alphas_bar
from napari_teramind.model.config import Prediction
from napari_teramind.model.network import TeraMind


@dataclass(frozen=True)
class Batch:
    """Diffused samples.

    Attributes
    ----------
    noisy, target
        (B, stains, M, np, np): masked x_t, and what the network shall say of it, for blocks of
        n x n patches.
    genes
        (B, genes, S, np/16, np/16).
    mask
        (B, 1, 1, np, np); 0 in the crop's padding.
    t
        (B,) times.
    """

    noisy: Tensor
    target: Tensor
    genes: Tensor
    mask: Tensor
    t: Tensor


def diffuse(
    clean: Tensor, genes: Tensor, mask: Tensor, t: Tensor, noise: Tensor, prediction: Prediction
) -> Batch:
    """Noise clean samples: x_t = sqrt(abar) x_0 + sqrt(1 - abar) noise, masked.

    Parameters
    ----------
    clean, noise
        (B, stains, M, np, np).
    genes
        (B, genes, S, np/16, np/16).
    mask
        Broadcastable to ``clean``.
    t
        (B,) integer times.
    prediction
        ``"epsilon"``: the target is the noise; ``"v"``: the velocity.
    """
    abar = alphas_bar().to(clean.device)[t].float()[:, None, None, None, None]
    signal, spread = abar.sqrt(), (1 - abar).sqrt()
    noisy = (signal * clean + spread * noise) * mask
    target = noise if prediction == "epsilon" else signal * noise - spread * clean
    return Batch(noisy, target, genes, mask, t)


def losses(model: TeraMind, batch: Batch, shifted: bool = True) -> tuple[Tensor, Tensor]:
    """Return the collage term and the masked term of the shifted patches.

    The published loss is their sum.

    Parameters
    ----------
    model
        The network.
    batch
        Diffused samples.
    shifted
        Whether the decoder runs on the shifted patches too; else their term is 0.
    """
    half = model.config.patch // 2
    inner, *outer = model.output_patches(batch.noisy, batch.genes, batch.t, shifted)
    crop = batch.target[..., half:-half, half:-half]
    collage = torch.mean((crop - inner.float()) ** 2)
    if not outer:
        return collage, torch.zeros_like(collage)
    return collage, torch.mean(batch.mask * (batch.target - outer[0].float()) ** 2)

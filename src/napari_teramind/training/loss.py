"""The two-term loss on a 2 x 2 block of shifted patches (DESIGN section 3)."""

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
        (B, stains, M, 2p, 2p): masked x_t, and what the network shall say of it.
    genes
        (B, genes, S, 2p/16, 2p/16).
    mask
        (B, 1, 1, 2p, 2p); 0 in the crop's padding.
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
        (B, stains, M, 2p, 2p).
    genes
        (B, genes, S, 2p/16, 2p/16).
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


def losses(model: TeraMind, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the collage term and the masked term of the shifted patches; the loss is their sum."""
    half = model.config.patch // 2
    inner, outer = model.output_patches(batch.noisy, batch.genes, batch.t, shifted=True)
    crop = batch.target[..., half:-half, half:-half]
    collage = torch.mean((crop - inner.float()) ** 2)
    shifted = torch.mean(batch.mask * (batch.target - outer.float()) ** 2)
    return collage, shifted

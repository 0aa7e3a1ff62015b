"""Networks for the steps between the published one and ours, in the shape our engine takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from published.network import PublishedNetwork, upsample
from torch import Tensor

from napari_teramind.model import ModelConfig, TeraMind, convs, gene_gene, gene_morph, layers, norms
from napari_teramind.model.network import Encoded


class Conv3dTeraMind(TeraMind):
    """The published network behind the interface of ours.

    Takes and gives (B, y, x, M, C); inside, everything is (B, C, M, y, x) and contiguous.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.published = PublishedNetwork(config)

    def gene_features(self, patches: Tensor) -> list[Tensor]:
        """Return f0..f3 before their upsampling, as ours keeps them."""
        features = self.published.gene_features(patches)
        return [_ours(f[..., ::2, ::2]) for f in features]

    def time_embedding(self, t: Tensor) -> Tensor:
        """Return the time embedding; the published blocks apply SiLU themselves."""
        return self.published.time_embed(t)

    def encode(self, patches: Tensor, features, time: Tensor) -> Encoded:  # type: ignore[no-untyped-def]
        """Run encoder and middle."""
        levels = [upsample(_theirs(f)) for f in features]
        time = time.expand(patches.shape[0], -1)
        middle, skips = self.published.encode(_theirs(patches), levels, time)
        return Encoded(_ours(middle), [_ours(skip) for skip in skips], list(features))

    def decode(self, encoded: Encoded, time: Tensor) -> Tensor:
        """Run the decoder."""
        levels = [upsample(_theirs(f)) for f in encoded.features]
        skips = [_theirs(skip) for skip in encoded.skips]
        time = time.expand(encoded.middle.shape[0], -1)
        return _ours(self.published.decode(_theirs(encoded.middle), skips, levels, time))


def _theirs(x: Tensor) -> Tensor:
    return x.permute(0, 4, 3, 1, 2).contiguous()


def _ours(x: Tensor) -> Tensor:
    return x.permute(0, 3, 4, 2, 1).contiguous()


def unfuse() -> None:
    """Take away what is faster than torch's plain operations but for the layout, in this process.

    Norms are then made of ``pow``, ``mean`` and ``rsqrt``, attention of two products and a softmax,
    linear layers of matrix products.
    """

    def forward(self: norms.RMSNorm, x: Tensor) -> Tensor:
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return h.to(x.dtype) * self.weight

    def norm_silu(x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        h = h.to(x.dtype) * gain
        return F.silu(h if shift is None else h + shift)

    norms.RMSNorm.forward = forward  # type: ignore[method-assign]
    gene_morph.norm_silu = norm_silu

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = (q @ k.transpose(-1, -2)).float() / q.shape[-1]
        return torch.softmax(logits, dim=-1).to(v.dtype) @ v

    gene_morph.attend = gene_gene.attend = attend
    layers.linear = convs.linear = F.linear
    convs.SliceConv.by_three = lambda *_: False  # type: ignore[method-assign]

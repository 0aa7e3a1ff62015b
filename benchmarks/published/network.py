"""The published network in its published form: Conv3d on (B, C, M, y, x), unfused norms.

Written from the published facts (docs/method.md); it shares no code with
:mod:`napari_teramind.model`. Modules are named as in the published state dict, so that
``load_state_dict`` takes published weights as they are. Norms are made of ``pow``, ``mean`` and
``rsqrt`` in float32, attention of two products and a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_teramind.model import ModelConfig

EPS = 1e-6


def normalised(x: Tensor, axis: int) -> Tensor:
    """Return x / sqrt(mean(x^2) + 1e-6) along an axis, in float32."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(axis, keepdim=True) + EPS)


class ChannelNorm(nn.Module):
    """RMSNorm over the channels of (B, C, M, y, x); its weight is stored as (1, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, M, y, x)."""
        return normalised(x, 1).type_as(x) * self.weight[..., None]


class TokenNorm(nn.Module):
    """RMSNorm over the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., width)."""
        return normalised(x, -1).type_as(x) * self.weight


class MLP(nn.Module):
    """Linear to four times the width, tanh-GELU, linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., width) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / d) v."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1]
    return torch.softmax(logits.float(), dim=-1).type_as(v) @ v


def conv(channels_in: int, channels_out: int, depth: int, side: int) -> nn.Conv3d:
    """Return a Conv3d (depth, side, side) that keeps size."""
    padding = (depth // 2, side // 2, side // 2)
    return nn.Conv3d(channels_in, channels_out, (depth, side, side), padding=padding)


def upsample(x: Tensor) -> Tensor:
    """Nearest x2 in y and x."""
    return F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """Mean over 2 x 2 in y and x."""
    return F.avg_pool3d(x, (1, 2, 2))


# Attention among genes, and the gene features ----------------------------------------------------


class SharedAttention(nn.Module):
    """Attention whose queries are its keys too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.q_norm = TokenNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Let tokens (B, n, width) attend to one another."""
        q = self.q_norm(self.q(tokens))
        return self.proj(attend(q, q, self.v(tokens)))


class GeneGene(nn.Module):
    """Genes attend to genes; a convolution takes S gene slices to M image slices."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.gene_slices * config.bins**2
        self.attn = SharedAttention(width)
        self.norm2 = TokenNorm(width)
        self.mlp = MLP(width)
        depth = {1: 1, 4: 3, 8: 5, 16: 9}[config.gene_slices]
        self.down_z = nn.Conv3d(config.genes, config.genes, (depth, 3, 3), padding=(0, 1, 1))

    def forward(self, g: Tensor) -> Tensor:
        """Map counts (B, genes, S, b, b) to f0 (B, genes, M, 2b, 2b)."""
        tokens = self.mlp(self.norm2(self.attn(g.flatten(2))))
        return upsample(self.down_z(tokens.view_as(g)))


class GeneLevel(nn.Sequential):
    """SiLU, convolution, upsampling."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(nn.SiLU(), conv(channels_in, channels_out, 1, 3))

    def forward(self, f: Tensor) -> Tensor:
        """Map a gene feature to the next, of twice the side."""
        return upsample(super().forward(f))


# The UNet ----------------------------------------------------------------------------------------


class TimeEmbedding(nn.Module):
    """Cosines and sines of the time, Linear, SiLU, Linear."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width = width
        self.time_embed = nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times t (B,) on the 0..999 scale."""
        half = self.width // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
        angles = t.float()[:, None] * rates
        wave = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
        return self.time_embed(wave.to(self.time_embed[0].weight.dtype))


class Residual(nn.Module):
    """Residual block; ``resample`` halves or doubles y and x on both of its ways."""

    def __init__(
        self, config: ModelConfig, channels_in: int, channels_out: int, resample: str = ""
    ) -> None:
        super().__init__()
        self.resample = {"down": downsample, "up": upsample}.get(resample)
        self.in_layers = nn.Sequential(
            ChannelNorm(channels_in), nn.SiLU(), conv(channels_in, channels_out, 3, 3)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(config.time_channels, 2 * channels_out)
        )
        self.out_layers = nn.Sequential(
            ChannelNorm(channels_out),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            conv(channels_out, channels_out, 3, 3),
        )
        self.skip_connection = (
            nn.Identity() if channels_in == channels_out else conv(channels_in, channels_out, 1, 1)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map x (B, C, M, y, x) and the time embedding (B, E)."""
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.in_layers[2](h)
        scale, shift = self.emb_layers(time)[..., None, None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class CrossAttention(nn.Module):
    """Positions attend to the gene embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.q_norm = TokenNorm(width)
        self.k_norm = TokenNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Let tokens x attend to the embedding, both (B, n, width)."""
        q, k = self.q_norm(self.q(x)), self.k_norm(self.k(embedding))
        return self.proj(attend(q, k, self.v(embedding)))


class GeneMorph(nn.Module):
    """Gene-morph attention inside four windows of the y, x plane, over all slices."""

    def __init__(self, channels: int, gene_channels: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(gene_channels, 7 * channels))
        self.norm1 = TokenNorm(channels)
        self.attn = CrossAttention(channels)
        self.norm2 = TokenNorm(channels)
        self.mlp = MLP(channels)

    def forward(self, m: Tensor, feature: Tensor) -> Tensor:
        """Update m (B, C, M, y, x) with the gene feature of that size."""
        shape = m.shape
        m, feature = windows(m), windows(feature)
        shift, scale, gate, embedding, shift2, scale2, gate2 = self.adaLN_modulation(feature).chunk(
            7, dim=-1
        )
        m = m + gate * self.attn(self.norm1(m) * (1 + scale) + shift, embedding)
        m = m + gate2 * self.mlp(self.norm2(m) * (1 + scale2) + shift2)
        return unwindowed(m, shape)


def windows(x: Tensor) -> Tensor:
    """Cut (B, C, M, y, x) into 2 x 2 windows of tokens: (4 B, M y/2 x/2, C)."""
    b, c, m, height, width = x.shape
    x = x.view(b, c, m, 2, height // 2, 2, width // 2).permute(0, 3, 5, 2, 4, 6, 1)
    return x.reshape(4 * b, -1, c)


def unwindowed(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo :func:`windows`."""
    b, c, m, height, width = shape
    x = x.view(b, 2, 2, m, height // 2, width // 2, c).permute(0, 6, 3, 1, 4, 2, 5)
    return x.reshape(b, c, m, height, width)


class PublishedNetwork(nn.Module):
    """The whole network on patches and, by :meth:`forward`, on padded fields.

    Parameters
    ----------
    config
        Sizes; the prediction must be the noise.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        widths = [c.channels * m for m in c.multipliers]
        genes = (c.genes, *c.gene_channels)
        top = len(widths) - 1

        def unit(level: int, channels_in: int, *rest: nn.Module) -> nn.ModuleList:
            block = Residual(c, channels_in + genes[top - level], widths[level])
            parts = nn.ModuleList([block])
            if level == c.attention_level:
                parts.append(GeneMorph(widths[level], genes[top - level]))
            return parts.extend(rest)

        self.rna_blocks = nn.ModuleList([nn.ModuleList([GeneGene(c)])])
        self.rna_blocks.extend(GeneLevel(a, b) for a, b in pairwise(genes))
        self.time_embed = TimeEmbedding(c.channels, c.time_channels)
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([conv(c.stains, c.channels, 1, 3)])],
        )
        skips, width = [c.channels], c.channels
        for level, out in enumerate(widths):
            if level:
                self.input_blocks.append(nn.ModuleList([Residual(c, width, width, "down")]))
                skips.append(width)
            for _ in range(c.res_blocks):
                self.input_blocks.append(unit(level, width))
                width = out
                skips.append(width)
        self.middle_block = nn.ModuleList(
            [
                Residual(c, width + genes[0], width),
                GeneMorph(width, genes[0]),
                Residual(c, width, width),
            ]
        )
        self.output_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for number in range(c.res_blocks + 1):
                last = number == c.res_blocks and level > 0
                up = [Residual(c, out, out, "up")] if last else []
                self.output_blocks.append(unit(level, width + skips.pop(), *up))
                width = out
        self.out = nn.Sequential(ChannelNorm(width), nn.SiLU(), conv(width, c.stains, 1, 3))

    def load_published(self, tensors: Mapping[str, Tensor]) -> PublishedNetwork:
        """Take weights by their published names, all of them."""
        self.load_state_dict({name: value.float() for name, value in tensors.items()})
        return self

    def gene_features(self, g: Tensor) -> list[Tensor]:
        """Gene features f0..f3 of patches (B, genes, S, p/16, p/16): (B, F_k, M, y, x)."""
        features = [self.rna_blocks[0][0](g)]
        for level in self.rna_blocks[1:]:
            features.append(level(features[-1]))
        return features

    def encode(
        self, x: Tensor, features: Sequence[Tensor], time: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Run encoder and middle on patches (B, stains, M, p, p); middle output and skips."""
        h = self.input_blocks[0][0](x)
        skips = [h]
        for block in self.input_blocks[1:]:
            h = self._advance(block, h, [], features, time)
            skips.append(h)
        first, attention, second = self.middle_block
        h = first(torch.cat([h, features[0]], dim=1), time)
        return second(attention(h, features[0]), time), skips

    def decode(
        self, h: Tensor, skips: Sequence[Tensor], features: Sequence[Tensor], time: Tensor
    ) -> Tensor:
        """Run the decoder on patches: (B, stains, M, p, p)."""
        left = list(skips)
        for block in self.output_blocks:
            h = self._advance(block, h, [left.pop()], features, time)
        return self.out(h)

    def _advance(
        self,
        block: nn.ModuleList,
        h: Tensor,
        skip: list[Tensor],
        features: Sequence[Tensor],
        time: Tensor,
    ) -> Tensor:
        """Run the parts of one block; which feature it takes follows from the size of h."""
        feature = next(f for f in features if f.shape[-1] == h.shape[-1])
        for part in block:
            if isinstance(part, GeneMorph):
                h = part(h, feature)
            elif part.resample is not None:
                h = part(h, time)
            else:
                h = part(torch.cat([h, *skip, feature], dim=1), time)
        return h

    def forward(
        self,
        x: Tensor,
        g: Tensor,
        t: Tensor,
        shifted: bool = True,
        features: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Predict the noise of padded fields, by both decoders unless told otherwise.

        Parameters
        ----------
        x
            (B, stains, M, H + p, W + p).
        g
            (B, genes, S, (H + p)/16, (W + p)/16).
        t
            (B,) times.
        shifted
            Run the decoder on the shifted patches too.
        features
            :meth:`gene_features` of the field's shifted patches, if they are known already.

        Returns
        -------
        list
            (B, stains, M, H, W) by the collage patches and, if asked for, (B, stains, M, H + p,
            W + p) by the shifted ones.
        """
        p = self.config.patch
        rows, columns = x.shape[-2] // p, x.shape[-1] // p
        inner = (rows - 1) * (columns - 1)
        time = self.time_embed(t)
        if features is None:
            features = self.gene_features(patches(g, self.config.bins))
        middle, skips = self.encode(
            patches(x, p), features, time.repeat_interleave(rows * columns, 0)
        )

        def collage(part: Tensor) -> Tensor:
            half = part.shape[-1] // 2
            return patches(
                assembled(part, rows, columns)[..., half:-half, half:-half], part.shape[-1]
            )

        out = self.decode(
            collage(middle),
            [collage(skip) for skip in skips],
            [collage(feature) for feature in features],
            time.repeat_interleave(inner, 0),
        )
        fields = [assembled(out, rows - 1, columns - 1)]
        if shifted:
            out = self.decode(middle, skips, features, time.repeat_interleave(rows * columns, 0))
            fields.append(assembled(out, rows, columns))
        return fields


def patches(field: Tensor, side: int) -> Tensor:
    """Cut (B, C, M, rows side, columns side) into (B rows columns, C, M, side, side), row-major."""
    field = field.unflatten(-1, (-1, side)).unflatten(-3, (-1, side))
    return field.permute(0, 3, 5, 1, 2, 4, 6).flatten(0, 2)


def assembled(parts: Tensor, rows: int, columns: int) -> Tensor:
    """Undo :func:`patches`."""
    parts = parts.unflatten(0, (-1, rows, columns)).permute(0, 3, 4, 1, 5, 2, 6)
    return parts.flatten(-2).flatten(-3, -2)

"""Gene-morph UNet: residual blocks, gene-morph attention, encoder and decoder of one patch.

Activations are (B, y, x, M, C) throughout; B counts patches (DESIGN section 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_teramind.model import gradients, native
from napari_teramind.model.config import ModelConfig
from napari_teramind.model.convs import SliceConv, downsample, upsample
from napari_teramind.model.fused import can_fuse, linear_of, norm_conv, side_by_side
from napari_teramind.model.layers import MLP, Dropout, Linear, attend
from napari_teramind.model.norms import RMSNorm, norm_silu


class TimeEmbedding(nn.Module):
    """Sinusoid of width C (cosines first, period 10000), then Linear, SiLU, Linear."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pairs = config.channels // 2
        self.fc1 = nn.Linear(config.channels, config.time_channels)
        self.fc2 = nn.Linear(config.time_channels, config.time_channels)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times t (B,) on the 0..999 scale as (B, time_channels)."""
        steps = torch.arange(self.pairs, device=t.device, dtype=torch.float32)
        angles = t.float()[:, None] * torch.exp(-math.log(10000.0) / self.pairs * steps)
        wave = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.fc1.weight.dtype)
        out: Tensor = self.fc2(F.silu(self.fc1(wave)))
        return out


class ResidualBlock(nn.Module):
    """Norm, SiLU, conv; norm modulated by time, SiLU, dropout, conv; plus a skip.

    Parameters
    ----------
    channels_in, channels_out
        Channels before and after.
    resample
        Applied after the first norm and SiLU and on the skip path: the 2x pooling or upsampling of
        down and up blocks, which take one tensor.
    """

    def __init__(
        self,
        config: ModelConfig,
        channels_in: int,
        channels_out: int,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        slices = config.image_slices
        self.resample = resample
        self.norm1 = RMSNorm(channels_in)
        self.conv1 = SliceConv(
            channels_in, channels_out, (3, 3, 3), slices, upsamples=resample is upsample
        )
        self.time = nn.Linear(config.time_channels, 2 * channels_out)
        self.norm2 = RMSNorm(channels_out)
        self.dropout = Dropout(config.dropout)
        self.conv2 = SliceConv(channels_out, channels_out, (3, 3, 3), slices, zero_init=True)
        self.skip = (
            SliceConv(channels_in, channels_out, (1, 1, 1), slices)
            if channels_in != channels_out
            else None
        )

    def forward(self, parts: Sequence[Tensor], time: Tensor) -> Tensor:
        """Map the channels of some tensors to (B, y', x', M, C').

        Parameters
        ----------
        parts
            (B, y, x, M, C_i); gene features, before their upsampling, at half of y and x.
        time
            SiLU of the time embedding, (B, E).
        """
        scale, shift = self.time(time)[:, None, None, None].chunk(2, dim=-1)
        gain = self.norm2.weight * (1 + scale)
        if can_fuse(parts):
            return self._fused(parts, gain, shift)
        x = _joined(parts)
        h = norm_silu(x, self.norm1.weight)
        if self.resample is not None:
            x = self.resample(x)
        if self.resample is downsample:
            h = downsample(h)
        h = norm_silu(self.conv1(h), gain, shift)  # conv1 upsamples by itself
        h = self.conv2(self.dropout(h))
        out: Tensor = h + (x if self.skip is None else self.skip(x))
        return out

    def _fused(self, tensors: Sequence[Tensor], gain: Tensor, shift: Tensor) -> Tensor:
        """Do the same with kernels that go over memory once."""
        if self.resample is upsample:
            h = [native.Part(self.conv1(norm_silu(tensors[0], self.norm1.weight)))]
        else:
            parts = side_by_side(tensors)
            shape = (*tensors[0].shape[:4], sum(tensor.shape[-1] for tensor in tensors))
            h = norm_conv(self.conv1, parts, shape, self.norm1.weight, resample=self.resample)
        if self.resample is downsample:
            tensors = [downsample(tensors[0])]
        made = h[0].tensor
        shape = (*made.shape[:3], tensors[0].shape[3], made.shape[-1])
        h = norm_conv(self.conv2, h, shape, gain, shift, drop=self.dropout.draw())
        rest = side_by_side(tensors) if self.skip is None else linear_of(tensors, self.skip)
        return gradients.add([*h, *rest], shape)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Join tensors along the channels, those at half of y and x upsampled."""
    height = parts[0].shape[1]
    full = [part if part.shape[1] == height else upsample(part) for part in parts]
    return full[0] if len(full) == 1 else torch.cat(full, dim=-1)


class GeneMorphAttention(nn.Module):
    """Tissue positions attend to the gene embedding inside four windows (Eq. 2).

    SiLU-Linear of the gene feature gives shift, scale, gate, embedding, shift', scale', gate'.
    Key and value both come from the embedding, as in the published weights (Eq. 2 writes the key
    from the image).
    """

    def __init__(self, channels: int, gene_channels: int) -> None:
        super().__init__()
        self.modulation = Linear(gene_channels, 7 * channels)
        self.norm1 = RMSNorm(channels)
        self.norm2 = RMSNorm(channels)
        self.q = Linear(channels, channels)
        self.k = Linear(channels, channels)
        self.v = Linear(channels, channels)
        self.q_norm = RMSNorm(channels)
        self.k_norm = RMSNorm(channels)
        self.proj = Linear(channels, channels)
        self.mlp = MLP(channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, m: Tensor, feature: Tensor) -> Tensor:
        """Update m (B, y, x, M, C) with the gene feature (B, y/2, x/2, M, F), not upsampled.

        Four positions have one embedding. Attending to it once is the same as to four copies of
        it, and everything that is made of the feature is made for a quarter of the positions.
        """
        parts = self.modulation(F.silu(feature)).chunk(7, dim=-1)
        shift, scale, gate, embedding, shift2, scale2, gate2 = parts
        q = self.q_norm(self.q(_mixed(shift, self.norm1(m), 1 + scale)))
        k = self.k_norm(self.k(embedding))
        v = self.v(embedding)
        attended = _merge_windows(
            attend(_split_windows(q), _split_windows(k), _split_windows(v)), m.shape
        )
        m = _mixed(m, self.proj(attended), gate)
        return _mixed(m, self.mlp(_mixed(shift2, self.norm2(m), 1 + scale2)), gate2)


def _mixed(base: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """Return base + x factor for x (B, y, x, M, C); the others that, or at half of y and x."""
    if torch.is_grad_enabled():
        # The gradient of an upsampling is many times as fast as that of an expansion.
        base, factor = (v if v.shape == x.shape else upsample(v) for v in (base, factor))
        return torch.addcmul(base, x, factor)
    return torch.addcmul(_by_four(base, x), _by_four(x, x), _by_four(factor, x)).view_as(x)


def _by_four(value: Tensor, like: Tensor) -> Tensor:
    """View (B, y, x, ...) as (B, y/2, 2, x/2, 2, ...); at half of y and x, with 1 in place of 2."""
    if value.shape[1] != like.shape[1]:
        return value[:, :, None, :, None]
    batch, height, width, *rest = value.shape
    return value.view(batch, height // 2, 2, width // 2, 2, *rest)


def _split_windows(x: Tensor) -> Tensor:
    """Cut (B, y, x, M, C) into 2 x 2 windows: (4 B, positions, C)."""
    batch, height, width, slices, channels = x.shape
    x = x.view(batch, 2, height // 2, 2, width // 2, slices, channels)
    return x.transpose(2, 3).reshape(4 * batch, -1, channels)


def _merge_windows(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo :func:`_split_windows` for a target shape (B, y, x, M, C)."""
    batch, height, width, slices, channels = shape
    x = x.view(batch, 2, 2, height // 2, width // 2, slices, channels)
    return x.transpose(2, 3).reshape(batch, height, width, slices, channels)


class EncoderBlock(nn.Module):
    """One skip's worth of encoder: a residual block, attention where the level has it."""

    def __init__(self, res: ResidualBlock, attn: GeneMorphAttention | None, level: int) -> None:
        super().__init__()
        self.res = res
        self.attn = attn
        self.level = level

    def forward(self, x: Tensor, features: Sequence[Tensor], time: Tensor) -> Tensor:
        """Advance x; ``features[level]`` is a UNet level's gene feature, before its upsampling."""
        if self.res.resample is not None:
            out: Tensor = self.res([x], time)
            return out
        feature = features[self.level]
        x = self.res([x, feature], time)
        return x if self.attn is None else self.attn(x, feature)


class DecoderBlock(nn.Module):
    """A residual block on (h, skip, feature); attention and an up block where the level has one."""

    def __init__(
        self,
        res: ResidualBlock,
        attn: GeneMorphAttention | None,
        up: ResidualBlock | None,
        level: int,
    ) -> None:
        super().__init__()
        self.res = res
        self.attn = attn
        self.up = up
        self.level = level

    def forward(self, x: Tensor, skip: Tensor, features: Sequence[Tensor], time: Tensor) -> Tensor:
        """Advance x with one skip; see :class:`EncoderBlock` for ``features``."""
        feature = features[self.level]
        x = self.res([x, skip, feature], time)
        if self.attn is not None:
            x = self.attn(x, feature)
        return x if self.up is None else self.up([x], time)


class GeneMorphUNet(nn.Module):
    """The UNet's parts; :mod:`~napari_teramind.model.network` joins them over a field."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config
        slices = c.image_slices
        widths = [c.channels * m for m in c.multipliers]
        top = len(widths) - 1
        # Gene feature f(top - i) conditions UNet level i.
        gene_widths = [(c.genes, *c.gene_channels)[top - i] for i in range(len(widths))]

        def attention(level: int) -> GeneMorphAttention | None:
            if level != c.attention_level:
                return None
            return GeneMorphAttention(widths[level], gene_widths[level])

        self.time_embed = TimeEmbedding(c)
        self.entry = SliceConv(c.stains, c.channels, (1, 3, 3), slices)
        self.encoder = nn.ModuleList()
        skips = [c.channels]
        width = c.channels
        for level, out in enumerate(widths):
            if level:
                down = ResidualBlock(c, width, width, downsample)
                self.encoder.append(EncoderBlock(down, None, level))
                skips.append(width)
            for _ in range(c.res_blocks):
                res = ResidualBlock(c, width + gene_widths[level], out)
                self.encoder.append(EncoderBlock(res, attention(level), level))
                width = out
                skips.append(width)

        self.middle1 = ResidualBlock(c, width + gene_widths[top], width)
        self.middle_attn = GeneMorphAttention(width, gene_widths[top])
        self.middle2 = ResidualBlock(c, width, width)

        self.decoder = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for block in range(c.res_blocks + 1):
                res = ResidualBlock(c, width + skips.pop() + gene_widths[level], out)
                last = block == c.res_blocks and level > 0
                up = ResidualBlock(c, out, out, upsample) if last else None
                self.decoder.append(DecoderBlock(res, attention(level), up, level))
                width = out
        self.exit_norm = RMSNorm(width)
        self.exit = SliceConv(width, c.stains, (1, 3, 3), slices, zero_init=True)

    def encode(
        self, x: Tensor, features: Sequence[Tensor], time: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Run encoder and middle.

        Parameters
        ----------
        x
            (B, p, p, M, stains).
        features
            Gene feature of every UNet level before its upsampling, finest first:
            (B, p/2^(i+1), p/2^(i+1), M, F_i).
        time
            SiLU of the time embedding, (B, E).

        Returns
        -------
        tuple
            The middle's output (B, p/8, p/8, M, 8 C) and all skips, in the order they were made.
        """
        h = self.entry(x)
        skips = [h]
        for block in self.encoder:
            h = block(h, features, time)
            skips.append(h)
        h = self.middle1([h, features[-1]], time)
        h = self.middle2([self.middle_attn(h, features[-1])], time)
        return h, skips

    def decode(
        self, h: Tensor, skips: Sequence[Tensor], features: Sequence[Tensor], time: Tensor
    ) -> Tensor:
        """Run decoder and exit; returns (B, p, p, M, stains)."""
        remaining = list(skips)
        for block in self.decoder:
            h = block(h, remaining.pop(), features, time)
        out: Tensor = self.exit(norm_silu(h, self.exit_norm.weight))
        return out

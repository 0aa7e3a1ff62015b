"""Building blocks on activations kept as (patch, y, x, slice, channel).

That layout makes every norm and linear layer work on the last, contiguous axis, and lets a
convolution over slices, rows and columns be a channels-last Conv2d on a *view*: with M image
slices and padding 1 a 3 x 3 x 3 kernel is a 3 x 3 kernel from M C to M C' channels, and at M = 2 a
third of the multiplications of the Conv3d (those with the zero slices) fall away (DESIGN 4.6).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACK_LIMIT = 8
"""Largest product of input and output slices for which the packed Conv2d is used: above it the
zero blocks of the packed kernel cost more than a Conv3d does."""

DRAWS = 2**15
"""Values of the number that :class:`Dropout` draws."""

IMAGES = 16
LEAST_POSITIONS = 1024
"""How :func:`linear` lays positions out, and from how many on."""


def pack_kernel(weight: Tensor, slices_in: int, slices_out: int, pad: int) -> Tensor:
    """Turn a Conv3d kernel into the Conv2d kernel that acts on all slices at once.

    Parameters
    ----------
    weight
        (C', C, k, ky, kx).
    slices_in, slices_out
        Number of slices before and after the convolution.
    pad
        Zero slices that the Conv3d adds at either end.

    Returns
    -------
    Tensor
        (slices_out * C', slices_in * C, ky, kx), the slice being the slower channel index.
    """
    depth = weight.shape[2]
    zero = weight.new_zeros(weight[:, :, 0].shape)
    rows = []
    for z_out in range(slices_out):
        taps = [z_in - z_out + pad for z_in in range(slices_in)]
        rows.append(torch.cat([weight[:, :, k] if 0 <= k < depth else zero for k in taps], dim=1))
    return torch.cat(rows, dim=0)


def split_for_upsampled(kernel: Tensor) -> Tensor:
    """Turn a 3 x 3 kernel on a 2x nearest-upsampled image into four 2 x 2 ones on the image.

    In an upsampled image two of three neighbours in a row are the same pixel, so that their weights
    can be added up beforehand: 16 multiplications remain of 36.

    Parameters
    ----------
    kernel
        (C', C, 3, 3).

    Returns
    -------
    Tensor
        (4 C', C, 2, 2), one kernel for each of the four pixels that a pixel becomes.
    """
    first, middle, last = kernel.unbind(2)
    rows = torch.stack((first, middle + last)), torch.stack((first + middle, last))
    kernels = []
    for row in rows:
        left, centre, right = row.unbind(-1)
        kernels.append(torch.stack((left, centre + right), -1))
        kernels.append(torch.stack((left + centre, right), -1))
    return torch.cat([k.permute(1, 2, 0, 3) for k in kernels])


class SliceConv(nn.Module):
    """Conv3d with stride 1 on (B, y, x, M, C) activations, zero-padded in y and x to keep size.

    Parameters
    ----------
    channels_in, channels_out
        C and C'.
    kernel
        Kernel size (slice, y, x), odd in y and x.
    slices_in, slices_out
        M before and after; the number of padding slices follows from them.
    zero_init
        Start with zero weights, as the last convolution of a residual block does.
    upsamples
        Acts on the 2x nearest-upsampled input, which is never made.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int, int],
        slices_in: int,
        slices_out: int | None = None,
        zero_init: bool = False,
        upsamples: bool = False,
    ) -> None:
        super().__init__()
        self.upsamples = upsamples
        self.slices_in = slices_in
        self.slices_out = slices_in if slices_out is None else slices_out
        self.pad = (self.slices_out - slices_in + kernel[0] - 1) // 2
        reference = nn.Conv3d(channels_in, channels_out, kernel)
        self.weight = reference.weight
        self.bias = reference.bias
        if zero_init:
            nn.init.zeros_(self.weight)
            if self.bias is not None:
                nn.init.zeros_(self.bias)
        self._packed: tuple[tuple[int, int], Tensor, Tensor] | None = None

    def _conv2d_parameters(self) -> tuple[Tensor, Tensor]:
        """Packed kernel and bias, kept between calls while no gradient is asked for."""
        assert self.bias is not None
        repeats = self.slices_out * (4 if self.upsamples else 1)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            return self._pack(self.weight), self.bias.repeat(repeats)
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (version, self.weight.data_ptr())
        if self._packed is None or self._packed[0] != key:
            kernel = self._pack(self.weight.detach())
            kernel = kernel.contiguous(memory_format=torch.channels_last)
            self._packed = (key, kernel, self.bias.detach().repeat(repeats))
        return self._packed[1], self._packed[2]

    def _pack(self, weight: Tensor) -> Tensor:
        kernel = pack_kernel(weight, self.slices_in, self.slices_out, self.pad)
        return split_for_upsampled(kernel) if self.upsamples else kernel

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, y, x, M, C) to (B, y, x, M', C'), or to (B, 2 y, 2 x, M', C')."""
        if self.upsamples and self.slices_in * self.slices_out <= PACK_LIMIT:
            return self._on_upsampled(x)
        if self.upsamples:
            x = upsample(x)
        batch, height, width = x.shape[:3]
        if self.weight.shape[2:] == (1, 1, 1):
            # Every slice by itself: a packed kernel would be half zeros, and a 1 x 1 Conv2d slow.
            return linear(x, self.weight.flatten(1), self.bias)
        if self.slices_in * self.slices_out > PACK_LIMIT:
            padding = (self.pad, self.weight.shape[3] // 2, self.weight.shape[4] // 2)
            out = F.conv3d(x.permute(0, 4, 3, 1, 2), self.weight, self.bias, padding=padding)
            return out.permute(0, 3, 4, 2, 1).contiguous()
        kernel, bias = self._conv2d_parameters()
        flat = x.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        out = F.conv2d(flat, kernel, bias, padding=(kernel.shape[2] // 2, kernel.shape[3] // 2))
        # oneDNN and cuDNN answer in channels-last here; .contiguous() is then free.
        out = out.permute(0, 2, 3, 1).contiguous()
        return out.view(batch, height, width, self.slices_out, -1)

    def _on_upsampled(self, x: Tensor) -> Tensor:
        batch, height, width = x.shape[:3]
        kernel, bias = self._conv2d_parameters()
        flat = x.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        four = F.conv2d(flat, kernel, bias, padding=1).permute(0, 2, 3, 1)
        four = four.unflatten(-1, (2, 2, self.slices_out, -1))
        out = four.new_empty(batch, height, 2, width, 2, *four.shape[-2:])
        for a in (0, 1):
            for b in (0, 1):
                out[:, :, a, :, b] = four[:, a : a + height, b : b + width, a, b]
        return out.view(batch, 2 * height, 2 * width, *out.shape[-2:])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SliceConv:
        self._packed = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]


class Linear(nn.Linear):
    """Linear layer on the last axis of (B, ..., C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., C) to (..., C')."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map the last axis of x (..., C) by a matrix (C', C).

    In float32 on a CPU this is a 1 x 1 Conv2d where there are many positions: oneDNN's kernels are
    two to three times as fast as the matrix product on AMD's processors. From 16 images on torch
    takes them with one thread too, so the positions are laid out as 16 images.
    """
    positions = x.numel() // x.shape[-1]
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if plain or positions < LEAST_POSITIONS or positions % IMAGES:
        return F.linear(x, weight, bias)
    images = x.reshape(IMAGES, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(images, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of one head with logits q k^T / d (DESIGN section 2).

    Parameters
    ----------
    q, k, v
        (B, tokens, d).

    Returns
    -------
    Tensor
        (B, tokens, d).
    """
    scale = 1 / q.shape[-1]
    if q.device.type == "cpu" and (v.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")):
        # Three times as fast as torch's own for these few tokens, six times with gradients.
        return torch.bmm(torch.softmax(torch.bmm(q * scale, k.mT), dim=-1), v)
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=scale)[:, 0]


class MLP(nn.Module):
    """Linear to four times the width, tanh-GELU, linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, 4 * width)
        self.fc2 = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., width) to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


class Dropout(nn.Module):
    """Dropout whose mask, on a CPU, is drawn from 15 random bits a value.

    torch draws a floating-point number for every value, which takes four times as long.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of x to zero and scale the rest up, in training."""
        if not self.training or self.share == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_().view(torch.int16)
        kept = round((1 - self.share) * DRAWS)
        # The highest bit of an int64 drawn like this is always 0.
        mask = (bits[: x.numel()] & (DRAWS - 1)) < kept
        return x * mask.to(x.dtype).mul_(DRAWS / kept).view_as(x)


def upsample(x: Tensor) -> Tensor:
    """Nearest x2 in y and x of (B, y, x, ...)."""
    batch, height, width, *rest = x.shape
    # On a channels-last view, whose gradient is 40 times as fast as that of an expansion.
    flat = x.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
    out = F.interpolate(flat, scale_factor=2, mode="nearest").permute(0, 2, 3, 1)
    return out.reshape(batch, 2 * height, 2 * width, *rest)


def downsample(x: Tensor) -> Tensor:
    """Mean over 2 x 2 in y and x of (B, y, x, M, C)."""
    batch, height, width, *rest = x.shape
    # A channels-last pooling is several times faster than mean() over two inner axes.
    flat = x.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
    out = F.avg_pool2d(flat, 2).permute(0, 2, 3, 1)
    return out.reshape(batch, height // 2, width // 2, *rest)

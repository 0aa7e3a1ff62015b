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
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int, int],
        slices_in: int,
        slices_out: int | None = None,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
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
        if torch.is_grad_enabled() and self.weight.requires_grad:
            kernel = pack_kernel(self.weight, self.slices_in, self.slices_out, self.pad)
            return kernel, self.bias.repeat(self.slices_out)
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (version, self.weight.data_ptr())
        if self._packed is None or self._packed[0] != key:
            kernel = pack_kernel(
                self.weight.detach(), self.slices_in, self.slices_out, self.pad
            ).contiguous(memory_format=torch.channels_last)
            self._packed = (key, kernel, self.bias.detach().repeat(self.slices_out))
        return self._packed[1], self._packed[2]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, y, x, M, C) to (B, y, x, M', C')."""
        batch, height, width = x.shape[:3]
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SliceConv:
        self._packed = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) * weight over the last axis, computed in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., C)."""
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), eps=1e-6)


class MLP(nn.Module):
    """Linear to four times the width, tanh-GELU, linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., width) to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


def upsample(x: Tensor) -> Tensor:
    """Nearest x2 in y and x of (B, y, x, ...)."""
    batch, height, width = x.shape[:3]
    rest = x.shape[3:]
    x = x[:, :, None, :, None].expand(batch, height, 2, width, 2, *rest)
    return x.reshape(batch, 2 * height, 2 * width, *rest)


def downsample(x: Tensor) -> Tensor:
    """Mean over 2 x 2 in y and x of (B, y, x, ...)."""
    batch, height, width = x.shape[:3]
    return x.reshape(batch, height // 2, 2, width // 2, 2, *x.shape[3:]).mean(dim=(2, 4))

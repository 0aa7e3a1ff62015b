"""Convolutions over slices, rows and columns on activations kept as (patch, y, x, slice, channel).

That layout makes every norm and linear layer work on the last, contiguous axis, and lets a
convolution over slices, rows and columns be channels-last Conv2ds on *views*: with M image slices
and padding 1 a 3 x 3 x 3 kernel is a 3 x 3 kernel from M C to M C' channels, and at M = 2 a third
of the multiplications of the Conv3d (those with the zero slices) fall away (DESIGN 4.6). Written
as three convolutions of C to C' channels, half of them do (:func:`three_kernels`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_teramind.model.layers import linear

PACK_LIMIT = 8
"""Largest product of input and output slices for which the packed Conv2d is used: above it the
zero blocks of the packed kernel cost more than a Conv3d does."""

LEAST_CHANNELS = 32
"""Output channels from which on three convolutions are faster than one on a CPU: below, adding
their inputs and outputs up costs what they save."""


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


def split_for_upsampled(kernel: Tensor, channels_out: int) -> Tensor:
    """Turn 3 x 3 kernels on a 2x nearest-upsampled image into 2 x 2 ones on the image itself.

    In an upsampled image two of three neighbours in a row are the same pixel, so that their weights
    can be added up beforehand: 16 multiplications remain of 36.

    Parameters
    ----------
    kernel
        (slices * C', C, 3, 3), the slice being the slower channel index.
    channels_out
        C'.

    Returns
    -------
    Tensor
        (slices * 4 * C', C, 2, 2): a kernel for each of the four pixels that a pixel becomes.
    """
    first, middle, last = kernel.unbind(2)
    rows = torch.stack((first, middle + last), 2), torch.stack((first + middle, last), 2)
    four = []
    for row in rows:
        left, centre, right = row.unbind(3)
        four.append(torch.stack((left, centre + right), 3))
        four.append(torch.stack((left + centre, right), 3))
    by_slice = [k.unflatten(0, (-1, channels_out)) for k in four]
    return torch.stack(by_slice, dim=1).flatten(0, 2)


def three_kernels(weight: Tensor) -> list[Tensor]:
    """Turn a Conv3d kernel that takes two slices to two into three Conv2d kernels.

    With the kernel's slices a, b, c the images x, y become b x + c y and a x + b y. Both contain
    b (x + y): what is missing is (c - b) y for the first and (a - b) x for the second, three
    products in place of four.

    Parameters
    ----------
    weight
        (C', C, 3, ky, kx).

    Returns
    -------
    list of Tensor
        Kernels (C', C, ky, kx) for x + y, y and x.
    """
    before, here, after = weight.unbind(2)
    return [here, after - here, before - here]


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
        Acts on the 2x nearest-upsampled input, which is never made; 3 x 3 in y and x.
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
        self._prepared: tuple[tuple[int, int, bool], list[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, y, x, M, C) to (B, y, x, M', C'), or to (B, 2 y, 2 x, M', C')."""
        if self.weight.shape[2:] == (1, 1, 1):
            # Every slice by itself: a packed kernel would be half zeros.
            return linear(x, self.weight.flatten(1), self.bias)
        if self.slices_in * self.slices_out > PACK_LIMIT:
            return self._conv3d(upsample(x) if self.upsamples else x)
        if self.by_three(x):
            first, second = x.unbind(3)
            both, *rest = self.of_planes((first + second, second, first))
            out = torch.stack(rest, dim=3).add_(both.unsqueeze(3))
        else:
            (kernel,), bias = self._kernels(by_three=False)
            out = _conv2d(x.flatten(3), kernel, bias).unflatten(-1, (self.slices_out, -1))
        return _interleaved(out) if self.upsamples else out

    def by_three(self, x: Tensor) -> bool:
        """Tell whether x is convolved by three kernels (:func:`three_kernels`)."""
        # Counted, the three are fewer multiplications everywhere; timed, on CPUs only.
        channels_out, _, depth = self.weight.shape[:3]
        two_slices = self.slices_in == self.slices_out == 2 and depth == 3
        return two_slices and channels_out >= LEAST_CHANNELS and x.device.type == "cpu"

    def of_planes(self, planes: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Convolve x + y, y and x, each (B, y, x, C), by the three kernels.

        Returns
        -------
        list of Tensor
            (B, y, x, C') for both slices, the first alone and the second alone, to be added up.
        """
        kernels, bias = self._kernels(by_three=True)
        biases = (bias, None, None)
        return [_conv2d(*each) for each in zip(planes, kernels, biases, strict=True)]

    def _conv3d(self, x: Tensor) -> Tensor:
        padding = (self.pad, self.weight.shape[3] // 2, self.weight.shape[4] // 2)
        out = F.conv3d(x.permute(0, 4, 3, 1, 2), self.weight, self.bias, padding=padding)
        return out.permute(0, 3, 4, 2, 1).contiguous()

    def _kernels(self, by_three: bool) -> tuple[list[Tensor], Tensor]:
        """Kernels of Conv2ds and the bias, kept between calls while no gradient is asked for."""
        assert self.bias is not None
        if torch.is_grad_enabled() and self.weight.requires_grad:
            return self._make_kernels(self.weight, self.bias, by_three)
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (version, self.weight.data_ptr(), by_three)
        if self._prepared is None or self._prepared[0] != key:
            kernels, bias = self._make_kernels(self.weight.detach(), self.bias.detach(), by_three)
            kernels = [k.contiguous(memory_format=torch.channels_last) for k in kernels]
            self._prepared = (key, kernels, bias)
        return self._prepared[1], self._prepared[2]

    def _make_kernels(
        self, weight: Tensor, bias: Tensor, by_three: bool
    ) -> tuple[list[Tensor], Tensor]:
        if by_three:
            kernels = three_kernels(weight)
        else:
            kernels = [pack_kernel(weight, self.slices_in, self.slices_out, self.pad)]
            bias = bias.repeat(self.slices_out)
        if self.upsamples:
            kernels = [split_for_upsampled(kernel, weight.shape[0]) for kernel in kernels]
            bias = bias.repeat(4)
        return kernels, bias

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SliceConv:
        self._prepared = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]


def _conv2d(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, y, x, C) to (B, y, x, C'), one more in y and x if the kernel's side is even."""
    padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
    out = F.conv2d(x.contiguous().permute(0, 3, 1, 2), kernel, bias, padding=padding)
    # oneDNN and cuDNN answer in channels-last here; .contiguous() is then free.
    return out.permute(0, 2, 3, 1).contiguous()


def _interleaved(four: Tensor) -> Tensor:
    """Put the four pixels that each pixel becomes in their places.

    Each (B, y + 1, x + 1, M, C) of (B, y + 1, x + 1, M, 4 C) holds one of them, the first in y and
    x from its first row and column on, the second from the second.
    """
    height, width = four.shape[1] - 1, four.shape[2] - 1
    four = four.unflatten(-1, (2, 2, -1))
    slices, channels = four.shape[3], four.shape[-1]
    out = four.new_empty(four.shape[0], height, 2, width, 2, slices, channels)
    for a in (0, 1):
        for b in (0, 1):
            out[:, :, a, :, b] = four[:, a : a + height, b : b + width, :, a, b]
    return out.view(-1, 2 * height, 2 * width, slices, channels)


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

"""Building blocks on activations kept as (patch, y, x, slice, channel).

That layout makes every norm and linear layer work on the last, contiguous axis, and lets a
convolution over slices, rows and columns be a channels-last Conv2d on a *view*: with M image
slices and padding 1 a 3 x 3 x 3 kernel is a 3 x 3 kernel from M C to M C' channels, and at M = 2 a
third of the multiplications of the Conv3d (those with the zero slices) fall away (DESIGN 4.6).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        if self.weight.shape[2:] == (1, 1, 1):
            # Every slice by itself: a packed kernel would be half zeros, and a 1 x 1 Conv2d slow.
            return F.linear(x, self.weight.flatten(1), self.bias)
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


class _NormSiLU(torch.autograd.Function):
    """SiLU of an RMSNorm with an affine map, of which only x and one number a row are kept.

    Autograd would keep three more tensors of x's size and go over them one by one; recomputing
    them is cheaper, since on a CPU these operations wait for memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
        inverse = _inverse_rms(x)
        y = x * inverse
        y = y.mul_(gain) if shift is None else torch.addcmul(shift, y, gain, out=y)
        ctx.save_for_backward(x, inverse, gain, shift)
        return F.silu(y, inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, inverse, gain, shift = ctx.saved_tensors
        n = x * inverse
        y = n * gain if shift is None else torch.addcmul(shift, n, gain)
        grad = torch.ops.aten.silu_backward(grad, y)
        grad_shift = None if shift is None else grad.sum_to_size(shift.shape)
        product = torch.mul(grad, n, out=y)
        grad_gain = product.sum_to_size(gain.shape)
        # d/dx of x r(x): r (dn - n mean(dn n)), where dn = grad gain.
        grad.mul_(gain)
        mean = product.mul_(gain).mean(-1, keepdim=True)
        grad.addcmul_(n, mean, value=-1).mul_(inverse)
        return grad, grad_gain, grad_shift


def _inverse_rms(x: Tensor) -> Tensor:
    """Return 1 / sqrt(mean(x^2) + 1e-6) over the last axis, float32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    inverse: Tensor = norm.square_().div_(x.shape[-1]).add_(1e-6).rsqrt_()
    return inverse


def norm_silu(x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
    """SiLU(x / rms(x) * gain + shift), the rms over the last axis.

    Parameters
    ----------
    x
        (B, y, x, M, C).
    gain, shift
        (C,) or (B, 1, 1, 1, C).
    """
    if x.device.type == "cpu" and x.dtype == torch.float32:
        shift = shift if shift is None else shift.float()
        out: Tensor = _NormSiLU.apply(x, gain.float(), shift)  # type: ignore[no-untyped-call]
        return out
    y = F.rms_norm(x, (x.shape[-1],), eps=1e-6)
    gain = gain.to(x.dtype)
    return F.silu(y * gain if shift is None else torch.addcmul(shift.to(x.dtype), y, gain))


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
    """Mean over 2 x 2 in y and x of (B, y, x, M, C)."""
    batch, height, width, *rest = x.shape
    # A channels-last pooling is several times faster than mean() over two inner axes.
    flat = x.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
    out = F.avg_pool2d(flat, 2).permute(0, 2, 3, 1)
    return out.reshape(batch, height // 2, width // 2, *rest)

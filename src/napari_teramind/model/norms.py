"""RMS norms over the last, contiguous axis, computed in float32; those before a SiLU in one go."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_teramind.model import kernels

EPS = 1e-6

ROWS = 64
"""Positions over which a compiled kernel adds gradients up: over a number that it does not know it
would be compiled anew for large and small ones."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) * weight over the last axis, computed in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., C)."""
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), eps=EPS)


def norm_silu(x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
    """SiLU(x / rms(x) * gain + shift), the rms over the last axis.

    Parameters
    ----------
    x
        (B, y, x, M, C).
    gain, shift
        (C,) or (B, 1, 1, 1, C); both alike.
    """
    if x.device.type == "cpu" or kernels.chosen() == "compiled":
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        gain = gain.float().view(-1, 1, x.shape[-1])
        shift = None if shift is None else shift.float().view(-1, 1, x.shape[-1])
        if not torch.is_grad_enabled():
            return _only_output(rows, gain, shift).view_as(x)
        out: Tensor = _NormSiLU.apply(rows, gain, shift)  # type: ignore[no-untyped-call]
        return out.view_as(x)
    y = F.rms_norm(x, (x.shape[-1],), eps=EPS)
    gain = gain.to(x.dtype)
    return F.silu(y * gain if shift is None else torch.addcmul(shift.to(x.dtype), y, gain))


class _NormSiLU(torch.autograd.Function):
    """SiLU of an RMSNorm with an affine map, of which only x and one number a row are kept.

    Autograd would keep three more tensors of x's size and go over them one by one; recomputing
    them is cheaper, since these operations wait for memory. x is (B, n, C), of any floating-point
    type; gain and shift are (B or 1, 1, C), float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
        out, inverse = _forward(x, gain, shift)
        ctx.save_for_backward(x, inverse, gain, shift)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, inverse, gain, shift = ctx.saved_tensors
        backward = _compiled_backward if kernels.chosen() == "compiled" else _eager_backward
        grad_x, grad_gain, grad_shift = backward(grad, x, inverse, gain, shift)
        if shift is None or grad_shift is None:
            return grad_x, grad_gain.sum_to_size(gain.shape), None
        return grad_x, grad_gain.sum_to_size(gain.shape), grad_shift.sum_to_size(shift.shape)


def _only_output(x: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
    """Return SiLU(x r gain + shift)."""
    if kernels.chosen() == "eager":
        return _eager_forward(x, gain, shift)[0]
    out: Tensor = _fused_output(x, gain) if shift is None else _fused_shifted_output(x, gain, shift)
    return out


def _forward(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return SiLU(x r gain + shift) and r (B, n, 1)."""
    if kernels.chosen() == "compiled":
        return _compiled_forward(x, gain, shift)
    return _eager_forward(x, gain, shift)


def _eager_forward(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
    y = x * inverse
    y = y.mul_(gain) if shift is None else torch.addcmul(shift, y, gain, out=y)
    return F.silu(y, inplace=True).to(x.dtype), inverse


def _eager_backward(
    grad: Tensor, x: Tensor, inverse: Tensor, gain: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradient of x, and those of gain and shift as (B, 1, C)."""
    n = x * inverse
    y = n * gain if shift is None else torch.addcmul(shift, n, gain)
    d = torch.ops.aten.silu_backward(grad.float(), y)
    grad_shift = None if shift is None else d.sum(1, keepdim=True)
    product = torch.mul(d, n, out=y)
    grad_gain = product.sum(1, keepdim=True)
    # d/dx of x r(x): r (dn - n mean(dn n)), where dn = d gain.
    d.mul_(gain)
    mean = product.mul_(gain).mean(-1, keepdim=True)
    return d.addcmul_(n, mean, value=-1).mul_(inverse).to(x.dtype), grad_gain, grad_shift


def _compiled_forward(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    if shift is None:
        out, inverse = _fused(x, gain)
    else:
        out, inverse = _fused_shifted(x, gain, shift)
    return out, inverse


def _compiled_backward(
    grad: Tensor, x: Tensor, inverse: Tensor, gain: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Do what :func:`_eager_backward` does."""
    rows = math.gcd(x.shape[1], ROWS)

    def blocks(value: Tensor) -> Tensor:
        return value.reshape(value.shape[0], -1, rows, value.shape[-1])

    parts = blocks(grad), blocks(x), blocks(inverse), gain[:, None]
    if shift is None:
        grad_x, grad_gain = _fused_backward(*parts)
        return grad_x.view_as(x), grad_gain.sum(1, keepdim=True), None
    grad_x, *sums = _fused_shifted_backward(*parts, shift[:, None])
    grad_gain, grad_shift = (part.sum(1, keepdim=True) for part in sums)
    return grad_x.view_as(x), grad_gain, grad_shift


def _normed(x: Tensor) -> tuple[Tensor, Tensor]:
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    return wide * inverse, inverse


def _silu(y: Tensor) -> Tensor:
    return y * torch.sigmoid(y)


def _silu_slope(y: Tensor) -> Tensor:
    s = torch.sigmoid(y)
    return s * (1 + y * (1 - s))


def _norm_slope(d: Tensor, n: Tensor, inverse: Tensor, gain: Tensor) -> Tensor:
    dn = d * gain
    return (dn - n * (dn * n).mean(-1, keepdim=True)) * inverse


@kernels.compiled
def _fused_output(x: Tensor, gain: Tensor) -> Tensor:
    return _silu(_normed(x)[0] * gain).to(x.dtype)


@kernels.compiled
def _fused_shifted_output(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return _silu(_normed(x)[0] * gain + shift).to(x.dtype)


@kernels.compiled
def _fused(x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    n, inverse = _normed(x)
    return _silu(n * gain).to(x.dtype), inverse


@kernels.compiled
def _fused_shifted(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    n, inverse = _normed(x)
    return _silu(n * gain + shift).to(x.dtype), inverse


@kernels.compiled
def _fused_backward(
    grad: Tensor, x: Tensor, inverse: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor]:
    n = x.float() * inverse
    d = grad.float() * _silu_slope(n * gain)
    grad_x = _norm_slope(d, n, inverse, gain).to(x.dtype)
    return grad_x, (d * n).sum(2)


@kernels.compiled
def _fused_shifted_backward(
    grad: Tensor, x: Tensor, inverse: Tensor, gain: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    n = x.float() * inverse
    d = grad.float() * _silu_slope(n * gain + shift)
    grad_x = _norm_slope(d, n, inverse, gain).to(x.dtype)
    return grad_x, (d * n).sum(2), d.sum(2)

"""RMS norms over the last, contiguous axis, computed in float32; those before a SiLU in one go."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from napari_teramind.model import gradients, kernels, native
from napari_teramind.model.gradients import fitted, rows

EPS = 1e-6


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) * weight over the last axis, computed in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., C)."""
        if kernels.compiled_for(x):
            # As lines of pixels, which threads share.
            shape = (
                x.shape if x.ndim == 5 else (1, x.shape[0], x[0, ..., 0].numel(), 1, x.shape[-1])
            )
            part = native.Part(x.contiguous().view(shape))
            (out,) = gradients.norm([part], shape, self.weight, activate=False)
            return out.view_as(x)
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
    if x.device.type != "cpu":
        plain = _fused if kernels.chosen(x.device.type) == "compiled" else _plain
        out: Tensor = plain(x, gain, shift)
        return out
    if kernels.compiled_for(x):
        return gradients.norm([native.Part(x.contiguous())], x.shape, gain, shift)[0]
    if not torch.is_grad_enabled():
        return _forward(x, gain, shift)[0]
    out = _NormSiLU.apply(x, gain, shift)  # type: ignore[no-untyped-call]
    return out


class _NormSiLU(torch.autograd.Function):
    """The same by torch's operations, of which only x and one number a row are kept.

    See :mod:`~napari_teramind.model.gradients`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
        x = x.contiguous()
        out, inverse = _forward(x, gain, shift)
        ctx.save_for_backward(x, inverse, gain, shift)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, inverse, gain, shift = ctx.saved_tensors
        flat, shifts = x.flatten(1, 3), None if shift is None else rows(shift)
        grad_x, grad_gain, grad_shift = _backward(
            grad.reshape(flat.shape), flat, inverse.flatten(1, 3), rows(gain), shifts
        )
        fitting = None if grad_shift is None else fitted(grad_shift, shift)
        return grad_x.view_as(x), fitted(grad_gain, gain), fitting


def _forward(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return SiLU(x r gain + shift) and r (B, y, x, M, 1), float32."""
    gain = rows(gain)[:, :, None, None]
    shift = None if shift is None else rows(shift)[:, :, None, None]
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
    y = x * inverse
    y = y.mul_(gain) if shift is None else torch.addcmul(shift, y, gain, out=y)
    return F.silu(y, inplace=True).to(x.dtype), inverse


def _backward(
    grad: Tensor, x: Tensor, inverse: Tensor, gain: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradient of x (B, n, C), and those of gain and shift as (B, 1, C)."""
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


def _plain(x: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
    y = F.rms_norm(x, (x.shape[-1],), eps=EPS)
    gain = gain.to(x.dtype)
    return F.silu(y * gain if shift is None else torch.addcmul(shift.to(x.dtype), y, gain))


_fused = kernels.compiled(_plain)

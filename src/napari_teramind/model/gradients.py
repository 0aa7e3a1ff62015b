"""Passes over memory on a CPU that autograd follows: norms and sums of rows made of parts.

Of a norm only its parts and one number a row are kept. Autograd would keep several more tensors of
the row's size and go over them one by one; recomputing them is cheaper, since all of this waits for
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_teramind.model import native
from napari_teramind.model.native import NOTHING, Drop, Part


def norm(
    parts: Sequence[Part],
    shape: Sequence[int],
    gain: Tensor,
    shift: Tensor | None = None,
    *,
    activate: bool = True,
    planes: bool = False,
    drop: Drop = NOTHING,
) -> tuple[Tensor, ...]:
    """Norm of a row made of parts, SiLU and dropout; see :func:`native.norm`.

    Returns
    -------
    tuple of Tensor
        The one tensor, or the three planes.
    """
    if not torch.is_grad_enabled():
        out = native.norm(parts, shape, gain, shift, activate=activate, planes=planes, drop=drop)
        return out.unbind(0) if planes else (out,)
    options = {"activate": activate, "drop": drop}
    found: tuple[Tensor, ...] = _Norm.apply(  # type: ignore[no-untyped-call]
        _Form.of(parts, shape), planes, options, gain, shift, *_tensors(parts)
    )
    return found


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form."""
    if not torch.is_grad_enabled():
        return native.gelu(x.contiguous())
    out: Tensor = _GELU.apply(x.contiguous())  # type: ignore[no-untyped-call]
    return out


def add(parts: Sequence[Part], shape: Sequence[int]) -> Tensor:
    """Add parts up to (B, y, x, M, C)."""
    if not torch.is_grad_enabled():
        return native.add(parts, shape)
    out: Tensor = _Add.apply(  # type: ignore[no-untyped-call]
        _Form.of(parts, shape), *_tensors(parts)
    )
    return out


@dataclass(frozen=True)
class _Form:
    """What is known of parts besides their tensors, as autograd wants those by themselves."""

    shape: tuple[int, ...]
    places: tuple[tuple[int, bool], ...]  # offset, and whether there is a second tensor
    sizes: tuple[torch.Size, ...]  # of the tensors

    @classmethod
    def of(cls, parts: Sequence[Part], shape: Sequence[int]) -> _Form:
        places = tuple((part.offset, part.second is not None) for part in parts)
        return cls(tuple(shape), places, tuple(tensor.shape for tensor in _tensors(parts)))

    def empty(self, like: Tensor) -> list[Part]:
        """Make room for the parts' gradients."""
        return self.parts([like.new_empty(size) for size in self.sizes])

    def parts(self, tensors: Sequence[Tensor]) -> list[Part]:
        """Put parts together again; undoes :func:`_tensors`."""
        left = iter(tensors)
        return [
            Part(next(left), offset, second=next(left) if paired else None)
            for offset, paired in self.places
        ]


def _tensors(parts: Sequence[Part]) -> list[Tensor]:
    """Take parts apart."""
    pairs = ((part.tensor, part.second) for part in parts)
    return [tensor for pair in pairs for tensor in pair if tensor is not None]


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        form: _Form,
        planes: bool,
        options: dict[str, Any],
        gain: Tensor,
        shift: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        inverse = tensors[0].new_empty(form.shape[:4], dtype=torch.float32)
        out = native.norm(
            form.parts(tensors), form.shape, gain, shift, planes=planes, inverse=inverse, **options
        )
        ctx.form, ctx.options = form, options
        ctx.save_for_backward(gain, shift, inverse, *tensors)
        return out.unbind(0) if planes else (out,)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gain, shift, inverse, *tensors = ctx.saved_tensors
        form: _Form = ctx.form
        made = form.empty(grads[0])
        sums = native.norm_backward(
            grads, form.parts(tensors), form.shape, inverse, gain, shift, made, **ctx.options
        )
        grad_gain, grad_shift = (
            None if like is None else fitted(part, like)
            for part, like in zip(sums, (gain, shift), strict=True)
        )
        return None, None, None, grad_gain, grad_shift, *_tensors(made)


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, form: _Form, *tensors: Tensor) -> Tensor:
        ctx.form = form
        return native.add(form.parts(tensors), form.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        made = ctx.form.empty(grad)
        native.add_backward(grad, made)
        return None, *_tensors(made)


class _GELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return native.gelu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return native.gelu_backward(grad, *ctx.saved_tensors)


def rows(affine: Tensor) -> Tensor:
    """Turn (C,) or (B, 1, 1, 1, C) into (1 or B, 1, C), float32."""
    return affine.float().view(-1, 1, affine.shape[-1])


def fitted(grad: Tensor, affine: Tensor) -> Tensor:
    """Turn the gradient (B, 1, C) into that of (C,) or (B, 1, 1, 1, C)."""
    return grad.sum_to_size(rows(affine).shape).view_as(affine).to(affine.dtype)

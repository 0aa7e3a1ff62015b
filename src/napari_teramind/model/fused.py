"""What lies between the convolutions of a residual block, in one pass over memory each.

Without gradients, on a CPU, with compiled kernels (:mod:`~napari_teramind.model.native`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_teramind.model import kernels
from napari_teramind.model.convs import SliceConv
from napari_teramind.model.layers import linear
from napari_teramind.model.native import Part, norm


def can_fuse(parts: Sequence[Tensor]) -> bool:
    """Tell whether there are kernels for these tensors, here and now."""
    return (
        not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and kernels.compiled_for(parts[0])
        and all(part.dtype == parts[0].dtype for part in parts)
    )


def side_by_side(tensors: Sequence[Tensor]) -> list[Part]:
    """Let tensors (B, y, x, M, C_i) make up a row of channels, one after the other."""
    parts, offset = [], 0
    for tensor in tensors:
        parts.append(Part(tensor.contiguous(), offset))
        offset += tensor.shape[-1]
    return parts


def norm_conv(
    conv: SliceConv,
    parts: Sequence[Part],
    shape: Sequence[int],
    gain: Tensor,
    shift: Tensor | None = None,
) -> list[Part]:
    """Norm, SiLU and convolution of a row made of parts; what comes out adds up.

    A convolution by three kernels takes its three inputs as the norm writes them, and leaves its
    three outputs for the next pass to add.
    """
    planes = conv.by_three(parts[0].tensor)
    h = norm(parts, shape, gain, shift, planes=planes)
    if not planes:
        return [Part(conv(h))]
    both, first, second = conv.of_planes(h)
    return [Part(both), Part(first, second=second)]


def linear_of(tensors: Sequence[Tensor], conv: SliceConv) -> list[Part]:
    """Apply a 1 x 1 x 1 convolution to tensors side by side; what comes out adds up.

    Those at half of y and x stay so, with a quarter of the work.
    """
    weights = conv.weight.flatten(1).split([tensor.shape[-1] for tensor in tensors], dim=1)
    biases = [conv.bias, *[None] * (len(tensors) - 1)]
    return [
        Part(linear(tensor, weight, bias).contiguous())
        for tensor, weight, bias in zip(tensors, weights, biases, strict=True)
    ]

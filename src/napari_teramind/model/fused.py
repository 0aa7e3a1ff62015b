"""What lies between the convolutions of a residual block, in one pass over memory each.

On a CPU, with compiled kernels (:mod:`~napari_teramind.model.native`), with gradients or without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from napari_teramind.model import kernels
from napari_teramind.model.convs import SliceConv
from napari_teramind.model.gradients import norm
from napari_teramind.model.layers import linear
from napari_teramind.model.native import NOTHING, Drop, Part


def can_fuse(parts: Sequence[Tensor]) -> bool:
    """Tell whether there are kernels for these tensors, here and now."""
    dtype = parts[0].dtype
    if torch.is_autocast_enabled("cpu"):
        # What convolutions and linear layers make.
        dtype = torch.get_autocast_dtype("cpu")
    return kernels.compiled_for(parts[0]) and all(part.dtype == dtype for part in parts)


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
    *,
    drop: Drop = NOTHING,
    resample: Callable[[Tensor], Tensor] | None = None,
) -> list[Part]:
    """Norm, SiLU and convolution of a row made of parts; what comes out adds up.

    A convolution by three kernels takes its three inputs as the norm writes them, and leaves its
    three outputs for the next pass to add.

    Parameters
    ----------
    conv
        The convolution; not one that upsamples.
    parts, shape, gain, shift, drop
        As :func:`~napari_teramind.model.gradients.norm` takes them.
    resample
        Something linear to be done before the convolution.
    """
    planes = conv.by_three(parts[0].tensor)
    made = norm(parts, shape, gain, shift, planes=planes, drop=drop)
    if resample is not None:
        made = tuple(resample(each) for each in made)
    if not planes:
        return [Part(conv(made[0]))]
    both, first, second = conv.of_planes(made)
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

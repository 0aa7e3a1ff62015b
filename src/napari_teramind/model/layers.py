"""Building blocks on activations whose last, contiguous axis is that of the channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_teramind.model import gradients, kernels, native

DRAWS = 2**15
"""Values of the number that :class:`Dropout` draws."""

IMAGES = 16
LEAST_POSITIONS = 1024
"""How :func:`linear` lays positions out, and from how many on."""


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
        hidden = self.fc1(x)
        if kernels.compiled_for(hidden):
            hidden = gradients.gelu(hidden)
        else:
            hidden = F.gelu(hidden, approximate="tanh")
        out: Tensor = self.fc2(hidden)
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

    def draw(self) -> native.Drop:
        """Leave it to a kernel: return what it needs to know."""
        if not self.training or self.share == 0:
            return native.NOTHING
        return native.Drop(self.share, int(torch.randint(2**63 - 1, ()).item()))

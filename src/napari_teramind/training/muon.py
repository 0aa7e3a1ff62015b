"""Muon: momentum whose update of every matrix is made orthogonal; Adam for vectors.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with the scale of Liu et al.
2025 (arXiv 2502.16982), at which learning rates of Adam fit. torch's own Muon takes no kernels of
convolutions, which are most of this network: they count as matrices with a row an output channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more axes, Adam for the others.

    Parameters
    ----------
    params
        What is optimised.
    lr
        Learning rate of both.
    momentum
        Of the matrices; Nesterov's.
    betas, eps
        Of Adam.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; a closure is called first, as torch's optimisers do."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    change = self._of_matrix if p.ndim > 1 else self._of_vector
                    p.sub_(change(p, p.grad, group).view_as(p))
        return loss

    def _of_matrix(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        mean = state["momentum"].lerp_(grad, 1 - group["momentum"])
        matrix = grad.lerp(mean, group["momentum"]).flatten(1)
        scale = 0.2 * math.sqrt(max(matrix.shape))
        return orthogonal(matrix).mul_(group["lr"] * scale)

    def _of_vector(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[p]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        state["step"] += 1
        first, second = group["betas"]
        mean: Tensor = state["mean"].lerp_(grad, 1 - first) / (1 - first ** state["step"])
        square = state["square"].lerp_(grad.square(), 1 - second) / (1 - second ** state["step"])
        return mean.div_(square.sqrt_().add_(group["eps"])).mul_(group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Bring the singular values of a matrix near 1: U S V^T to about U V^T.

    Parameters
    ----------
    matrix
        (rows, columns), float32.

    Returns
    -------
    Tensor
        Of the same shape; singular values from about 0.7 to 1.2, but for those that were below a
        thousandth of the largest.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x

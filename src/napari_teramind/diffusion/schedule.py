"""The linear noise schedule and its re-spacing (Ho et al. 2020; Nichol & Dhariwal 2021).

Only :func:`alphas_bar` needs torch, so that a run can be planned without it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

TRAIN_STEPS = 1000
"""Number T of diffusion times; t runs over 0..T-1."""


@cache
def abar_table() -> np.ndarray:
    """Return abar_t, the products of 1 - beta_t; beta from 1e-4 to 0.02: (1000,) float64."""
    return np.asarray(np.cumprod(1 - np.linspace(1e-4, 0.02, TRAIN_STEPS)))


@cache
def alphas_bar() -> Tensor:
    """Return :func:`abar_table` as a tensor, to be indexed by tensors of times."""
    import torch

    return torch.from_numpy(abar_table().copy())


def timesteps(steps: int) -> list[int]:
    """Return the times of a run with a given number of steps, ascending.

    The smallest integer stride that gives exactly that many is used, as published (15 steps: 0,
    67, ..., 938).

    Raises
    ------
    UserError
        If no integer stride gives ``steps`` times.
    """
    for stride in range(1, TRAIN_STEPS + 1):
        times = range(0, TRAIN_STEPS, stride)
        if len(times) == steps:
            return list(times)
    near = sorted({len(range(0, TRAIN_STEPS, s)) for s in range(1, TRAIN_STEPS + 1)})
    close = sorted(near, key=lambda n: abs(n - steps))[:2]
    raise UserError(
        f"{steps} steps cannot be spaced evenly over {TRAIN_STEPS}; "
        f"use {' or '.join(map(str, sorted(close)))} instead."
    )


def respaced_betas(steps: int) -> np.ndarray:
    """Return beta_i = 1 - abar_i / abar_(i-1) of the re-spaced process: (steps,), t ascending."""
    abar = abar_table()[timesteps(steps)]
    return np.asarray(1 - abar / np.concatenate([[1.0], abar[:-1]]))

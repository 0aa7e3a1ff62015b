"""Samplers as one-step functions: they take x_t and the predicted noise and return x at the next t.

A sampler is local in space, so the caller may advance any part of a field by any step; whole-field
loops live in :mod:`napari_teramind.simulate`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from napari_teramind.diffusion.schedule import alphas_bar, timesteps
from napari_teramind.errors import UserError


@dataclass(frozen=True)
class Step:
    """One step of a sampler: from time t, with abar there and at the time that follows."""

    t: int
    abar: float
    abar_next: float


def plan_steps(sampler: str, steps: int) -> list[Step]:
    """Plan the steps of a run, in the order they are taken (t falls).

    Parameters
    ----------
    sampler
        ``"ddim"``.
    steps
        Number of network evaluations; see :func:`~napari_teramind.diffusion.schedule.timesteps`.
    """
    if sampler != "ddim":
        raise UserError(f"The sampler '{sampler}' is not known; use 'ddim'.")
    times = timesteps(steps)
    abar = [float(alphas_bar()[t]) for t in times]
    following = [1.0, *abar[:-1]]
    return [Step(t, a, n) for t, a, n in zip(times, abar, following, strict=True)][::-1]


def ddim_step(x: Tensor, noise: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Deterministic DDIM step (Song et al. 2021, Eq. 12 at eta 0).

    Parameters
    ----------
    x
        x_t, float32.
    noise
        Predicted noise, of the same shape.

    Returns
    -------
    tuple
        x at the next time, and the predicted x0 clamped to [-1, 1], from which the noise was
        computed again.
    """
    x0 = ((x - (1 - step.abar) ** 0.5 * noise) / step.abar**0.5).clamp(-1, 1)
    noise = (x - step.abar**0.5 * x0) / (1 - step.abar) ** 0.5
    return step.abar_next**0.5 * x0 + (1 - step.abar_next) ** 0.5 * noise, x0

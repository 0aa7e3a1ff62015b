"""Samplers as one-step functions: they take x_t and the predicted noise and return x at the next t.

A sampler is local in space, so the caller may advance any part of a field by any step; whole-field
loops live in :mod:`napari_teramind.simulate`. Nothing here imports torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_teramind.diffusion.schedule import abar_table, timesteps
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SAMPLERS = ("ddim", "dpm++2m")
"""Names of the samplers."""


@dataclass(frozen=True)
class Step:
    """One step of a run: from time t, with abar there and at the times around it.

    Attributes
    ----------
    sampler
        Name of the sampler.
    t
        Time at which the network is evaluated.
    abar, abar_next
        abar at t, and at the time that follows (1 after the last step).
    abar_previous
        abar at the time of the step before, or None for the first step: multistep samplers use
        the x0 that was predicted there.
    """

    sampler: str
    t: int
    abar: float
    abar_next: float
    abar_previous: float | None = None

    @property
    def needs_previous_x0(self) -> bool:
        """Whether the step before must leave its x0."""
        return self.sampler == "dpm++2m" and self.abar_previous is not None and self.abar_next < 1


def plan_steps(sampler: str, steps: int) -> list[Step]:
    """Plan the steps of a run, in the order they are taken (t falls).

    Parameters
    ----------
    sampler
        ``"ddim"``, as published, or ``"dpm++2m"``, which needs fewer steps.
    steps
        Number of network evaluations; see :func:`~napari_teramind.diffusion.schedule.timesteps`.

    Raises
    ------
    UserError
        If there is no such sampler, or the steps cannot be spaced.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"The sampler '{sampler}' is not known; use {' or '.join(SAMPLERS)}.")
    times = timesteps(steps)[::-1]
    abar = [float(abar_table()[t]) for t in times]
    return [
        Step(sampler, t, a, following, before)
        for t, a, following, before in zip(
            times, abar, [*abar[1:], 1.0], [None, *abar[:-1]], strict=True
        )
    ]


def predicted_x0(x: Tensor, noise: Tensor, step: Step) -> Tensor:
    """Return the image that x_t and its noise stand for, clamped to [-1, 1]."""
    x0: Tensor = (x - (1 - step.abar) ** 0.5 * noise) / step.abar**0.5
    return x0.clamp(-1, 1)


def take_step(
    x: Tensor, noise: Tensor, step: Step, x0_previous: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Take one step of any sampler.

    Parameters
    ----------
    x
        x_t, float32.
    noise
        Predicted noise, of the same shape.
    step
        From :func:`plan_steps`.
    x0_previous
        The x0 that the step before returned; needed where ``step.needs_previous_x0``.

    Returns
    -------
    tuple
        x at the next time, and the predicted x0 clamped to [-1, 1].
    """
    if step.sampler == "ddim":
        return ddim_step(x, noise, step)
    return dpm_solver_step(x, noise, step, x0_previous)


def ddim_step(x: Tensor, noise: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Deterministic DDIM step (Song et al. 2021, Eq. 12 at eta 0).

    The noise is computed again from the clamped x0, as published.
    """
    x0 = predicted_x0(x, noise, step)
    noise = (x - step.abar**0.5 * x0) / (1 - step.abar) ** 0.5
    return step.abar_next**0.5 * x0 + (1 - step.abar_next) ** 0.5 * noise, x0


def dpm_solver_step(
    x: Tensor, noise: Tensor, step: Step, x0_previous: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Take a step of DPM-Solver++ (2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2).

    The first step and the last, which ends at the image itself, are of first order.
    """
    x0 = predicted_x0(x, noise, step)
    if step.abar_next >= 1:
        return x0, x0
    h = _log_snr(step.abar_next) - _log_snr(step.abar)
    data = x0
    if step.abar_previous is not None:
        if x0_previous is None:
            raise ValueError("this step needs the x0 of the step before")
        r = (_log_snr(step.abar) - _log_snr(step.abar_previous)) / h
        data = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * x0_previous
    shrink = ((1 - step.abar_next) / (1 - step.abar)) ** 0.5
    return shrink * x - step.abar_next**0.5 * math.expm1(-h) * data, x0


def _log_snr(abar: float) -> float:
    """Half the logarithm of the signal-to-noise ratio: lambda = log(alpha / sigma)."""
    return 0.5 * math.log(abar / (1 - abar))

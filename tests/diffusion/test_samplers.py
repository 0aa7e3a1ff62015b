"""Samplers against an implementation that we did not write, whose schedule is in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_teramind.diffusion.samplers import SAMPLERS, plan_steps, take_step
from napari_teramind.diffusion.schedule import abar_table
from napari_teramind.errors import UserError

diffusers = pytest.importorskip("diffusers")


def fake_noise(x: Tensor, t: int) -> Tensor:
    """Stand in for a network: smooth, bounded, different for every time."""
    abar = float(abar_table()[t])
    x0 = 0.8 * torch.tanh(x + 0.3 * np.sin(t))
    return (x - abar**0.5 * x0) / (1 - abar) ** 0.5


def ours(sampler: str, steps: int, x: Tensor) -> Tensor:
    x0 = None
    for step in plan_steps(sampler, steps):
        x, x0 = take_step(x, fake_noise(x, step.t), step, x0)
    return x


def theirs(scheduler: object, steps: int, x: Tensor) -> Tensor:
    times = [step.t for step in plan_steps("ddim", steps)]
    scheduler.set_timesteps(timesteps=times)  # type: ignore[attr-defined]
    for t in times:
        x = scheduler.step(fake_noise(x, t), torch.tensor(t), x).prev_sample  # type: ignore[attr-defined]
    return x


@pytest.mark.parametrize("steps", [1, 2, 5, 15, 25])
def test_dpm_solver_equals_diffusers(steps: int) -> None:
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    scheduler = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
    )
    torch.testing.assert_close(
        ours("dpm++2m", steps, x), theirs(scheduler, steps, x), atol=5e-4, rtol=1e-3
    )


def test_ddim_equals_diffusers() -> None:
    start = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    x = start
    scheduler = diffusers.DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=True,
        set_alpha_to_one=True, timestep_spacing="leading",
    )  # fmt: skip
    times = [step.t for step in plan_steps("ddim", 8)]
    scheduler.set_timesteps(8)
    assert scheduler.timesteps.tolist() == times
    for t in times:
        step = scheduler.step(fake_noise(x, t), t, x, use_clipped_model_output=True)
        x = step.prev_sample
    torch.testing.assert_close(ours("ddim", 8, start), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_perfect_network_is_followed_to_its_image(sampler: str) -> None:
    """Where x0 is predicted exactly, every sampler ends there."""
    image = torch.linspace(-0.9, 0.9, 64).double()
    x = torch.randn(64, generator=torch.Generator().manual_seed(1)).double()
    x0 = None
    for step in plan_steps(sampler, 10):
        noise = (x - step.abar**0.5 * image) / (1 - step.abar) ** 0.5
        x, x0 = take_step(x, noise, step, x0)
    torch.testing.assert_close(x, image, atol=1e-6, rtol=0)


def test_a_step_that_needs_the_one_before_says_so() -> None:
    second = plan_steps("dpm++2m", 10)[1]
    with pytest.raises(ValueError, match="x0 of the step before"):
        take_step(torch.zeros(1), torch.zeros(1), second)


def test_unknown_samplers_are_named() -> None:
    with pytest.raises(UserError, match=r"'euler' is not known; use ddim or dpm\+\+2m"):
        plan_steps("euler", 15)

"""One optimiser step; needs only torch and NumPy, and fields as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_teramind.diffusion.schedule import TRAIN_STEPS
from napari_teramind.model.config import ModelConfig
from napari_teramind.model.network import TeraMind
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.loss import Batch, diffuse, losses
from napari_teramind.training.muon import Muon
from napari_teramind.training.samples import Sample


@dataclass
class Trainee:
    """What a step changes.

    Attributes
    ----------
    model
        The network in training.
    average
        Running mean of its weights, or None.
    optimizer
        Over the model's parameters.
    scaler
        Of the gradient; does nothing but in float16.
    """

    model: TeraMind
    average: TeraMind | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    @property
    def result(self) -> TeraMind:
        """The network to save and to judge: the average where there is one."""
        return self.average or self.model


class Objective(nn.Module):
    """The two terms of the loss as a module's output, which is what DDP can wrap.

    Parameters
    ----------
    model
        The network.
    weight
        Of the term of the shifted patches; at 0 the decoder does not run on them.
    """

    def __init__(self, model: TeraMind, weight: float) -> None:
        super().__init__()
        self.model = model
        self.weight = weight

    def forward(
        self, noisy: Tensor, target: Tensor, genes: Tensor, mask: Tensor, t: Tensor
    ) -> Tensor:
        """Return (2,): the collage term and the weighted term of the shifted patches."""
        batch = Batch(noisy, target, genes, mask, t)
        collage, shifted = losses(self.model, batch, shifted=self.weight > 0)
        return torch.stack((collage, self.weight * shifted))


def start(
    shape: ModelConfig, panel: tuple[str, ...], config: TrainConfig, device: torch.device
) -> Trainee:
    """Return fresh weights and an optimiser, from the run's seed."""
    torch.manual_seed(config.seed)
    model = TeraMind(shape).to(device)
    model.gene_names = panel
    average = None
    if config.ema:
        average = TeraMind(shape).to(device).eval().requires_grad_(False)
        average.gene_names = panel
        average.load_state_dict(model.state_dict())
    kind = Muon if config.optimizer == "muon" else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=config.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    return Trainee(model, average, optimizer, scaler)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to ``final_lr``."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * (config.final_lr + (1 - config.final_lr) * cosine)


def make_batch(
    samples: Iterable[Sample], slots: range, shape: ModelConfig, config: TrainConfig, number: int
) -> Batch:
    """Diffuse the samples of evaluation ``number``; on the CPU.

    Parameters
    ----------
    samples
        Those of the batch's ``slots``.
    slots
        Which samples of the whole batch these are: times and noise are drawn for all of it, so
        that they do not depend on how it is shared out.
    shape
        Of the network.
    config
        Settings; batch and seed are used.
    number
        Of the evaluation, over the whole run.
    """
    found = list(samples)
    clean, genes, mask = (
        torch.from_numpy(np.stack([getattr(s, name) for s in found]))
        for name in ("clean", "genes", "mask")
    )
    generator = torch.Generator().manual_seed(config.seed * 2**32 + number)
    t = draw_times(config, generator)
    noise = torch.randn((config.batch, *clean.shape[1:]), generator=generator)
    mine = slice(slots.start, slots.stop, slots.step)
    return diffuse(clean, genes, mask[:, None, None], t[mine], noise[mine], shape.prediction)


def draw_times(config: TrainConfig, generator: torch.Generator) -> Tensor:
    """Draw the times of a batch, (batch,): uniform, but for the share that ``focus`` names."""
    t = torch.randint(TRAIN_STEPS, (config.batch,), generator=generator)
    if config.focus is None:
        return t
    low, high, share = config.focus
    focused = torch.randint(low, high, (config.batch,), generator=generator)
    return torch.where(torch.rand(config.batch, generator=generator) < share, focused, t)


def precision_context(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of mixed precision, or one that does nothing."""
    if config.precision == "float32":
        return nullcontext()
    kind = torch.bfloat16 if config.precision == "bfloat16" else torch.float16
    return torch.autocast(device.type, kind)


def take_step(
    trainee: Trainee,
    objective: Callable[..., Tensor],
    batches: Iterable[Batch],
    config: TrainConfig,
    step: int,
    rank: int = 0,
) -> tuple[Tensor, Tensor]:
    """Take one optimiser step.

    Parameters
    ----------
    trainee
        What is trained; changed.
    objective
        An :class:`Objective` of its model, perhaps wrapped for several processes.
    batches
        ``config.accumulate`` batches on the CPU.
    config
        Settings.
    step
        Steps taken before this one.
    rank
        Number of this process, which gets its own dropout.

    Returns
    -------
    tuple
        (2,) the two terms of the loss, and the gradient's norm before clipping; on the device.
    """
    model, device = trainee.model, trainee.model.device
    torch.manual_seed((config.seed * 2**32 + step + (rank << 60)) % 2**63)  # dropout
    for group in trainee.optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    trainee.optimizer.zero_grad(set_to_none=True)
    terms = torch.zeros(2, device=device)
    for k, batch in enumerate(batches):
        last = k == config.accumulate - 1
        # Gradients of several processes need to be added up only once a step.
        waits = nullcontext() if last else getattr(objective, "no_sync", nullcontext)()
        parts = (batch.noisy, batch.target, batch.genes, batch.mask, batch.t)
        with waits:
            with precision_context(config, device):
                found = objective(*(part.to(device, non_blocking=True) for part in parts))
            scaled = trainee.scaler.scale(found.sum() / config.accumulate)
            scaled.backward()
        terms += found.detach() / config.accumulate
    trainee.scaler.unscale_(trainee.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    trainee.scaler.step(trainee.optimizer)
    trainee.scaler.update()
    if trainee.average is not None:
        update_average(trainee.average, model, config.ema, step)
    return terms, norm


@torch.no_grad()
def update_average(average: TeraMind, model: TeraMind, decay: float, step: int) -> None:
    """Update the running mean of the weights; young averages forget faster."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)

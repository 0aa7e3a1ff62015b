"""What a training run will take, from a few timed steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil
import torch

from napari_teramind.model import kernels
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.loop import network_shape
from napari_teramind.training.source import SampleSource, common_panel
from napari_teramind.training.step import Objective, make_batch, start, take_step

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

PATIENCE = 20.0
"""Seconds that a step may be expected to take for it to be tried with its whole batch."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    seconds_per_step
        Of an optimiser step.
    memory_bytes
        Of the process on a CPU, of the device's memory on CUDA.
    parameters
        Of the network.
    genes
        Of the common panel.
    measured
        Whether the whole batch was tried; else time and memory are scaled up from one sample.
    """

    seconds_per_step: float
    memory_bytes: int
    parameters: int
    genes: int
    measured: bool


def estimate(
    brains: Sequence[BrainStore],
    config: TrainConfig,
    device: str = "cpu",
    report: Callable[[str, int, int], None] | None = None,
) -> Estimate:
    """Take a few steps and time them; nothing is written.

    The network is thrown away. One sample is tried first; the whole batch only if it will take
    less than :data:`PATIENCE` seconds and less memory than is free.

    Parameters
    ----------
    brains, config, device
        As for :func:`~napari_teramind.training.fit`.
    report
        ``report(message, done, total)``.

    Raises
    ------
    UserError
        If the brains do not go together or the device has not the memory for one sample.
    """
    with kernels.using(kernels.decide(config.kernels, device)):
        return _estimate(brains, config, device, report or (lambda *_: None))


def _estimate(
    brains: Sequence[BrainStore],
    config: TrainConfig,
    device: str,
    tell: Callable[[str, int, int], None],
) -> Estimate:
    panel = common_panel(brains, config.genes)
    shape, _ = network_shape(brains, panel, config)
    tell("Reading a first block", 0, 4)
    one = replace(config, batch=1, accumulate=1, processes=1)
    trial = _Trial(SampleSource(brains, panel, shape, one), torch.device(device))
    tell("Timing the network", 1, 4)
    trial.run(1)  # allocations and choices of the first step
    base = trial.peak()
    seconds = trial.run(1)
    tell("Timing the network", 2, 4)
    # Two samples tell what each more takes.
    trial.run(2)
    more = max(0, trial.peak() - base)
    share = config.batch // config.processes
    memory = base + more * (share - 1)
    expected = seconds * share * config.accumulate
    measured = expected < PATIENCE and memory < 0.8 * trial.free()
    tell("Timing the network", 3, 4)
    if measured:
        expected = trial.run(share) * config.accumulate
        memory = trial.peak()
    tell("Timing the network", 4, 4)
    return Estimate(expected, memory, trial.parameters, len(panel), measured)


class _Trial:
    """A network to time."""

    def __init__(self, source: SampleSource, device: torch.device) -> None:
        self._source, self._device = source, device
        self._trainee = start(source.config, source.panel, source.train, device)
        self._objective = Objective(self._trainee.model.train(), source.train.shifted)
        self._steps = 0
        self.parameters = sum(p.numel() for p in self._trainee.model.parameters())

    def run(self, batch: int) -> float:
        """Take a step and return its seconds."""
        config = replace(self._source.train, batch=batch)
        samples = [self._source[0] for _ in range(batch)]
        parts = make_batch(samples, range(batch), self._source.config, config, self._steps)
        began = time.perf_counter()
        terms, _ = take_step(self._trainee, self._objective, [parts], config, self._steps)
        terms.tolist()  # waits for the device
        self._steps += 1
        return time.perf_counter() - began

    def peak(self) -> int:
        """Return the most memory that was in use so far."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return _peak_memory()

    def free(self) -> int:
        """Return the memory that this process may use in all."""
        if self._device.type == "cuda":
            return int(torch.cuda.mem_get_info(self._device)[0]) + self.peak()
        return int(psutil.virtual_memory().available) + psutil.Process().memory_info().rss


def _peak_memory() -> int:
    """Return the most memory that this process ever held, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

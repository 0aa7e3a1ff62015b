"""Several processes that train one network together, by Lightning Fabric.

Fabric was chosen over accelerate because it is the smaller of two well-kept libraries, starts the
other processes by itself (here, on a server, under torchrun or Slurm) and leaves the loop alone.
Every process draws its own part of the same batch, so the sum does not depend on their number but
for rounding.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor

from napari_teramind.errors import UserError
from napari_teramind.training.step import Objective


def is_first() -> bool:
    """Whether this process is the one that reports and writes, also before the others exist."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


class Team:
    """The processes of a run.

    Parameters
    ----------
    device
        ``"cpu"``, ``"mps"``, ``"cuda"`` or ``"cuda:1"``.
    processes
        How many; on CUDA, each with a device of its own, from the first on.
    """

    def __init__(self, device: str, processes: int) -> None:
        kind, _, number = device.partition(":")
        if processes > 1 and kind == "mps":
            raise UserError("Training on 'mps' takes one process; use --processes 1.")
        if kind == "cuda" and processes > torch.cuda.device_count():
            raise UserError(
                f"There are {torch.cuda.device_count()} GPUs and {processes} processes were asked "
                "for; use as many as there are GPUs."
            )
        single = [int(number or 0)] if kind == "cuda" else 1
        self._fabric = Fabric(
            accelerator=kind,
            devices=processes if processes > 1 else single,
            strategy="ddp" if processes > 1 else "auto",
        )
        self.size = processes

    def launch(self) -> None:
        """Start the others, which run this program's command again, and meet them."""
        with _safe_path():
            self._fabric.launch()
        if self.rank:
            parent = psutil.Process(os.getppid())
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self._fabric.global_rank

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self._fabric.device

    def slots(self, batch: int) -> range:
        """Samples of a batch that this process draws."""
        return range(self.rank, batch, self.size)

    def share(self, objective: Objective) -> Shared | Objective:
        """Return the objective such that gradients are the mean over all processes."""
        return Shared(self._fabric, objective) if self.size > 1 else objective

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes."""
        if self.size == 1:
            return values
        mean = self._fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def first_says(self, value: bool) -> bool:
        """Return what the first process says."""
        return bool(self._fabric.broadcast(value)) if self.size > 1 else value


class Shared:
    """An objective whose gradients are averaged over the processes."""

    def __init__(self, fabric: Fabric, objective: Objective) -> None:
        self._fabric = fabric
        self._module = fabric.setup_module(objective, move_to_device=False)

    def __call__(self, *batch: Tensor) -> Tensor:
        """Return the two terms of the loss on this process's part of the batch."""
        terms: Tensor = self._module(*batch)
        return terms

    def no_sync(self) -> AbstractContextManager[Any]:
        """Return the context in which gradients are kept for a later evaluation to share."""
        return self._fabric.no_backward_sync(self._module)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Keep processes that are started from importing files of the current folder."""
    name = "PYTHONSAFEPATH"
    ours = name not in os.environ
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if ours:
            del os.environ[name]


def _end_with(parent: psutil.Process) -> None:
    """End this process when the one that started it is gone, which some devices never notice."""
    parent.wait()
    os._exit(1)

"""The state of a run: what a step changes, saved and restored exactly."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from napari_teramind.errors import UserError
from napari_teramind.model.checkpoint import write_atomically
from napari_teramind.model.config import ModelConfig
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.folder import RunFolder
from napari_teramind.training.parallel import Team
from napari_teramind.training.record import STATE
from napari_teramind.training.step import Trainee, start
from napari_teramind.training.weights import start_from

RECENT = 50
"""Steps over which the loss that is told is averaged."""


@dataclass
class Run:
    """Everything that changes during training and is saved to resume exactly.

    Attributes
    ----------
    trainee
        Weights, their average, the optimiser.
    step, seconds
        Steps taken and time trained, over all sessions.
    recent
        Losses of the last up to 50 steps.
    best
        The lowest held-out loss.
    is_best
        Whether that is the last one measured.
    """

    trainee: Trainee
    step: int = 0
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list)
    best: float = math.inf
    is_best: bool = False

    @property
    def loss(self) -> float:
        """Mean loss of the recent steps; not a number before the first."""
        return sum(self.recent) / len(self.recent) if self.recent else math.nan

    def add(self, loss: float) -> None:
        """Take note of the loss of a step."""
        self.recent = [*self.recent[1 - RECENT :], loss]

    def judge(self, held_out_loss: float) -> None:
        """Take note of a held-out loss."""
        self.is_best = held_out_loss < self.best
        self.best = min(self.best, held_out_loss)


def begin(
    shape: ModelConfig,
    panel: tuple[str, ...],
    config: TrainConfig,
    team: Team,
    folder: RunFolder | None,
    run_dir: Path,
) -> Run:
    """Return the saved state of the run, or a fresh one; open the folder at its step."""
    run = Run(start(shape, panel, config, team.device))
    state = run_dir / STATE
    if state.exists():
        _restore(run, state)
    elif config.init is not None:
        begun = start_from(run.trainee.model, config.init)
        if run.trainee.average is not None:
            run.trainee.average.load_state_dict(run.trainee.model.state_dict())
        if folder is not None:
            folder.add_to_header(init=begun)
    if folder is not None:
        folder.begin(run.step)
        verb = "Going on" if run.step else "Starting"
        count = sum(p.numel() for p in run.trainee.model.parameters())
        folder.log.info(
            "%s at step %d of %d: %s parameters, %d genes, %s, %d process%s on %s",
            verb,
            run.step,
            config.steps,
            f"{count:,}",
            len(panel),
            config.precision,
            team.size,
            "" if team.size == 1 else "es",
            team.device,
        )
    return run


def save(run: Run, folder: RunFolder, config: TrainConfig, measured: bool) -> None:
    """Write weights and, last, the state that they belong to, each atomically."""
    folder.save_weights(run.trainee.result, {"step": run.step, "seconds": round(run.seconds, 1)})
    if measured:
        folder.keep_weights(run.step, config.keep, run.is_best)
    buffer = io.BytesIO()
    trainee = run.trainee
    state: dict[str, Any] = {
        "model": trainee.model.state_dict(),
        "optimizer": trainee.optimizer.state_dict(),
        "scaler": trainee.scaler.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
        "recent": run.recent,
        "best": run.best,
    }
    if trainee.average is not None:
        state["average"] = trainee.average.state_dict()
    torch.save(state, buffer)
    write_atomically(folder.path / STATE, buffer.getvalue())


def _restore(run: Run, path: Path) -> None:
    """Load a saved state; only tensors and plain values are read."""
    trainee = run.trainee
    try:
        state: dict[str, Any] = torch.load(
            path, map_location=trainee.model.device, weights_only=True
        )
        trainee.model.load_state_dict(state["model"])
        trainee.optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):
            trainee.scaler.load_state_dict(state["scaler"])
        if trainee.average is not None:
            trainee.average.load_state_dict(state["average"])
        run.step, run.seconds = int(state["step"]), float(state["seconds"])
        run.recent = list(state["recent"])
        # Runs of earlier versions did not validate.
        run.best = float(state.get("best", math.inf))
    except Exception as error:
        raise UserError(f"The training state {path} is damaged; start a new run.") from error

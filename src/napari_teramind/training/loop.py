"""The training loop: a run folder that can be read by a person and resumed by us."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_teramind.errors import UserError
from napari_teramind.model.checkpoint import save_model, write_atomically
from napari_teramind.model.config import ModelConfig
from napari_teramind.model.network import TeraMind
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.loss import Batch, diffuse, losses
from napari_teramind.training.source import SampleSource, common_panel

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

Report = Callable[[str, int, int], None]

STATE = "state.pt"
WEIGHTS = "last.safetensors"
METRICS = "metrics.csv"
CONFIG = "config.json"


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training run.

    Attributes
    ----------
    checkpoint
        The weights written last.
    step
        Optimiser steps taken, over all sessions of the run.
    loss
        Mean loss of the last up to 50 steps.
    finished
        Whether all steps were taken (not stopped, not out of time).
    """

    checkpoint: Path
    step: int
    loss: float
    finished: bool


@dataclass
class _Run:
    """Everything that changes during training and is saved to resume exactly."""

    model: TeraMind
    average: TeraMind | None
    optimizer: torch.optim.Adam
    step: int = 0
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list)


def fit(
    brains: Sequence[BrainStore],
    run_dir: str | os.PathLike[str],
    config: TrainConfig,
    report: Report | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
    resume: bool = False,
) -> FitResult:
    """Train a network on brain stores.

    Parameters
    ----------
    brains
        Stores to train on.
    run_dir
        Folder of the run: ``config.json``, ``metrics.csv``, ``last.safetensors`` and the state.
    config
        The settings. A resumed run must have the same, but for steps and time limit.
    report
        ``report(message, done, total)`` in optimiser steps.
    should_stop
        Asked after every step; training is saved and ends when it says True.
    device
        Where to train.
    resume
        Go on with the run in ``run_dir`` instead of refusing a folder that holds one.

    Returns
    -------
    FitResult
        Where the weights are, and how far training came.

    Raises
    ------
    UserError
        If the folder holds a run and ``resume`` is False, or a run with other settings.
    """
    run_dir = Path(run_dir)
    panel = common_panel(brains, config.genes)
    stains = brains[0].stain_names
    for brain in brains[1:]:
        if brain.stain_names != stains:
            raise UserError(
                f"The brain at {brain.path} has other stains ({', '.join(brain.stain_names)}) than "
                f"{brains[0].path} ({', '.join(stains)}); train on brains with the same stains."
            )
    shape = ModelConfig(
        genes=len(panel),
        stains=len(stains),
        gene_slices=config.gene_slices,
        patch=config.patch,
        channels=config.channels,
        time_channels=8 * config.channels,
        gene_channels=config.gene_channels,
        dropout=config.dropout,
        prediction=config.prediction,
    )
    source = SampleSource(brains, panel, shape, config)
    header = {"train": config.to_dict(), "model": shape.to_dict(), "genes": list(panel)}
    _open_run(run_dir, header, resume)
    run = _start(shape, panel, config, device)
    if resume and (run_dir / STATE).exists():
        _restore(run, run_dir / STATE)
    return _loop(run, source, config, run_dir, header, report, should_stop)


def _loop(
    run: _Run,
    source: SampleSource,
    config: TrainConfig,
    run_dir: Path,
    header: dict[str, Any],
    report: Report | None,
    should_stop: Callable[[], bool] | None,
) -> FitResult:
    """Take steps until done, stopped or out of time; save now and then and at the end."""
    began, earlier = time.monotonic(), run.seconds
    saved = began
    metrics: list[list[Any]] = []
    run.model.train()
    while run.step < config.steps:
        loss, collage, shifted, norm = _step(run, source, config)
        run.step += 1
        now = time.monotonic()
        run.seconds = earlier + now - began
        run.recent = [*run.recent[-49:], loss]
        metrics.append([run.step, round(run.seconds, 2), loss, collage, shifted, norm])
        if report is not None:
            mean = sum(run.recent) / len(run.recent)
            report(f"Training, loss {mean:.3f}", run.step, config.steps)
        out_of_time = config.time_limit is not None and now - began >= config.time_limit
        stop = out_of_time or (should_stop is not None and should_stop())
        if now - saved >= config.save_every or stop:
            _save(run, run_dir, header, metrics)
            saved, metrics = now, []
        if stop:
            break
    _save(run, run_dir, header, metrics)
    mean = sum(run.recent) / len(run.recent) if run.recent else math.nan
    return FitResult(run_dir / WEIGHTS, run.step, mean, run.step >= config.steps)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to ``final_lr``."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * (config.final_lr + (1 - config.final_lr) * cosine)


def make_batch(
    source: SampleSource, config: TrainConfig, number: int, device: torch.device
) -> Batch:
    """Draw and diffuse batch ``number``; the same for a number, whatever was drawn before."""
    samples = [source[number * config.batch + k] for k in range(config.batch)]
    clean, genes, mask = (
        torch.from_numpy(np.stack([getattr(s, name) for s in samples])).to(device)
        for name in ("clean", "genes", "mask")
    )
    generator = torch.Generator().manual_seed(config.seed * 2**32 + number)
    t = torch.randint(1000, (config.batch,), generator=generator).to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device)
    return diffuse(clean, genes, mask[:, None, None], t, noise, source.config.prediction)


def _step(
    run: _Run, source: SampleSource, config: TrainConfig
) -> tuple[float, float, float, float]:
    """Take one optimiser step; returns loss, its two terms, and the gradient's norm."""
    device = run.model.device
    torch.manual_seed(config.seed * 2**32 + run.step)  # dropout
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.step)
    run.optimizer.zero_grad(set_to_none=True)
    terms = torch.zeros(2, device=device)
    for k in range(config.accumulate):
        batch = make_batch(source, config, run.step * config.accumulate + k, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            collage, shifted = losses(run.model, batch)
        ((collage + shifted) / config.accumulate).backward()  # type: ignore[no-untyped-call]
        terms += torch.stack([collage.detach(), shifted.detach()]) / config.accumulate
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.clip)
    run.optimizer.step()
    if run.average is not None:
        _update_average(run.average, run.model, config.ema, run.step)
    collage_loss, shifted_loss = terms.tolist()
    if not math.isfinite(collage_loss + shifted_loss):
        raise RuntimeError(f"The loss is not finite at step {run.step}; lower the learning rate.")
    return collage_loss + shifted_loss, collage_loss, shifted_loss, float(norm)


@torch.no_grad()
def _update_average(average: TeraMind, model: TeraMind, decay: float, step: int) -> None:
    """Update the running mean of the weights; young averages forget faster."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def _start(shape: ModelConfig, panel: tuple[str, ...], config: TrainConfig, device: str) -> _Run:
    """Fresh weights and optimiser from the run's seed."""
    torch.manual_seed(config.seed)
    model = TeraMind(shape).to(device)
    model.gene_names = panel
    average = None
    if config.ema:
        average = TeraMind(shape).to(device).eval().requires_grad_(False)
        average.gene_names = panel
        average.load_state_dict(model.state_dict())
    return _Run(model, average, torch.optim.Adam(model.parameters(), lr=config.learning_rate))


def _open_run(run_dir: Path, header: dict[str, Any], resume: bool) -> None:
    """Create the run folder, or check that an existing one may be gone on with."""
    target = run_dir / CONFIG
    if target.exists():
        if not resume:
            raise UserError(
                f"{run_dir} holds a training run already; choose another folder or resume it."
            )
        old = json.loads(target.read_text())
        free = {"steps", "time_limit", "save_every"}
        for part in ("train", "model"):
            for key, value in json.loads(json.dumps(header[part])).items():
                if key not in free and old[part].get(key) != value:
                    raise UserError(
                        f"The run in {run_dir} was started with {key} = {old[part].get(key)}, "
                        f"not {value}; resume it with its own settings."
                    )
        if old["genes"] != header["genes"]:
            raise UserError(
                f"The run in {run_dir} was started with another gene panel; "
                "resume it with the same brains."
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json.dumps(header, indent=2).encode())


def _save(run: _Run, run_dir: Path, header: dict[str, Any], metrics: list[list[Any]]) -> None:
    """Write metrics, weights and, last, the state that they belong to, each atomically."""
    path = run_dir / METRICS
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
    known = metrics[0][0] if metrics else run.step + 1
    rows = [row for row in rows if int(row[0]) < known]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["step", "seconds", "loss", "collage", "shifted", "gradient_norm"])
    writer.writerows([*rows, *metrics])
    write_atomically(path, table.getvalue().encode())
    provenance = {**header, "step": run.step, "seconds": round(run.seconds, 1)}
    save_model(run.average or run.model, run_dir / WEIGHTS, provenance)
    buffer = io.BytesIO()
    state: dict[str, Any] = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
        "recent": run.recent,
    }
    if run.average is not None:
        state["average"] = run.average.state_dict()
    torch.save(state, buffer)
    write_atomically(run_dir / STATE, buffer.getvalue())


def _restore(run: _Run, path: Path) -> None:
    """Load a saved state; only tensors and plain values are read."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=run.model.device, weights_only=True)
    except Exception as error:
        raise UserError(f"The training state {path} is damaged; start a new run.") from error
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    if run.average is not None:
        average: dict[str, Tensor] = state["average"]
        run.average.load_state_dict(average)
    run.step, run.seconds, run.recent = state["step"], state["seconds"], list(state["recent"])

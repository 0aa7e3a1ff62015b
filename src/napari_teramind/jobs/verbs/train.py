"""Training a network."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_teramind.jobs.events import Measured, Pictured
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import TrainSpec, dump_spec
from napari_teramind.jobs.verbs.common import Result, pick_device, read_panel
from napari_teramind.words import about

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.training import TrainConfig
    from napari_teramind.training.loop import FitResult, Moment

MEASURED_INTERVAL = 0.5
"""Seconds between two events with a training loss: enough for a curve, whatever a step takes."""


def train(spec: TrainSpec, job: JobContext) -> Result:
    """Fit a network to brains."""
    from napari_teramind.brain import open_brain
    from napari_teramind.training import TrainConfig, fit

    config = TrainConfig(genes=read_panel(spec.genes), **spec.settings())
    brains = [open_brain(path) for path in spec.brains]
    device = pick_device(spec.device)
    if spec.dry_run:
        return _dry_run(brains, config, device, job)
    if spec.time_limit is not None:
        job.ends_within(spec.time_limit)
    with _stopping_on_signals() as asked:
        fitted = fit(
            brains,
            spec.out,
            config,
            report=job.report,
            should_stop=asked.is_set,
            device=device,
            resume=spec.resume,
            validation=[open_brain(path) for path in spec.validation],
            show=Teller(job).show,
            # With whole paths, so that it can be run again from anywhere.
            job=json.loads(dump_spec(spec)),
        )
    if asked.is_set() and not fitted.finished:
        raise KeyboardInterrupt(
            f"Training was stopped at step {fitted.step} and saved in {spec.out}; resume it to go "
            "on."
        )
    return _result(fitted, config)


def _result(fitted: FitResult, config: TrainConfig) -> Result:
    from napari_teramind.training.record import read_record

    why = "" if fitted.finished else f" of {config.steps}, and was stopped"
    if not fitted.finished and config.time_limit is not None:
        why = f" of {config.steps}, as the time was up"
    record = read_record(fitted.checkpoint.parent)
    best = record.checkpoint if record is not None else None
    return {
        "path": str(fitted.checkpoint),
        "best": str(best or fitted.checkpoint),
        "step": fitted.step,
        "loss": fitted.loss,
        "finished": fitted.finished,
        "summary": [
            f"Trained {fitted.step} steps{why}; the loss is {fitted.loss:.4f}.",
            f"The network is in {fitted.checkpoint}.",
        ],
    }


def _dry_run(brains: list[BrainStore], config: TrainConfig, device: str, job: JobContext) -> Result:
    """Say what the run would take, from a few timed steps."""
    from napari_teramind.training import estimate

    found = estimate(brains, config, device, job.report)
    seconds = found.seconds_per_step * config.steps
    memory = f"{found.memory_bytes / 1e9:.1f} GB"
    text = (
        f"{config.steps:,} steps, {about(seconds)} on {device_name(device)}, {memory} of memory; "
        f"{found.parameters:,} parameters, {found.genes} genes"
    )
    if not found.measured:
        text += " (from one sample, scaled up)"
    job.planned(text)
    return {
        "seconds_per_step": found.seconds_per_step,
        "seconds": seconds,
        "memory_bytes": found.memory_bytes,
        "parameters": found.parameters,
        "genes": found.genes,
        "measured": found.measured,
        "device": device_name(device),
        "summary": [f"{text}."],
    }


def device_name(device: str) -> str:
    """Return a device as its maker writes it, and what memory it has."""
    import torch

    kind, _, number = device.partition(":")
    if kind == "cuda":
        free, total = torch.cuda.mem_get_info(int(number or 0))
        name = torch.cuda.get_device_name(int(number or 0))
        return f"{name} ({total / 1e9:.0f} GB, {free / 1e9:.0f} free)"
    return {"mps": "the Apple GPU"}.get(kind, f"the CPU ({torch.get_num_threads()} threads)")


class Teller:
    """Turns the moments of a run into events."""

    def __init__(self, job: JobContext) -> None:
        self._job = job
        self._last = 0.0
        self._waiting: list[dict[str, float]] = []

    def show(self, moment: Moment) -> None:
        """Tell a moment, or keep the numbers of a step for the next mean."""
        match moment.kind:
            case "training":
                self._waiting.append(moment.values)
                if time.monotonic() - self._last >= MEASURED_INTERVAL:
                    self._tell_mean(moment.step)
            case "validation":
                values = moment.values
                self._job.emit(Measured(kind="validation", step=moment.step, values=values))
            case "picture":
                self._job.emit(
                    Pictured(
                        path=str(moment.path),
                        step=moment.step,
                        scores=moment.values,
                        held_out=moment.held_out,
                    )
                )

    def _tell_mean(self, step: int) -> None:
        steps, self._waiting, self._last = self._waiting, [], time.monotonic()
        mean = {name: sum(one[name] for one in steps) / len(steps) for name in steps[0]}
        self._job.emit(Measured(kind="training", step=step, values=mean))


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or request to end into an event; the second one interrupts."""
    asked = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, on_signal) for kind in kinds}
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)

"""The training loop: steps, validation, saving; a run that can be killed and resumed exactly.

Nothing depends on random state: weights, samples, times, noise and dropout are drawn from counters,
so the state of a run is its weights, those of the optimiser, the average, and the step's number.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

import napari_teramind
from napari_teramind.errors import UserError
from napari_teramind.model import kernels
from napari_teramind.model.config import ModelConfig
from napari_teramind.training.config import TrainConfig
from napari_teramind.training.folder import RunFolder
from napari_teramind.training.loader import Batches, default_workers
from napari_teramind.training.parallel import Shared, Team, is_first
from napari_teramind.training.record import WEIGHTS
from napari_teramind.training.run import Run, begin, save
from napari_teramind.training.source import SampleSource, common_panel, same_store
from napari_teramind.training.step import Objective, take_step
from napari_teramind.training.validation import Field, Validator, held_out_fields

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore


@dataclass(frozen=True)
class Moment:
    """Something to show while a run goes on.

    Attributes
    ----------
    kind
        ``"training"``: the values of a step; ``"validation"``: the held-out loss; ``"picture"``: a
        generated field beside the real one, and its scores.
    step
        Steps taken.
    values
        Numbers by name.
    path
        The picture.
    held_out
        Whether the network does not learn from what the picture shows.
    """

    kind: Literal["training", "validation", "picture"]
    step: int
    values: dict[str, float]
    path: Path | None = None
    held_out: bool = True


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
class _Setting:
    """What does not change during training."""

    config: TrainConfig
    source: SampleSource
    team: Team
    objective: Shared | Objective
    stains: list[str]
    folder: RunFolder | None
    validator: Validator | None
    held_out: bool
    report: Callable[[str, int, int], None]
    show: Callable[[Moment], None]
    should_stop: Callable[[], bool]


def fit(
    brains: Sequence[BrainStore],
    run_dir: str | os.PathLike[str],
    config: TrainConfig,
    report: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
    resume: bool = False,
    validation: Sequence[BrainStore] = (),
    show: Callable[[Moment], None] | None = None,
    job: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train a network on brain stores.

    Parameters
    ----------
    brains
        Stores to train on.
    run_dir
        Folder of the run; :mod:`napari_teramind.training.folder` says what it holds.
    config
        The settings. A resumed run must have the same, but for
        :data:`~napari_teramind.training.config.FREE`.
    report
        ``report(message, done, total)`` in optimiser steps.
    should_stop
        Asked after every step; training is saved and ends when it says True. A file ``stop`` in the
        run folder does the same.
    device
        Where to train.
    resume
        Go on with the run in ``run_dir`` instead of refusing a folder that holds one.
    validation
        Stores to validate on; never trained on.
    show
        Called with numbers and pictures as they come.
    job
        Specification of the job that this is, for the provenance.

    Returns
    -------
    FitResult
        Where the weights are, and how far training came.

    Raises
    ------
    UserError
        If the folder holds a run and ``resume`` is False, or a run with other settings, or the
        brains do not go together.
    """
    run_dir = Path(run_dir)
    panel = common_panel(brains, config.genes)
    shape, stains = network_shape([*brains, *validation], panel, config)
    _check_apart(brains, validation)
    common_panel([*brains, *validation], panel)
    source = SampleSource(brains, panel, shape, config)
    fields = held_out_fields(brains, validation, config)
    header: dict[str, Any] = {
        "train": config.to_dict(),
        "model": shape.to_dict(),
        "genes": list(panel),
        "brains": [brain.path for brain in brains],
        "validation": [brain.path for brain in validation],
        "versions": _versions(),
        "job": dict(job or {}),
    }
    header["kernels"] = form = kernels.decide(config.kernels, device)
    team = Team(device, config.processes)
    folder = RunFolder.claim(run_dir, header, resume) if is_first() else None
    try:
        team.launch()
        run = begin(shape, panel, config, team, folder, run_dir)
        places = fields or [Field(b, (0, b.shape[1] // 16, 0, b.shape[2] // 16)) for b in brains]
        setting = _Setting(
            config,
            source,
            team,
            team.share(Objective(run.trainee.model, config.shifted)),
            stains,
            folder,
            Validator(places, panel, shape, config) if folder is not None else None,
            bool(fields),
            report or (lambda *_: None),
            show or (lambda _: None),
            should_stop or (lambda: False),
        )
        if folder is not None:
            folder.is_husk = False
        with kernels.using(form):
            return _watched_loop(run, setting, run_dir)
    finally:
        if folder is not None:
            folder.close()


def network_shape(
    brains: Sequence[BrainStore], panel: tuple[str, ...], config: TrainConfig
) -> tuple[ModelConfig, list[str]]:
    """Return the shape of the network for some brains, and the names of their stains.

    Raises
    ------
    UserError
        If the brains have different stains.
    """
    stains = list(brains[0].stain_names)
    for brain in brains[1:]:
        if list(brain.stain_names) != stains:
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
    return shape, stains


def _check_apart(brains: Sequence[BrainStore], validation: Sequence[BrainStore]) -> None:
    for number, brain in enumerate(brains):
        if any(same_store(brain.path, other.path) for other in brains[:number]):
            raise UserError(f"The brain at {brain.path} is named twice; name it once.")
    for held_out in validation:
        if any(same_store(held_out.path, brain.path) for brain in brains):
            raise UserError(
                f"The brain at {held_out.path} is both trained and validated on; hold out another "
                "brain, or a field of this one with 'exclude'."
            )


def _watched_loop(run: Run, setting: _Setting, run_dir: Path) -> FitResult:
    """Train, and leave word of how it ended."""
    folder, config = setting.folder, setting.config
    try:
        _loop(run, setting)
    except BaseException as error:
        if folder is not None:
            told = str(error) or type(error).__name__
            folder.log.info("Ended at step %d: %s", run.step, told)
            asked = isinstance(error, KeyboardInterrupt)
            folder.set_status(state="stopped" if asked else "failed", message="" if asked else told)
        raise
    finished = run.step >= config.steps
    if folder is not None:
        folder.log.info(
            "%s at step %d, loss %.4f", "Finished" if finished else "Stopped", run.step, run.loss
        )
        folder.set_status(state="finished" if finished else "stopped")
    return FitResult(run_dir / WEIGHTS, run.step, run.loss, finished)


def _loop(run: Run, setting: _Setting) -> None:
    """Take steps until done, stopped or out of time; validate and save now and then."""
    config, team, folder = setting.config, setting.team, setting.folder
    began = saved = time.monotonic()
    earlier = run.seconds
    _tell_status(run, setting, now=True)
    workers = default_workers(team.device.type) if config.workers is None else config.workers
    run.trainee.model.train()
    first = run.step * config.accumulate
    with Batches(setting.source, first, team.slots(config.batch), workers) as batches:
        while run.step < config.steps:
            taken = batches.take(config.accumulate)
            terms, norm = take_step(
                run.trainee, setting.objective, taken, config, run.step, team.rank
            )
            _check(terms := team.mean(terms), run.step)
            run.step += 1
            run.seconds = earlier + time.monotonic() - began
            collage, shifted = terms.tolist()
            _tell_step(run, setting, collage, shifted, float(norm))
            measured = folder is not None and _measure(run, setting)
            stop = team.first_says(_must_stop(setting, began))
            now = time.monotonic()
            due = now - saved >= config.save_every
            if folder is not None and (measured or due or stop or run.step == config.steps):
                run.seconds = earlier + now - began
                save(run, folder, config, measured)
                saved = now
            if stop:
                break


def _must_stop(setting: _Setting, began: float) -> bool:
    limit, folder = setting.config.time_limit, setting.folder
    if limit is not None and time.monotonic() - began >= limit:
        return True
    return setting.should_stop() or (folder is not None and folder.stop_asked())


def _check(terms: torch.Tensor, step: int) -> None:
    if not bool(terms.isfinite().all()):
        raise UserError(
            f"The loss is not finite at step {step + 1}; resume from the last saved state with a "
            "lower learning rate in a new run, or with higher precision."
        )


def _tell_step(run: Run, setting: _Setting, collage: float, shifted: float, norm: float) -> None:
    loss = collage + shifted
    run.add(loss)
    values = {"loss": loss, "collage": collage, "shifted": shifted, "gradient_norm": norm}
    if setting.folder is None:
        return
    setting.folder.add_step(run.step, run.seconds, values)
    _tell_status(run, setting)
    setting.show(Moment("training", run.step, values))
    setting.report(f"Training, loss {run.loss:.3f}", run.step, setting.config.steps)


def _tell_status(run: Run, setting: _Setting, now: bool = False) -> None:
    if setting.folder is not None:
        setting.folder.set_status(
            now,
            state="running",
            step=run.step,
            steps=setting.config.steps,
            loss=run.loss if run.recent else None,
            seconds=round(run.seconds, 1),
            message="",
        )


def _measure(run: Run, setting: _Setting) -> bool:
    """Validate and make a picture if it is time; True if there is a new held-out loss."""
    config, folder, validator = setting.config, setting.folder, setting.validator
    if folder is None or validator is None:
        return False
    last = run.step == config.steps
    values: dict[str, float] = {}
    wanted = _is_due(run.step, config.validate_every, last)
    if wanted and setting.held_out:
        collage, shifted = validator.loss(run.trainee.result)
        values = {"loss": collage + shifted, "collage": collage, "shifted": shifted}
        setting.show(Moment("validation", run.step, dict(values)))
    if _is_due(run.step, config.sample_every, last):
        picture = validator.picture(run.trainee.result, setting.stains)
        path = folder.add_picture(run.step, picture.image)
        values |= picture.scores
        setting.show(Moment("picture", run.step, picture.scores, path, setting.held_out))
    if values:
        folder.add_validation(run.step, values, setting.stains)
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        folder.log.info("Step %d: %s", run.step, words)
    if "loss" not in values:
        return False
    run.judge(values["loss"])
    return True


def _is_due(step: int, every: int, last: bool) -> bool:
    """Every so many steps and at the end; sooner at first, when there is most to see."""
    young = every >= 8 and step in (every // 8, every // 4, every // 2)
    return every > 0 and (last or young or step % every == 0)


def _versions() -> dict[str, str]:
    return {
        "napari-teramind": napari_teramind.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }

"""Settings of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from napari_teramind.errors import UserError
from napari_teramind.model.config import BIN, KernelsWish, Prediction

Precision = Literal["float32", "bfloat16", "float16"]
Optimizer = Literal["adam", "muon"]

FREE = frozenset(
    {
        "steps",
        "time_limit",
        "save_every",
        "keep",
        "validate_every",
        "sample_every",
        "sample_px",
        "sample_steps",
        "workers",
        "processes",
        "kernels",
    }
)
"""Settings that may change when a run is resumed; they do not say what is learned from what."""


@dataclass(frozen=True)
class TrainConfig:
    """What is trained, on what, and how.

    Attributes
    ----------
    channels, gene_slices, patch, prediction
        The network's size; see :class:`~napari_teramind.model.ModelConfig`.
    gene_channels
        Channels of the three finer gene features; published: 128, 64, 32.
    dropout
        Share of activations dropped in training; published: 0.1. A small network that sees every
        crop once does better without.
    genes
        The panel; None for all genes that the brains have in common.
    init
        Checkpoint whose weights the run starts from, genes by name; None: random weights.
    crop
        Side of a training crop in px, a multiple of the patch. None: 256, or 128 for patches of 32.
    block
        Shifted patches on a side of a sample, with (block - 1)^2 collage patches; published: 2.
    shifted
        Weight of the loss on the shifted patches; published: 1. At 0 the decoder does not run on
        them: it spares most of its work, and learns from collage patches alone.
    exclude
        Pixels (y0, y1, x0, x1), held out in every slice of every brain: no crop touches them.
    batch, accumulate
        Samples in one evaluation (over all processes), and evaluations in one optimiser step.
    steps
        Optimiser steps.
    time_limit
        Seconds after which training ends although steps are left; None for no limit.
    optimizer
        ``"adam"`` as published, or ``"muon"``, which needs fewer steps.
    learning_rate, warmup
        Learning rate, reached linearly after ``warmup`` steps.
    final_lr
        Fraction of the learning rate left at the last step, reached along a cosine; 1 keeps it.
    clip
        Largest norm of the gradient.
    ema
        Decay of the running average of the weights that is saved; 0 saves the plain weights, as
        published.
    precision
        ``"float32"``, or mixed precision: ``"bfloat16"``, or ``"float16"`` as published.
    kernels
        Form of the norms' arithmetic: ``"eager"``, ``"compiled"``, or ``"auto"``: compiled on a
        CPU, where there is a C++ compiler.
    focus
        (low, high, share): this share of the times t is drawn from [low, high), the others from
        all, as published (None). What a short training lacks is learned at middle times, where
        structure forms.
    seed
        Of weights, samples, times, noise and dropout.
    save_every, keep
        Seconds between two savings of the run, and how many checkpoints of single steps to keep.
    validate_every, validation_crops
        Steps between two measurements of the loss on held-out crops (0: never), and their number.
        The first are made after an eighth, a quarter and half as many.
    sample_every, sample_px, sample_steps
        Steps between two generated pictures (0: never), their side, and their diffusion steps.
    workers
        Processes that read blocks ahead; None: none on a CPU, up to 4 beside a GPU. Whatever the
        number, the samples are the same.
    processes
        Processes, each with a device or a share of the CPU, that train together.
    """

    channels: int = 16
    gene_slices: int = 4
    patch: int = 64
    prediction: Prediction = "v"
    gene_channels: tuple[int, int, int] = (128, 64, 32)
    dropout: float = 0.1
    genes: tuple[str, ...] | None = None
    init: str | None = None
    crop: int | None = None
    block: int = 2
    shifted: float = 1.0
    exclude: tuple[int, int, int, int] | None = None
    batch: int = 8
    accumulate: int = 1
    steps: int = 2000
    time_limit: float | None = None
    optimizer: Optimizer = "adam"
    learning_rate: float = 5e-4
    warmup: int = 100
    final_lr: float = 0.1
    clip: float = 1.0
    ema: float = 0.995
    precision: Precision = "float32"
    kernels: KernelsWish = "auto"
    focus: tuple[int, int, float] | None = None
    seed: int = 0
    save_every: float = 60.0
    keep: int = 3
    validate_every: int = 200
    validation_crops: int = 16
    sample_every: int = 400
    sample_px: int = 256
    sample_steps: int = 15
    workers: int | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("channels", "batch", "accumulate", "steps", "validation_crops", "processes"):
            if getattr(self, name) < 1:
                raise UserError(f"The training setting '{name}' must be at least 1.")
        for name in ("keep", "validate_every", "sample_every", "workers", "warmup"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"The training setting '{name}' must be at least 0.")
        if min(self.gene_channels) < 1:
            raise UserError("The training setting 'gene_channels' must be three numbers above 0.")
        if not 0 <= self.dropout < 1:
            raise UserError(f"The setting 'dropout' must be from 0 to below 1, not {self.dropout}.")
        if self.crop_px % self.patch or self.crop_px < self.patch:
            raise UserError(
                f"The training crop must be a multiple of the patch ({self.patch} px), "
                f"not {self.crop_px} px."
            )
        if not 2 <= self.block <= self.crop_px // self.patch + 1:
            raise UserError(
                f"The training setting 'block' must be from 2 to {self.crop_px // self.patch + 1} "
                f"for crops of {self.crop_px} px, not {self.block}."
            )
        if self.exclude is not None:
            y0, y1, x0, x1 = self.exclude
            if not (0 <= y0 < y1 and 0 <= x0 < x1):
                raise UserError(
                    f"The field to hold out, {y0},{y1},{x0},{x1}, ends before it begins; give it "
                    "as y0,y1,x0,x1 in px, the larger of each pair last."
                )
        if self.shifted < 0:
            raise UserError(f"The setting 'shifted' must be at least 0, not {self.shifted}.")
        if self.focus is not None:
            low, high, share = self.focus
            if not (0 <= low < high <= 1000 and 0 <= share <= 1):
                raise UserError(
                    "The training setting 'focus' must be two times from 0 to 1000, ascending, and "
                    f"a share from 0 to 1, not {low}, {high}, {share}."
                )
        if not self.patch <= self.sample_px <= 512:
            raise UserError(
                f"The side of a sample picture must be from {self.patch} to 512 px, "
                f"not {self.sample_px}."
            )
        if not 0 <= self.ema < 1:
            raise UserError(f"The setting 'ema' must be from 0 to below 1, not {self.ema}.")
        if self.optimizer not in ("adam", "muon"):
            raise UserError(f"The optimizer '{self.optimizer}' is not known; use 'adam' or 'muon'.")
        if self.learning_rate <= 0:
            raise UserError(f"The learning rate must be above 0, not {self.learning_rate}.")
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise UserError(
                f"The precision '{self.precision}' is not known; use 'float32', 'bfloat16' or "
                "'float16'."
            )
        if self.batch % self.processes:
            raise UserError(
                f"A batch of {self.batch} cannot be shared evenly by {self.processes} processes; "
                "use a multiple of their number."
            )

    @property
    def crop_px(self) -> int:
        """Side of a training crop in px."""
        return self.crop if self.crop is not None else (128 if self.patch == 32 else 256)

    @property
    def crop_bins(self) -> int:
        """Side of a training crop in bins."""
        return self.crop_px // BIN

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build settings from :meth:`to_dict`'s output."""
        kwargs: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**kwargs)

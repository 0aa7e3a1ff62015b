"""Settings of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from napari_teramind.errors import UserError
from napari_teramind.model.config import BIN, Prediction


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
    crop
        Side of a training crop in px, a multiple of the patch. None: 256, or 128 for patches of 32.
    exclude
        Pixels (y0, y1, x0, x1), held out in every slice of every brain: no crop touches them.
    batch, accumulate
        Samples in one evaluation, and evaluations in one optimiser step.
    steps
        Optimiser steps.
    time_limit
        Seconds after which training ends although steps are left; None for no limit.
    learning_rate, warmup
        Adam's learning rate, reached linearly after ``warmup`` steps.
    final_lr
        Fraction of the learning rate left at the last step, reached along a cosine; 1 keeps it.
    clip
        Largest norm of the gradient.
    ema
        Decay of the running average of the weights that is saved; 0 saves the plain weights, as
        published.
    precision
        ``"float32"``, or ``"bfloat16"`` for mixed precision.
    seed
        Of weights, samples, times, noise and dropout.
    """

    channels: int = 16
    gene_slices: int = 4
    patch: int = 64
    prediction: Prediction = "v"
    gene_channels: tuple[int, int, int] = (128, 64, 32)
    dropout: float = 0.1
    genes: tuple[str, ...] | None = None
    crop: int | None = None
    exclude: tuple[int, int, int, int] | None = None
    batch: int = 8
    accumulate: int = 1
    steps: int = 2000
    time_limit: float | None = None
    learning_rate: float = 5e-4
    warmup: int = 100
    final_lr: float = 0.1
    clip: float = 1.0
    ema: float = 0.995
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    save_every: float = 60.0

    def __post_init__(self) -> None:
        for name in ("channels", "batch", "accumulate", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"The training setting '{name}' must be at least 1.")
        if min(self.gene_channels) < 1:
            raise UserError("The training setting 'gene_channels' must be three numbers above 0.")
        if not 0 <= self.dropout < 1:
            raise UserError(f"The setting 'dropout' must be from 0 to below 1, not {self.dropout}.")
        if self.crop_px % self.patch or self.crop_px < self.patch:
            raise UserError(
                f"The training crop must be a multiple of the patch ({self.patch} px), "
                f"not {self.crop_px} px."
            )
        if not 0 <= self.ema < 1:
            raise UserError(f"The setting 'ema' must be from 0 to below 1, not {self.ema}.")
        if self.learning_rate <= 0:
            raise UserError(f"The learning rate must be above 0, not {self.learning_rate}.")
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(
                f"The precision '{self.precision}' is not known; use 'float32' or 'bfloat16'."
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

"""Training jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from napari_teramind.jobs.specs.base import JobPath, Location, Roi, Spec
from napari_teramind.model.config import KernelsWish
from napari_teramind.training.presets import PRESETS

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class TrainSpec(Spec):
    """A network is fitted to brains.

    Settings and their defaults are those of :class:`napari_teramind.training.TrainConfig`, but for
    ``genes``, which is a panel as everywhere here: a file that lists genes, or a brain. A preset
    sets what is not given.
    """

    verb: Literal["train"] = "train"
    brains: Annotated[list[Location], Field(min_length=1)]
    validation: list[Location] = []
    out: JobPath
    preset: Literal["packaged", "published", "custom"] = "custom"
    resume: bool = False
    dry_run: bool = False
    device: str = "auto"
    genes: Location | None = None
    init: JobPath | None = None
    channels: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    gene_slices: Literal[1, 4, 8, 16] = 4
    patch: Literal[32, 64, 128] = 64
    prediction: Literal["epsilon", "v"] = "v"
    gene_channels: tuple[Positive, Positive, Positive] = (128, 64, 32)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    crop: Annotated[int, Field(ge=32)] | None = None
    block: Annotated[int, Field(ge=2)] = 2
    shifted: Annotated[float, Field(ge=0)] = 1.0
    exclude: Roi | None = None
    batch: Positive = 8
    accumulate: Positive = 1
    steps: Positive = 2000
    time_limit: Annotated[float, Field(gt=0)] | None = None
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup: Count = 100
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    kernels: KernelsWish = "auto"
    focus: tuple[Count, Count, Annotated[float, Field(ge=0, le=1)]] | None = None
    seed: Count = 0
    save_every: Annotated[float, Field(gt=0)] = 60.0
    keep: Count = 3
    validate_every: Count = 200
    validation_crops: Positive = 16
    sample_every: Count = 400
    sample_px: Annotated[int, Field(ge=32, le=512)] = 256
    sample_steps: Annotated[int, Field(ge=1, le=1000)] = 15
    workers: Count | None = None
    processes: Positive = 1

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        chosen = PRESETS.get(str(values.get("preset"))) if isinstance(values, dict) else None
        return values if chosen is None else {**chosen.settings, **values}

    def settings(self) -> dict[str, Any]:
        """Return the fields that are training settings, without the panel."""
        others = {"verb", "brains", "validation", "out", "preset", "resume", "dry_run", "device"}
        values = self.model_dump(exclude=others | {"genes"})
        return values | {"init": None if self.init is None else str(self.init)}

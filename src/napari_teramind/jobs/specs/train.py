"""Training jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from napari_teramind.jobs.specs.base import JobPath, Location, Roi, Spec


class TrainSpec(Spec):
    """A network is fitted to brains.

    Fields and defaults are those of :class:`napari_teramind.training.TrainConfig`, but for
    ``genes``, which is a panel as everywhere here: a file that lists genes, or a brain.
    """

    verb: Literal["train"] = "train"
    brains: Annotated[list[Location], Field(min_length=1)]
    out: JobPath
    resume: bool = False
    device: str = "auto"
    genes: Location | None = None
    channels: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    gene_slices: Literal[1, 4, 8, 16] = 4
    patch: Literal[32, 64, 128] = 64
    prediction: Literal["epsilon", "v"] = "v"
    gene_channels: tuple[
        Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
    ] = (128, 64, 32)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    crop: Annotated[int, Field(ge=32)] | None = None
    exclude: Roi | None = None
    batch: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=1)] = 2000
    time_limit: Annotated[float, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup: Annotated[int, Field(ge=0)] = 100
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Field(ge=0)] = 0
    save_every: Annotated[float, Field(gt=0)] = 60.0

    def settings(self) -> dict[str, Any]:
        """Return the fields that are training settings, without the panel."""
        return self.model_dump(exclude={"verb", "brains", "out", "resume", "device", "genes"})

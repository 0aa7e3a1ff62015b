"""The one place where the benchmarks call this package's engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_teramind.brain import open_brain
from napari_teramind.model import TeraMind, kernels
from napari_teramind.simulate import Request, simulate_to_store
from napari_teramind.simulate.plan import plan_run

Roi = tuple[int, int, int, int]


def generate(
    folder: Path, model: TeraMind, roi: Roi, steps: int, seed: int, name: str
) -> dict[str, Any]:
    """Generate a region of the world's brain into its store; say what was planned."""
    brain = open_brain(folder / "brain.zarr")
    request = Request(roi=roi, slices=(0, model.config.image_slices), seed=seed, steps=steps)
    device = model.device.type
    plan = plan_run(
        brain, model.config, request, device, model.dtype.itemsize, kernels.chosen(device)
    )
    path = simulate_to_store(brain, model, name, request)
    settings = plan.layout.settings
    return {
        "path": path,
        "band_rows": settings.band or plan.layout.windows[0].rows,
        "batch": settings.batch,
        "planned_bytes": plan.memory_bytes,
        "planned_evaluations": plan.evaluations,
    }


def result(folder: Path, name: str) -> np.ndarray:
    """Read a result (stains, z, y, x) uint8."""
    return np.asarray(open_brain(folder / "brain.zarr").simulations[name].levels[0][:])


def in_precision(model: TeraMind, precision: str) -> tuple[TeraMind, torch.dtype | None]:
    """Bring a network to a precision; the second value asks for autocast.

    ``float32``; ``bfloat16`` or ``float16``: the weights themselves; ``autocast-...``: mixed.
    """
    if precision.startswith("autocast-"):
        return model, getattr(torch, precision.removeprefix("autocast-"))
    return model.to(getattr(torch, precision)), None

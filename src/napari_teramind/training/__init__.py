"""Fitting a network to brain stores.

Names are imported on first use: presets and run folders can be read without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_teramind.training.config import TrainConfig
    from napari_teramind.training.loop import FitResult, fit
    from napari_teramind.training.presets import PRESETS, Preset
    from napari_teramind.training.timing import Estimate, estimate

__all__ = ["PRESETS", "Estimate", "FitResult", "Preset", "TrainConfig", "estimate", "fit"]

_HOME = {
    "PRESETS": "presets",
    "Estimate": "timing",
    "FitResult": "loop",
    "Preset": "presets",
    "TrainConfig": "config",
    "estimate": "timing",
    "fit": "loop",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

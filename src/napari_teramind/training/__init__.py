"""Fitting a network to brain stores.

Names are imported on first use: presets and run folders can be read without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_teramind.training.config import TrainConfig
    from napari_teramind.training.loop import FitResult, fit
    from napari_teramind.training.presets import PRESETS, Preset
    from napari_teramind.training.timing import Estimate, estimate

__all__ = ["PRESETS", "Estimate", "FitResult", "Preset", "TrainConfig", "estimate", "fit"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["TrainConfig"],
        "loop": ["FitResult", "fit"],
        "presets": ["PRESETS", "Preset"],
        "timing": ["Estimate", "estimate"],
    },
)

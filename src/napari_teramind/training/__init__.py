"""Fitting a network to brain stores."""

from napari_teramind.training.config import TrainConfig
from napari_teramind.training.loop import FitResult, fit

__all__ = ["FitResult", "TrainConfig", "fit"]

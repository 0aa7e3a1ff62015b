"""Procedural mouse brains with ground truth: the samples that need no download."""

from __future__ import annotations

from napari_teramind.phantom.build import make_phantom
from napari_teramind.phantom.plan import ANIMALS, SIZES, panel

__all__ = ["ANIMALS", "SIZES", "make_phantom", "panel"]

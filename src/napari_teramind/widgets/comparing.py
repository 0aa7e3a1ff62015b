"""The same region without and with edits: what to generate, and the difference as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import Colormap

from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.plugin.layers import TAG, placement, tag

if TYPE_CHECKING:
    from napari_teramind.plugin.layers import LayerTuple

DIFFERENCE = Colormap(
    [[0.2, 0.55, 1, 1], [0, 0, 0, 1], [1, 0.5, 0.1, 1]], name="less (blue), more (orange)"
)
MOST_PIXELS = 64_000_000
"""Pixels, over all stains and slices, up to which differences are shown."""


def unedited(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `SimulateSpec` without its edits."""
    return {**values, "edits": ()}


def identity(brain: str, values: dict[str, Any]) -> str:
    """Return what a result is of, so that it is found again."""
    return repr((brain, sorted((key, str(value)) for key, value in values.items())))


def difference_layers(brain: BrainStore, before: str, after: str) -> list[LayerTuple]:
    """Return edited minus unedited, a layer a stain; black where nothing changed.

    Parameters
    ----------
    brain
        The brain.
    before, after
        Names of results of one region.

    Raises
    ------
    UserError
        If they are not of one region, or too large to be held in memory.
    """
    old, new = brain.simulations[before], brain.simulations[after]
    a, b = old.levels[0], new.levels[0]
    if a.shape != b.shape:
        raise UserError(f"{before} and {after} are not of one region: there is no difference.")
    if np.prod(a.shape) > MOST_PIXELS:
        raise UserError(
            "The region is too large for a difference to be shown; compare the layers instead, or "
            "edit in a smaller one."
        )
    layers: list[LayerTuple] = []
    for i, channel in enumerate(new.channels):
        away = np.asarray(b[i]).astype(np.int16) - np.asarray(a[i])
        most = max(8.0, float(np.percentile(np.abs(away), 99.5)))
        meta = placement(new) | {
            "name": f"{channel.name} (edited minus unedited)",
            "colormap": DIFFERENCE,
            "contrast_limits": (-most, most),
            "blending": "additive",
            "visible": i == 0,
            "metadata": {TAG: tag(brain, "difference", after) | {"edited": True}},
        }
        layers.append((away, meta, "image"))
    return layers

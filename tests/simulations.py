"""Writing finished simulations, shared by tests of the store, the layers and the widgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_teramind.brain import BrainStore
from napari_teramind.brain.result import ResultWriter


def keep_simulation(
    brain: BrainStore,
    name: str,
    image: np.ndarray,
    *,
    roi: tuple[int, int, int, int],
    slices: tuple[int, int],
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> str:
    """Keep an image (stains, z, y, x) in a brain, shard by shard, as a run does."""
    with ResultWriter.create(brain, name, roi, slices, provenance, overwrite) as writer:
        for unit in writer.units():
            y0, y1, x0, x1 = writer.region(unit)
            ys, xs = slice(y0 - roi[0], y1 - roi[0]), slice(x0 - roi[2], x1 - roi[2])
            writer.write(unit, image[:, unit[0], ys, xs])
        return writer.finish()

"""What several samples of one region have in common, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.brain.result import ResultWriter

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

MEAN, DEVIATION = "mean", "standard deviation"


def mean_and_deviation(
    brain: BrainStore, names: Sequence[str], name: str, overwrite: bool = False
) -> str:
    """Keep the mean and the standard deviation of some results of one region.

    Both are results themselves, in grey levels, rounded: ``"<name>, mean"`` and ``"<name>, standard
    deviation"``. They are computed shard by shard.

    Parameters
    ----------
    brain
        The store.
    names
        Results of one region; at least two.
    name
        What they are replicates of.
    overwrite
        Replace results of these names.

    Returns
    -------
    str
        Path of the mean.

    Raises
    ------
    UserError
        If a name is taken, or the disk is full.
    """
    samples = [brain.simulations[each] for each in names]
    arrays = [sample.levels[0] for sample in samples]
    provenance = samples[0].provenance
    roi, slices = tuple(provenance["roi_px"]), tuple(provenance["slices"])
    paths = []
    for what in (MEAN, DEVIATION):
        meta = {**provenance, "statistic": what, "of": list(names)}
        with ResultWriter.create(brain, f"{name}, {what}", roi, slices, meta, overwrite) as writer:
            for unit in writer.units():
                top, bottom, left, right = writer.region(unit)
                place = np.s_[
                    :, unit[0], top - roi[0] : bottom - roi[0], left - roi[2] : right - roi[2]
                ]
                total = np.zeros((), np.float32)
                squares = np.zeros((), np.float32)
                for array in arrays:
                    values = np.asarray(array[place]).astype(np.float32)
                    total = total + values
                    squares = squares + values * values
                mean = total / len(arrays)
                if what == DEVIATION:
                    spread = squares / len(arrays) - mean * mean
                    mean = np.sqrt(np.maximum(spread, 0) * len(arrays) / (len(arrays) - 1))
                writer.write(unit, np.rint(mean).clip(0, 255).astype(np.uint8))
            paths.append(writer.finish())
    return paths[0]

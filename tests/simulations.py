"""Results written into a brain, and a full disk: shared by tests of several rooms."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from zarr.storage import LocalStore

from napari_teramind.brain import BrainStore
from napari_teramind.brain.layout import BIN, Channel, Placement
from napari_teramind.brain.maps import MapWriter
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


def keep_map(brain: BrainStore, name: str, value: float, overwrite: bool = False) -> str:
    """Keep an attention map of one channel that has one value everywhere."""
    shape = (1, brain.shape[0], *brain.genes.shape[-2:])
    placement = Placement(brain.pixel_size, BIN, brain.genes.scale()[1])
    writer = MapWriter.begin(
        brain,
        "attention",
        name,
        shape=shape,
        channels=[Channel("A")],
        placement=placement,
        identity={"value": float(value)},
        overwrite=overwrite,
    )
    try:
        for z in range(shape[1]):
            if (z, 0, 0) not in writer.done:
                writer.write((z, 0, 0), np.full((1, *shape[2:]), value))
        return writer.publish({}, {})
    finally:
        writer.release()


@contextmanager
def full_disk(chunks: int) -> Iterator[None]:
    """Let the store itself say ENOSPC after so many more files of chunks, as a full disk does."""
    real, left = LocalStore.set, chunks

    async def full(self: LocalStore, key: str, value: Any, *more: Any) -> None:
        nonlocal left
        if "/c/" in f"/{key}":
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        await real(self, key, value, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "set", full)
        yield

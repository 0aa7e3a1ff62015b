"""From float16 to float32: gene volumes whose counts turn out too large to be exact."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import zarr

from napari_teramind.brain import foundation, layout, multiscale, pyramid

LARGEST_FLOAT16_COUNT = 2048
"""Every whole number up to this one is exact in float16."""


def fits_float16(counts: np.ndarray) -> bool:
    """Say whether all counts are exact in float16."""
    if counts.size == 0:
        return True
    if counts.max() > LARGEST_FLOAT16_COUNT:
        return False
    return bool((counts.astype(np.float16) == counts).all())


def promote(store: Path, root: zarr.Group, image: str, units: Iterable[pyramid.Unit]) -> None:
    """Put an empty float32 pyramid with a copy of level 0 in place of a float16 one.

    Parameters
    ----------
    store : Path
        Folder of the brain.
    root : zarr.Group
        Its root group.
    image : str
        Path of the gene image in it.
    units : iterable of tuple
        Shards of level 0 that are written.
    """
    old = root[image]
    if not isinstance(old, zarr.Group):
        raise TypeError(f"{image} is not a group")
    levels = multiscale.MultiscaleImage(old, image).levels
    shutil.rmtree(store / _new(image), ignore_errors=True)
    group = root.create_group(_new(image), attributes=foundation.attributes(old))
    arrays = multiscale.create_levels(
        group, levels[0].shape, len(levels), np.float32, layout.GENE_CHUNK, layout.GENE_TILE
    )
    for unit in units:
        region = pyramid.unit_region(arrays[0], unit)
        arrays[0][region] = levels[0][region]
    (store / image).rename(store / _old(image))
    settle(store, image)


def settle(store: Path, image: str) -> None:
    """Finish or clear away a promotion that a kill interrupted."""
    if (store / _new(image)).exists() and not (store / image).exists():
        # The old volume steps aside only when the copy is complete.
        (store / _new(image)).rename(store / image)
    for left_over in (_new(image), _old(image)):
        shutil.rmtree(store / left_over, ignore_errors=True)


def _new(image: str) -> str:
    return f"{image}.float32"


def _old(image: str) -> str:
    return f"{image}.float16"

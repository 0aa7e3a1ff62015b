"""Maps in memory, written to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr

from napari_teramind.attention.job import result_attributes, shown_channels
from napari_teramind.brain import layout, multiscale, pyramid
from napari_teramind.brain.export import Level, check_target, staged, write_nifti, write_ome_tiff

if TYPE_CHECKING:
    from napari_teramind.attention.maps import AttentionMaps


def save_maps(maps: AttentionMaps, path: Path, overwrite: bool = False) -> Path:
    """Write maps as OME-Zarr, OME-TIFF or NIfTI; see :meth:`AttentionMaps.save`."""
    form = check_target(path, overwrite)
    with staged(path) as partial:
        if form == ".zarr":
            _write_zarr(maps, partial)
        elif form.startswith(".ome"):
            colors = [channel.color for channel in shown_channels(maps.channels)]
            write_ome_tiff(partial, _levels(maps), list(maps), "attention", list(colors))
        else:
            write_nifti(partial, _levels(maps)[0], list(maps))
    return path


def _pyramid(maps: AttentionMaps) -> list[np.ndarray]:
    levels = [maps.data]
    for _ in range(1, layout.n_levels(maps.data.shape[-2], maps.data.shape[-1], smallest=8)):
        levels.append(pyramid.mean_halve(levels[-1]))
    return levels


def _levels(maps: AttentionMaps) -> list[Level]:
    found = []
    for number, data in enumerate(_pyramid(maps)):

        def read(
            channel: int, z: int, rows: slice, columns: slice, data: np.ndarray = data
        ) -> np.ndarray:
            return data[channel, z, rows, columns]

        channels, depth, height, width = data.shape
        found.append(
            Level(
                (channels, depth, height, width),
                maps.placement.scale(number),
                maps.placement.translation(number),
                read,
            )
        )
    return found


def _write_zarr(maps: AttentionMaps, path: Path) -> None:
    levels = _pyramid(maps)
    attributes = multiscale.image_attributes(
        "attention", len(levels), maps.placement, shown_channels(maps.channels), 1.0
    )
    attributes["teramind"] = {
        **result_attributes(maps.channels, maps.region, maps.genes),
        "complete": True,
        "provenance": maps.provenance,
    }
    group = zarr.create_group(str(path), zarr_format=3, attributes=attributes)
    arrays = multiscale.create_levels(
        group, levels[0].shape, len(levels), np.float32, layout.GENE_CHUNK, layout.GENE_TILE
    )
    for array, data in zip(arrays, levels, strict=True):
        array[:] = data

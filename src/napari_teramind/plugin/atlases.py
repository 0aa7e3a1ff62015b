"""Structures to look at: a brain's own, an atlas in its own space, an atlas laid over slices.

Making one reads a stack of labels, which takes seconds: do it beside the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.atlas import PlacedAtlas, StructureTable
from napari_teramind.atlas.places import StructurePlaces
from napari_teramind.brain.bins import structure_table
from napari_teramind.errors import UserError
from napari_teramind.plugin.layers import (
    AXES,
    STRUCTURE_OPACITY,
    TAG,
    UNITS,
    LayerTuple,
    brain_key,
    structure_layer,
)
from napari_teramind.plugin.lazy import Recode
from napari_teramind.plugin.looks import structure_colormap, structure_features

if TYPE_CHECKING:
    from napari_teramind.atlas import Atlas, SliceTransform
    from napari_teramind.brain import BrainStore

MOST_VOXELS = 100_000_000
"""Labels of a brain are looked through on the finest level that has no more."""
WIDEST = 1024
"""An atlas is laid over slices with at most so many points a side."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class StructureSet:
    """The structures that a panel is about.

    Attributes
    ----------
    key
        Tells it from others, also in the metadata of its layer.
    title
        What to call it.
    table
        The structures.
    places
        Where they lie on the grid.
    scale, origin
        Of the grid: spacing and centre of its first point, (z, y, x) in micrometers.
    layer
        Makes its layer.
    brain
        Path of the brain whose slices it lies on; None for an atlas in its own space.
    atlas, transforms
        Where the atlas came from, for jobs; None for a brain's own.
    """

    key: str
    title: str
    table: StructureTable
    places: StructurePlaces
    scale: Triple
    origin: Triple
    layer: LayerTuple
    brain: str | None = None
    atlas: str | None = None
    transforms: Path | None = None

    def world_box(self, box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
        """Return the outer edges (y0, y1, x0, x1) of a box of the grid, in micrometers."""
        (_, dy, dx), (_, y, x) = self.scale, self.origin
        y0, y1, x0, x1 = box
        return y + (y0 - 0.5) * dy, y + (y1 - 0.5) * dy, x + (x0 - 0.5) * dx, x + (x1 - 0.5) * dx

    def world_z(self, z: float) -> float:
        """Return where a slice lies, in micrometers."""
        return self.origin[0] + z * self.scale[0]


def structures_of_brain(brain: BrainStore) -> StructureSet:
    """Look through the labels of a brain.

    Raises
    ------
    UserError
        If the brain has no structures.
    """
    table = structure_table(brain)
    image = brain.structures
    assert image is not None
    small = [k for k, a in enumerate(image.levels) if np.prod(a.shape) <= MOST_VOXELS]
    level = small[0] if small else len(image.levels) - 1
    array = image.levels[level]
    return StructureSet(
        brain_key(brain.path),
        "This brain's own",
        table,
        StructurePlaces.find(array.shape[0], lambda z: np.asarray(array[z])),
        _triple(image.scale(level)),
        _triple(image.translation(level)),
        structure_layer(brain),
        brain=brain_key(brain.path),
    )


def structures_of_atlas(atlas: Atlas, source: str) -> StructureSet:
    """Show an atlas in its own space: sections from front to back, micrometers from its faces."""
    recode = Recode(list(atlas.table))
    volume = np.stack([recode(section) for section in atlas.annotation])
    origin = _triple([step / 2 for step in atlas.resolution_um])
    return StructureSet(
        f"atlas:{source}",
        atlas.name,
        atlas.table,
        StructurePlaces.find(len(atlas.annotation), lambda z: atlas.annotation[z]),
        atlas.resolution_um,
        origin,
        _layer(volume, atlas, atlas.resolution_um, origin, f"atlas:{source}", None),
        atlas=source,
    )


def structures_on_slices(
    brain: BrainStore,
    atlas: Atlas,
    transforms: Mapping[int, SliceTransform],
    source: str,
    path: Path,
) -> StructureSet:
    """Lay an atlas over the slices of a brain; slices without a transform stay empty.

    Raises
    ------
    UserError
        If no slice has a transform, or the atlas lies beside all of them.
    """
    depth, height, width = brain.genes.levels[0].shape[1:]
    known = [z for z in range(depth) if z in transforms]
    if not known:
        raise UserError(
            f"{path} has no transform for any of the {depth} slices of {brain.path}; give every"
            " slice one, numbered from 0."
        )
    step = -(-max(height, width) // WIDEST)
    dz, dy, dx = _triple(brain.genes.scale())
    z0, y0, x0 = _triple(brain.genes.translation())
    scale = (dz, dy * step, dx * step)
    origin = (z0, y0 + (step - 1) / 2 * dy, x0 + (step - 1) / 2 * dx)
    placed = PlacedAtlas(atlas, transforms)
    rows = origin[1] + scale[1] * np.arange(-(-height // step), dtype=np.float64)
    columns = origin[2] + scale[2] * np.arange(-(-width // step), dtype=np.float64)
    ids = np.zeros((depth, len(rows), len(columns)), np.uint32)
    for z in known:
        ids[z] = placed.labels(z, rows, columns)
    if not ids.any():
        raise UserError(
            f"The atlas {atlas.name} lies beside the slices of {brain.path} everywhere; mend the"
            f" transforms in {path}."
        )
    key = f"atlas:{source}:{path}:{brain_key(brain.path)}"
    volume = Recode(list(atlas.table))(ids)
    return StructureSet(
        key,
        f"{atlas.name}, on the slices",
        atlas.table,
        StructurePlaces.find(depth, lambda z: ids[z]),
        scale,
        origin,
        _layer(volume, atlas, scale, origin, key, brain_key(brain.path)),
        brain=brain_key(brain.path),
        atlas=source,
        transforms=path,
    )


def _layer(
    volume: np.ndarray, atlas: Atlas, scale: Triple, origin: Triple, key: str, brain: str | None
) -> LayerTuple:
    levels = [volume]
    # In 3D napari shows the coarsest level, and a whole annotation would be too much for it.
    while max(levels[-1].shape) > 2 * _SMALLEST:
        levels.append(_halved(levels[-1]))
    frame = atlas.table.frame()
    tag = {"kind": "structures", "name": atlas.name, "atlas": key}
    meta: dict[str, Any] = {
        "name": f"structures ({atlas.name})",
        "scale": scale,
        "translate": origin,
        "units": UNITS,
        "axis_labels": AXES,
        "colormap": structure_colormap(frame),
        "features": structure_features(frame),
        "opacity": STRUCTURE_OPACITY,
        "blending": "translucent_no_depth",
        "metadata": {TAG: tag if brain is None else {**tag, "on": brain}},
        "multiscale": len(levels) > 1,
    }
    return (levels if len(levels) > 1 else volume), meta, "labels"


_SMALLEST = 100


def _halved(volume: np.ndarray) -> np.ndarray:
    """Take every second voxel along y and x, and along z where there are as many sections."""
    deep = volume.shape[0] > 2 * _SMALLEST
    return np.ascontiguousarray(volume[:: 2 if deep else 1, ::2, ::2])


def _triple(values: Any) -> Triple:
    z, y, x = (float(value) for value in tuple(values)[-3:])
    return z, y, x

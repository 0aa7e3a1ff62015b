"""Brain atlases: structures and their tree, annotation volumes, BrainGlobe."""

from __future__ import annotations

from napari_teramind.atlas.brainglobe import (
    brainglobe_names,
    from_brainglobe,
    load_brainglobe,
)
from napari_teramind.atlas.resample import (
    AffineTransform,
    LandmarkTransform,
    PlacedAtlas,
    SliceTransform,
    ids_at,
    read_transforms,
)
from napari_teramind.atlas.structures import (
    Structure,
    StructureTable,
    allen_structures,
    read_structures,
    table_from_frame,
)
from napari_teramind.atlas.volume import Atlas, open_atlas, read_annotation

__all__ = [
    "AffineTransform",
    "Atlas",
    "LandmarkTransform",
    "PlacedAtlas",
    "SliceTransform",
    "Structure",
    "StructureTable",
    "allen_structures",
    "brainglobe_names",
    "from_brainglobe",
    "ids_at",
    "load_brainglobe",
    "open_atlas",
    "read_annotation",
    "read_structures",
    "read_transforms",
    "table_from_frame",
]

"""Brain atlases: structures and their tree, annotation volumes, BrainGlobe."""

from __future__ import annotations

from napari_teramind.atlas.brainglobe import from_brainglobe, load_brainglobe
from napari_teramind.atlas.structures import (
    Structure,
    StructureTable,
    allen_structures,
    read_structures,
    table_from_frame,
)
from napari_teramind.atlas.volume import Atlas, read_annotation

__all__ = [
    "Atlas",
    "Structure",
    "StructureTable",
    "allen_structures",
    "from_brainglobe",
    "load_brainglobe",
    "read_annotation",
    "read_structures",
    "table_from_frame",
]

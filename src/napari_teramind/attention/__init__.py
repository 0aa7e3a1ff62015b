"""Gene-gene attention: maps of pairs, all pairs by structure, statistics, figures.

Names are imported on first use, so that importing this package needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_teramind.attention.job import attention_to_store, plan_attention
    from napari_teramind.attention.maps import AttentionMaps, attention
    from napari_teramind.attention.matrices import StructureMatrices, structure_matrices
    from napari_teramind.attention.pairs import PRESETS, MapChannel, read_pair
    from napari_teramind.attention.statistics import rank_agreement, structure_statistics
    from napari_teramind.attention.stored import StoredMaps, open_maps
    from napari_teramind.attention.trend import Trend, attention_trend

__all__ = [
    "PRESETS",
    "AttentionMaps",
    "MapChannel",
    "StoredMaps",
    "StructureMatrices",
    "Trend",
    "attention",
    "attention_to_store",
    "attention_trend",
    "open_maps",
    "plan_attention",
    "rank_agreement",
    "read_pair",
    "structure_matrices",
    "structure_statistics",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "job": ["attention_to_store", "plan_attention"],
        "maps": ["AttentionMaps", "attention"],
        "matrices": ["StructureMatrices", "structure_matrices"],
        "pairs": ["MapChannel", "PRESETS", "read_pair"],
        "statistics": ["rank_agreement", "structure_statistics"],
        "stored": ["StoredMaps", "open_maps"],
        "trend": ["Trend", "attention_trend"],
    },
)

"""Gene-gene attention: maps of pairs, all pairs by structure, statistics, figures.

Names are imported on first use, so that importing this package needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_teramind.attention.job import (
        StoredMaps,
        attention_to_store,
        open_maps,
        plan_attention,
    )
    from napari_teramind.attention.maps import AttentionMaps, attention
    from napari_teramind.attention.matrices import StructureMatrices, structure_matrices
    from napari_teramind.attention.pairs import PRESETS, MapChannel, read_pair
    from napari_teramind.attention.statistics import rank_agreement, structure_statistics
    from napari_teramind.attention.trend import Trend, attention_trend

_HOME = {
    "PRESETS": "pairs",
    "AttentionMaps": "maps",
    "MapChannel": "pairs",
    "StoredMaps": "job",
    "StructureMatrices": "matrices",
    "Trend": "trend",
    "attention": "maps",
    "attention_to_store": "job",
    "attention_trend": "trend",
    "open_maps": "job",
    "plan_attention": "job",
    "rank_agreement": "statistics",
    "read_pair": "pairs",
    "structure_matrices": "matrices",
    "structure_statistics": "statistics",
}

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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

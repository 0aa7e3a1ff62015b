"""The Tera-MIND network, exactly as published, and its checkpoints.

The shape of a network is known without torch; the rest is imported when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_teramind.model.config import ModelConfig

if TYPE_CHECKING:
    from napari_teramind.model.checkpoint import (
        convert_checkpoint,
        load_model,
        read_gene_list,
        save_model,
    )
    from napari_teramind.model.network import TeraMind

__all__ = [
    "ModelConfig",
    "TeraMind",
    "convert_checkpoint",
    "load_model",
    "read_gene_list",
    "save_model",
]

_HOME = {
    "TeraMind": "network",
    "convert_checkpoint": "checkpoint",
    "load_model": "checkpoint",
    "read_gene_list": "checkpoint",
    "save_model": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

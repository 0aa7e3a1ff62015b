"""The Tera-MIND network, exactly as published, and its checkpoints.

The shape of a network is known without torch; the rest is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from napari_teramind.model.config import ModelConfig

if TYPE_CHECKING:
    from napari_teramind.model.checkpoint import (
        convert_checkpoint,
        load_model,
        parse_gene_list,
        read_gene_list,
        save_model,
    )
    from napari_teramind.model.network import TeraMind

__all__ = [
    "ModelConfig",
    "TeraMind",
    "convert_checkpoint",
    "load_model",
    "parse_gene_list",
    "read_gene_list",
    "save_model",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": [
            "convert_checkpoint",
            "load_model",
            "parse_gene_list",
            "read_gene_list",
            "save_model",
        ],
        "network": ["TeraMind"],
    },
)

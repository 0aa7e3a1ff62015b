"""The Tera-MIND network, exactly as published, and its checkpoints."""

from napari_teramind.model.checkpoint import (
    convert_checkpoint,
    load_model,
    read_gene_list,
    save_model,
)
from napari_teramind.model.config import ModelConfig
from napari_teramind.model.network import TeraMind

__all__ = [
    "ModelConfig",
    "TeraMind",
    "convert_checkpoint",
    "load_model",
    "read_gene_list",
    "save_model",
]

"""Translation between this package's parameter names and the published ones."""

from __future__ import annotations

import re

from torch import nn

from napari_teramind.model.gene_morph import GeneMorphAttention, ResidualBlock
from napari_teramind.model.network import TeraMind

_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
}
_ATTENTION = {
    "modulation": "adaLN_modulation.1",
    "q": "attn.q",
    "k": "attn.k",
    "v": "attn.v",
    "q_norm": "attn.q_norm",
    "k_norm": "attn.k_norm",
    "proj": "attn.proj",
}
_GENE_GENE = {name: _ATTENTION[name] for name in ("q", "v", "q_norm", "proj")}


def published_names(model: TeraMind) -> dict[str, str]:
    """Find the published parameter name for every parameter of a model, by our name."""
    modules = {
        "genes.gene_gene": "rna_blocks.0.0",
        "unet.time_embed.fc1": "time_embed.time_embed.0",
        "unet.time_embed.fc2": "time_embed.time_embed.2",
        "unet.entry": "input_blocks.0.0",
        "unet.exit_norm": "out.0",
        "unet.exit": "out.2",
        "unet.middle1": "middle_block.0",
        "unet.middle_attn": "middle_block.1",
        "unet.middle2": "middle_block.2",
    }
    for i in range(len(model.genes.levels)):
        modules[f"genes.levels.{i}"] = f"rna_blocks.{i + 1}.1"
    for ours, theirs, offset, blocks in (
        ("unet.encoder", "input_blocks", 1, model.unet.encoder),
        ("unet.decoder", "output_blocks", 0, model.unet.decoder),
    ):
        for i, block in enumerate(blocks):
            parts = [name for name, _ in block.named_children()]
            for position, part in enumerate(parts):
                modules[f"{ours}.{i}.{part}"] = f"{theirs}.{i + offset}.{position}"
    lookup = dict(model.named_modules())
    return {name: _rename(name, modules, lookup) for name, _ in model.named_parameters()}


def _rename(name: str, modules: dict[str, str], lookup: dict[str, nn.Module]) -> str:
    """Rename one parameter: its module by the table, the rest by the module's kind."""
    ours = max((key for key in modules if name.startswith(key + ".")), key=len)
    rest = name[len(ours) + 1 :]
    module = lookup[ours]
    if isinstance(module, ResidualBlock):
        table = _RESIDUAL
    elif isinstance(module, GeneMorphAttention):
        table = _ATTENTION
    else:
        table = _GENE_GENE if ours == "genes.gene_gene" else {}
    head, dot, tail = rest.partition(".")
    return f"{modules[ours]}.{table.get(head, head)}{dot}{tail}"


def is_norm(published: str) -> bool:
    """Whether a published name is that of a residual block's or the exit's norm.

    The authors keep those weights as (1, C, 1, 1); ours are (C,).
    """
    return bool(re.search(r"(in_layers|out_layers)\.0\.weight$|^out\.0\.weight$", published))

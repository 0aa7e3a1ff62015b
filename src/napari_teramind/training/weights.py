"""Starting a run from the weights of another checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_teramind.errors import UserError
from napari_teramind.model.checkpoint import load_model
from napari_teramind.model.config import ModelConfig
from napari_teramind.model.network import TeraMind


@torch.no_grad()
def start_from(model: TeraMind, path: str) -> dict[str, Any]:
    """Give a fresh model the weights of a checkpoint, genes by name.

    Parameters
    ----------
    model
        A fresh network that knows its panel; genes that the checkpoint lacks keep its weights.
    path
        A checkpoint of a network of the same shape, but for the number of genes.

    Returns
    -------
    dict
        For the provenance: path, sha256, and how many genes were found.

    Raises
    ------
    UserError
        If the checkpoint cannot be read or its network has another shape or parametrisation.
    """
    other = load_model(path)
    ours, theirs = model.config.to_dict(), other.config.to_dict()
    for key in ours.keys() - {"genes", "dropout"}:
        if ours[key] != theirs[key]:
            raise UserError(
                f"The checkpoint {path} has {key} = {theirs[key]}, and this run {ours[key]}; "
                "start from a checkpoint of the same shape."
            )
    if model.gene_names is None or other.gene_names is None:
        raise UserError(f"The checkpoint {path} does not say which genes it was trained with.")
    place = {gene: i for i, gene in enumerate(other.gene_names)}
    shared = [gene for gene in model.gene_names if gene in place]
    if not shared:
        raise UserError(
            f"The checkpoint {path} shares no gene with this run; start from another one."
        )
    to = torch.tensor([i for i, gene in enumerate(model.gene_names) if gene in place])
    source = torch.tensor([place[gene] for gene in shared])
    weights, axes = dict(other.named_parameters()), _gene_axes(model.config)
    for name, parameter in model.named_parameters():
        indices = []
        for axis in axes[name]:
            # Genes come after whatever else lies along an axis.
            rest = torch.arange(parameter.shape[axis] - model.config.genes)
            into, out_of = torch.cat([rest, len(rest) + to]), torch.cat([rest, len(rest) + source])
            indices.append((axis, into.to(parameter.device), out_of.to(parameter.device)))
        _put(parameter.data, weights[name].to(parameter.device), indices)
    return {
        "path": str(Path(path).resolve()),
        "sha256": other.sha256,
        "genes_found": len(shared),
    }


def _put(target: Tensor, value: Tensor, indices: list[tuple[int, Tensor, Tensor]]) -> None:
    """Copy values: along each axis given, from some places to others; along the rest, all."""
    if not indices:
        target.copy_(value)
        return
    (axis, into, out_of), *rest = indices
    part = target.index_select(axis, into)
    _put(part, value.index_select(axis, out_of), rest)
    target.index_copy_(axis, into, part)


def _gene_axes(config: ModelConfig) -> dict[str, list[int]]:
    """Return along which axes of every parameter genes lie: those that grow with their number."""
    with torch.device("meta"):
        networks = [TeraMind(replace(config, genes=config.genes + more)) for more in (0, 1)]
    shapes = [{n: tuple(p.shape) for n, p in network.named_parameters()} for network in networks]
    return {
        name: [axis for axis, size in enumerate(shape) if size != shapes[1][name][axis]]
        for name, shape in shapes[0].items()
    }

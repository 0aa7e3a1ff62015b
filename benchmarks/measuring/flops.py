"""Floating-point operations of the networks, and how many patches a run evaluates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from published.network import PublishedNetwork
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from napari_teramind.model import ModelConfig, TeraMind


@dataclass
class Patches:
    """Patches evaluated by encoder, decoder and gene features, padding of batches included."""

    encoder: int = 0
    decoder: int = 0
    genes: int = 0

    def flop(self, each: dict[str, float]) -> float:
        """Total operations, given those of one patch of each kind."""
        return sum(count * each[kind] for kind, count in asdict(self).items())


def published_patches(height: int, width: int, steps: int, patch: int, **switches: bool) -> Patches:
    """Patches that the published schedule evaluates on a field of whole 256-px tiles."""
    tiles = (height // 256) * (width // 256)
    inner, outer = (256 // patch) ** 2, (256 // patch + 1) ** 2
    return Patches(
        encoder=tiles * steps * outer,
        decoder=tiles * steps * (inner + (outer if switches["both_decoders"] else 0)),
        genes=tiles * outer * (1 if switches["cache_features"] else steps),
    )


def count_patches(model: Any) -> Patches:
    """Count from now on what an engine asks of a network."""
    patches = Patches()

    def counted(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any) -> Any:
            batch = first if isinstance(first, Tensor) else first.middle
            setattr(patches, kind, getattr(patches, kind) + batch.shape[0])
            return function(first, *rest)

        return call

    model.encode = counted("encoder", model.encode)
    model.decode = counted("decoder", model.decode)
    model.gene_features = counted("genes", model.gene_features)
    return patches


def as_conv3d(config: ModelConfig) -> dict[str, float]:
    """Operations of one patch of the published network; nothing is computed."""
    c = config
    with torch.device("meta"), torch.inference_mode():
        network = PublishedNetwork(c).eval()
        g = torch.empty(1, c.genes, c.gene_slices, c.bins, c.bins)
        x = torch.empty(1, c.stains, c.image_slices, c.patch, c.patch)
        time = network.time_embed(torch.zeros(1))
        genes, features = _count(lambda: network.gene_features(g))
        encoder, (middle, skips) = _count(lambda: network.encode(x, features, time))
        decoder, _ = _count(lambda: network.decode(middle, skips, features, time))
    return {"encoder": encoder, "decoder": decoder, "genes": genes}


def as_ours(config: ModelConfig, device: str = "cpu") -> dict[str, float]:
    """Operations of one patch of this package's network, as it evaluates them on a device."""
    c = config
    with torch.device(device), torch.inference_mode():
        model = TeraMind(c).eval()
        g = torch.empty(1, c.genes, c.gene_slices, c.bins, c.bins)
        x = torch.empty(1, c.patch, c.patch, c.image_slices, c.stains)
        time = model.time_embedding(torch.zeros(1))
        genes, features = _count(lambda: model.gene_features(g))
        encoder, encoded = _count(lambda: model.encode(x, features, time))
        decoder, _ = _count(lambda: model.decode(encoded, time))
    return {"encoder": encoder, "decoder": decoder, "genes": genes}


def _count(call: Callable[[], Any]) -> tuple[float, Any]:
    # Of torch's operations; kernels of ours have no products of matrices.
    with FlopCounterMode(display=False) as counter:
        result = call()
    return float(counter.get_total_flops()), result

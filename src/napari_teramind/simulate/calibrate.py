"""How long one patch takes on a device, from a few evaluations; and how much memory is free."""

from __future__ import annotations

import time

import torch

from napari_teramind.model.network import Encoded, TeraMind
from napari_teramind.simulate.batches import Batches
from napari_teramind.simulate.pools import PatchPool
from napari_teramind.simulate.request import Layout


@torch.inference_mode()
def seconds_per_evaluation(model: TeraMind, layout: Layout, repeats: int = 2) -> float:
    """Time one batch of every part of the network, and return what a collage patch costs.

    Parameters
    ----------
    model
        The network, on the device and in the precision of the run.
    layout
        Of the run: batch, band and steps count.
    repeats
        Measurements, after one to warm up; the fastest counts.
    """
    c, batch = model.config, layout.settings.batch
    genes = torch.zeros(batch, c.genes, c.gene_slices, c.bins, c.bins, device=model.device)
    image = torch.zeros(batch, c.patch, c.patch, c.image_slices, c.stains, device=model.device)
    time_ = model.time_embedding(torch.tensor([500], device=model.device))
    evaluate = Batches(batch)

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        return model.gene_features(x)

    def encode(x: torch.Tensor, *levels: torch.Tensor) -> list[torch.Tensor]:
        out = model.encode(x, levels, time_)
        return [out.middle, *out.skips]

    def decode(middle: torch.Tensor, *rest: torch.Tensor) -> list[torch.Tensor]:
        return [model.decode(Encoded(middle, list(rest[:-4]), list(rest[-4:])), time_)]

    places = [(0, k) for k in range(batch)]
    best = [float("inf")] * 3
    for _ in range(1 + repeats):
        begun = _now(model)
        levels = evaluate(features, [genes])
        first = _now(model)
        pool = PatchPool()
        pool.put(places, evaluate(encode, [image, *levels]))
        second = _now(model)
        evaluate(decode, [*pool.take(places), *levels])
        taken = (first - begun, second - first, _now(model) - second)
        best = [min(old, new) for old, new in zip(best, taken, strict=True)]
    rows = layout.settings.band or layout.windows[0].rows
    once, encoder, decoder = (seconds / evaluate.size for seconds in best)
    return once / layout.request.steps + encoder * (rows + 1) / rows + decoder


def _now(model: TeraMind) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()


def free_memory(device: torch.device) -> int:
    """Free bytes of the memory in which a run on this device keeps its state."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    import psutil

    return int(psutil.virtual_memory().available)

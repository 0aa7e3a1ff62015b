"""How long one patch takes on a device, from a few evaluations; and how much memory is free."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from napari_teramind.model.network import Encoded, TeraMind
from napari_teramind.simulate.batches import Batches
from napari_teramind.simulate.pools import PatchPool
from napari_teramind.simulate.request import Layout

LONGEST = 10.0
"""Seconds that a calibration takes, but that one patch is evaluated whatever it takes."""

WORTH = 200
"""A run of that many batches and more takes much longer than its calibration."""


class Pace(NamedTuple):
    """Seconds that a patch takes: its gene features, once; encoder and decoder at every step."""

    features: float
    encoder: float
    decoder: float


@torch.inference_mode()
def seconds_per_evaluation(model: TeraMind, layout: Layout, longest: float = LONGEST) -> float:
    """Time a few evaluations of every part of the network; return what a collage patch costs.

    Parameters
    ----------
    model
        The network, on the device and in the precision of the run.
    layout
        Of the run: batch, band and steps count.
    longest
        Seconds after which no further evaluation begins. One patch is evaluated first, which also
        warms the device up; then whole batches, as the run has them, where there is time.
    """
    batch, begun = layout.settings.batch, _now(model)
    measured = {1: [_measure(model, 1)]}
    for size in (1, batch, batch):
        expected = sum(measured[1][-1]) * size
        if _now(model) - begun + expected > longest:
            break
        measured.setdefault(size, []).append(_measure(model, size))
    best = Pace(*map(min, zip(*measured[max(measured)], strict=True)))
    rows = layout.settings.band or layout.windows[0].rows
    again = (rows + 1) / rows  # neighbouring bands both encode the shifted row between them
    return best.features / layout.request.steps + best.encoder * again + best.decoder


def _measure(model: TeraMind, size: int) -> Pace:
    """Evaluate a batch of that many patches, and return the seconds for one."""
    c = model.config
    genes = torch.zeros(size, c.genes, c.gene_slices, c.bins, c.bins, device=model.device)
    image = torch.zeros(size, c.patch, c.patch, c.image_slices, c.stains, device=model.device)
    time_ = model.time_embedding(torch.tensor([500], device=model.device))
    evaluate = Batches(size)

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        return model.gene_features(x)

    def encode(x: torch.Tensor, *levels: torch.Tensor) -> list[torch.Tensor]:
        out = model.encode(x, levels, time_)
        return [out.middle, *out.skips]

    def decode(middle: torch.Tensor, *rest: torch.Tensor) -> list[torch.Tensor]:
        return [model.decode(Encoded(middle, list(rest[:-4]), list(rest[-4:])), time_)]

    begun = _now(model)
    levels = evaluate(features, [genes])
    first = _now(model)
    places = [(0, k) for k in range(size)]
    pool = PatchPool()
    pool.put(places, evaluate(encode, [image, *levels]))
    second = _now(model)
    evaluate(decode, [*pool.take(places), *levels])
    return Pace((first - begun) / size, (second - first) / size, (_now(model) - second) / size)


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

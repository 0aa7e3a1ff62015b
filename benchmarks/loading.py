"""Measure the training sampler: samples a second against naive crop-by-crop reads, and memory.

Run ``python benchmarks/loading.py BRAIN`` on a store with real chunks, such as a phantom of size S
(made in a temporary folder if no brain is named). A naive reader opens the store for every sample
at the crop's own place and cuts the same four patches out of it; ours reads blocks and draws many
crops from each, alone (0 workers) and with processes that read ahead. Naive reads and ours take
turns, so that their ratio means something on a busy machine; both start with a warm file cache.
Memory is that of the process and its workers, sampled while thousands of batches are drawn.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.model import ModelConfig
from napari_teramind.training import TrainConfig
from napari_teramind.training.loader import Batches
from napari_teramind.training.samples import Sample, allowed_corners, draw
from napari_teramind.training.source import SampleSource, read_block, tissue_at

BATCH = 8


def naive_sample(source: SampleSource, number: int) -> Sample:
    """Read one crop at a random place and cut a sample out of it."""
    rng = np.random.default_rng([source.train.seed, 9, number])
    brain = source.brains[int(rng.integers(len(source.brains)))]
    side, m = source.train.crop_bins, source.config.image_slices
    depth, height, width = brain.shape
    while True:
        z = int(rng.integers(depth - m + 1))
        y, x = (int(rng.integers(n // 16 - side + 1)) for n in (height, width))
        box = (y, y + side, x, x + side)
        corners = allowed_corners(box, side, None, tissue_at(brain, box, z))
        if len(corners):
            break
    block = read_block(brain, box, z, source.panel, source.config, corners)
    return draw(block, source.config, source.train.crop_px, rng)


def naive_rate(source: SampleSource, first: int, count: int) -> float:
    """Samples a second, read one by one."""
    began = time.perf_counter()
    for number in range(first, first + count):
        naive_sample(source, number)
    return count / (time.perf_counter() - began)


def our_rate(batches: Batches, count: int) -> float:
    """Samples a second, whole diffused batches."""
    began = time.perf_counter()
    for _ in batches.take(count):
        pass
    return count * BATCH / (time.perf_counter() - began)


def memory_mb() -> float:
    """Memory of this process and its children."""
    me = psutil.Process()
    return sum(p.memory_info().rss for p in [me, *me.children(recursive=True)]) / 2**20


def compare(source: SampleSource, workers: int, turns: int, count: int) -> dict[str, Any]:
    """Take turns between naive reads and ours."""
    naive, ours = [], []
    with Batches(source, 0, range(BATCH), workers) as batches:
        our_rate(batches, 16)  # the first blocks, and the start of the workers
        for turn in range(turns):
            naive.append(naive_rate(source, 1000 * turn, 8))
            ours.append(our_rate(batches, count))
    return {
        "workers": workers,
        "naive_samples_per_s": round(statistics.median(naive), 2),
        "our_samples_per_s": round(statistics.median(ours), 2),
        "ratio": round(statistics.median(ours) / statistics.median(naive), 1),
        "ratio_of_each_turn": [round(o / n, 1) for o, n in zip(ours, naive, strict=True)],
    }


def memory(source: SampleSource, workers: int, evaluations: int) -> dict[str, Any]:
    """Draw many batches and watch the memory."""
    watched = []
    with Batches(source, 0, range(BATCH), workers) as batches:
        for number, _ in enumerate(batches.take(evaluations)):
            if number % max(1, evaluations // 20) == 0:
                watched.append(round(memory_mb()))
    half = len(watched) // 2
    return {
        "workers": workers,
        "samples": evaluations * BATCH,
        "mb": watched,
        "growth_of_the_later_half_mb": watched[-1] - watched[half],
    }


def make_brain(folder: Path) -> BrainStore:
    """Make a phantom with chunks as in a real brain."""
    from napari_teramind.phantom import make_phantom

    print("making a phantom of size S ...", flush=True)
    return make_phantom(folder / "supp_m.zarr", animal="supp_m", size="S")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("brain", nargs="?", help="default: a phantom made for this")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batches", type=int, default=32, help="of each turn")
    parser.add_argument("--memory-batches", type=int, default=800)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "loading.json"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loading-") as folder:
        brain = open_brain(args.brain) if args.brain else make_brain(Path(folder))
        panel = brain.gene_names
        shape = ModelConfig(genes=len(panel), stains=len(brain.stain_names))
        source = SampleSource([brain], panel, shape, TrainConfig(batch=BATCH))
        gene_array = brain.genes.levels[0]
        result: dict[str, Any] = {
            "what": "training samples a second; medians of turns, warm file cache",
            "brain": f"{brain.name}, {brain.shape}, {len(panel)} genes",
            "gene_chunks": list(gene_array.chunks),
            "platform": platform.platform(),
            "cores": psutil.cpu_count(),
            "speed": [],
            "memory": [],
        }
        for workers in args.workers:
            result["speed"].append(compare(source, workers, args.turns, args.batches))
            print(result["speed"][-1], flush=True)
        for workers in args.workers:
            result["memory"].append(memory(source, workers, args.memory_batches))
            print(result["memory"][-1], flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()

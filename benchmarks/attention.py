"""Attention of 20 pairs beside the published way of computing it.

The published way runs the whole gene-gene block four times on every patch (three windows of two
slices and all four), with full n x n maps, tile by tile of 25 patches; what a pair needs is picked
afterwards; ``maps`` leaves out of it whatever does not reach the maps. Both get their counts from
memory. Ours reads them from the store, and gives A alone as well: as arrays (``ours``) or written
into the store with its pyramid (``job``). Counts are as sparse as
those of a real MERSCOPE region: 0.022 transcripts a gene and bin, genes differing by a lognormal
factor.

Every run is a process of its own, whose peak memory is told beside what it was before any work,
with libraries loaded and the threads that read chunks started; of three runs, that with the middle
peak is told. Only ratios within one run of this script count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RATE = 0.022
PAIRS = 20
DEPTH, FIRST = 6, 2  # slices of the brain; the group that is computed has counts on both sides
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, nargs="*", default=[229, 500])
    parser.add_argument("--side", type=int, default=1024, help="px of the field compared")
    parser.add_argument("--sides", type=int, nargs="*", default=[2048, 4096, 8192])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "attention.json")
    parser.add_argument(
        "--child", choices=["published", "maps", "ours", "job"], help=argparse.SUPPRESS
    )
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.world)))
        return
    results: dict[str, Any] = {"pairs": PAIRS, "rate": RATE, "compared": [], "areas": []}
    with tempfile.TemporaryDirectory() as name:
        for genes in options.genes:
            world = make_world(Path(name) / f"{genes}", genes, options.side, options.side)
            runs = {kind: middle(kind, world) for kind in ("published", "maps", "ours", "job")}
            results["compared"].append(compared(genes, options.side, world, runs))
        genes = max(options.genes)
        for width in options.sides:
            height = min(width, 4096)
            world = make_world(Path(name) / f"{genes}-{width}", genes, height, width)
            run = start("job", world)
            results["areas"].append({"genes": genes, "height": height, "width": width, **run})
            print(f"{genes} genes, {height} x {width} px: {words(run)}", flush=True)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(options.out)


def start(kind: str, world: Path) -> dict[str, Any]:
    """Run one way in a process of its own."""
    command = [sys.executable, __file__, "--child", kind, "--world", str(world)]
    # As the command line sets it: threads that spin while they wait would count as work.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(kind: str, world: Path, times: int = 3) -> dict[str, Any]:
    """Run one way several times, and pick the run whose peak lies in the middle."""
    runs = sorted((start(kind, world) for _ in range(times)), key=lambda run: run["peak"])
    return runs[times // 2]


def compared(genes: int, side: int, world: Path, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Say how the ways compare, and that they agree."""
    ours, published = (np.load(world / f"{kind}.npy") for kind in ("ours", "published"))
    difference = float(np.abs(ours - published).max())
    ratios = {}
    for kind in ("published", "maps"):
        other, own = runs[kind], runs["ours"]
        ratios[kind] = {
            "seconds": other["seconds"] / own["seconds"],
            "processor_seconds": other["processor_seconds"] / own["processor_seconds"],
            "peak": other["peak"] / own["peak"],
            "peak_of_work": (other["peak"] - other["before"]) / (own["peak"] - own["before"]),
        }
    print(f"{genes} genes, {side} x {side} px, {PAIRS} pairs; largest difference {difference:.1e}")
    for kind, run in runs.items():
        told = (
            ""
            if kind not in ratios
            else "; ours is better by "
            + ", ".join(f"{name} {value:.1f}x" for name, value in ratios[kind].items())
        )
        print(f"  {kind}: {words(run)}{told}", flush=True)
    return {
        "genes": genes,
        "side": side,
        "runs": runs,
        "ratios": ratios,
        "largest_difference": difference,
    }


def words(run: dict[str, Any]) -> str:
    """One run in words."""
    return (
        f"{run['seconds']:.1f} s ({run['processor_seconds']:.1f} s of processor), peak "
        f"{run['peak'] / 1e6:.0f} MB, {run['before'] / 1e6:.0f} MB before"
    )


def make_world(folder: Path, genes: int, height: int, width: int) -> Path:
    """Write a network and a brain of sparse counts."""
    import torch

    from napari_teramind.brain import BrainWriter
    from napari_teramind.model import ModelConfig, TeraMind, save_model

    folder.mkdir(parents=True)
    symbols = [f"G{i:03}" for i in range(genes)]
    torch.manual_seed(0)
    model = TeraMind(ModelConfig(genes=genes, channels=4, time_channels=16))
    model.gene_names = tuple(symbols)
    save_model(model, folder / "network.safetensors")
    rng = np.random.default_rng(0)
    abundance = rng.lognormal(0, 1, genes)
    rates = RATE * abundance / abundance.mean()
    writer = BrainWriter.create(
        folder / "brain.zarr", name="benchmark", shape=(DEPTH, height, width), genes=symbols
    )
    rows, columns, side = height // 16, width // 16, writer.gene_tile
    for z in range(DEPTH):
        for y in range(0, rows, side):
            for x in range(0, columns, side):
                shape = (genes, min(side, rows - y), min(side, columns - x))
                # Sparse draws: far fewer than one a bin.
                counts = np.zeros(shape, np.float32)
                cells = shape[1] * shape[2]
                for gene, count in enumerate(rng.poisson(rates * cells)):
                    at = rng.integers(0, cells, count)
                    np.add.at(counts[gene].reshape(-1), at, 1)
                writer.write_genes(z, y, x, counts)
    writer.finish()
    return folder


def measure(kind: str, world: Path) -> dict[str, Any]:
    """Run one way here and say what it took."""
    import torch

    import napari_teramind as tm
    from napari_teramind.attention.job import attention_to_store

    torch.set_num_threads(2)
    brain = tm.open_brain(world / "brain.zarr")
    model = tm.load_model(world / "network.safetensors")
    genes = model.config.genes
    pairs = [(f"G{i:03}", f"G{genes - 1 - i:03}") for i in range(PAIRS)]
    _, height, width = brain.shape
    slices = (FIRST, FIRST + 2)
    field: torch.Tensor | None = None
    if kind in ("published", "maps"):
        bins = (-2, height // 16 + 2, -2, width // 16 + 2)
        field = torch.from_numpy(brain.read_genes(bins, (FIRST - 1, FIRST + 3)))
    else:
        _ = brain.genes.levels[0][:64, FIRST, :4, :4]  # readers start their threads
    before = memory("VmRSS")
    reset_peak()
    began, processor = time.perf_counter(), time.process_time()
    if kind == "job":
        attention_to_store(brain, model, "benchmark", pairs, slices=slices, overwrite=True)
    elif field is None:
        out = tm.attention(brain, model, pairs, slices=slices).data
    else:
        from published.network import GeneGene

        block = GeneGene(model.config).eval()
        ours = model.genes.gene_gene
        block.attn.q.load_state_dict(ours.q.state_dict())
        block.attn.q_norm.load_state_dict(ours.q_norm.state_dict())
        places = [(i, genes - 1 - i) for i in range(PAIRS)]
        out = published(block, field, places, whole=kind == "published")
    seconds, used = time.perf_counter() - began, time.process_time() - processor
    peak = memory("VmHWM")
    if kind == "ours":
        layers = [6 * k + i for k in range(3 * PAIRS) for i in (0, 1)]
        np.save(world / "ours.npy", out[layers])
    elif field is not None:
        # The counts of the field are no work of this way: it would read them tile by tile.
        before, peak = before - field.nbytes, peak - field.nbytes
        np.save(world / f"{kind}.npy", out)
    return {"seconds": seconds, "processor_seconds": used, "peak": peak, "before": before}


def published(block: Any, field: Any, pairs: list[tuple[int, int]], whole: bool) -> np.ndarray:
    """Compute pairs from full maps, tile by tile of 256 px.

    Parameters
    ----------
    block
        The published gene-gene block.
    field
        Counts (genes, S, y, x), two bins more on every side.
    pairs
        Places of the genes.
    whole
        Run the whole block, as published; else stop at its softmax.

    Returns
    -------
    array, (pairs maps genes, slices, y, x)
    """
    import torch

    windows = [(0, 1), (1, 2), (2, 3), (0, 1, 2, 3)]
    by_slice = [(0, 1, 3), (1, 2, 3)]
    height, width = field.shape[-2] - 4, field.shape[-1] - 4
    out = np.zeros((len(pairs), 3, 2, 2, height, width), np.float32)
    with torch.inference_mode():
        for y in range(0, height, 16):
            for x in range(0, width, 16):
                tile = field[..., y : y + 20, x : x + 20]
                genes, slices = tile.shape[:2]
                patches = tile.reshape(genes, slices, 5, 4, 5, 4).permute(2, 4, 0, 1, 3, 5)
                patches = patches.reshape(25, genes, slices, 4, 4)
                maps = []
                for window in windows:
                    seen = torch.zeros(slices, 1, 1)
                    seen[list(window)] = 1
                    masked = patches * seen
                    q = block.attn.q_norm(block.attn.q(masked.flatten(2)))
                    a = torch.softmax(q @ q.transpose(-1, -2) / q.shape[-1], dim=-1)
                    if whole:
                        tokens = block.attn.proj(a @ block.attn.v(masked.flatten(2)))
                        block.down_z(block.mlp(block.norm2(tokens)).view_as(masked))
                    maps.append(a)
                for k, pair in enumerate(pairs):
                    counts = patches[:, pair]
                    for z in (0, 1):
                        for m, which in enumerate(by_slice[z]):
                            sub = maps[which][:, pair][:, :, pair]
                            layer = torch.einsum("pij,pjyx->piyx", sub, counts[:, :, z + 1])
                            image = layer.view(5, 5, 2, 4, 4).permute(2, 0, 3, 1, 4)
                            image = image.reshape(2, 20, 20)[:, 2:-2, 2:-2]
                            out[k, m, :, z, y : y + 16, x : x + 16] = image
    return out.reshape(-1, 2, height, width)


def memory(what: str) -> int:
    """Resident bytes of this process now (VmRSS) or at most (VmHWM); Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {what}")


def reset_peak() -> None:
    """Begin the count of peak memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()

"""Measure chunk and shard shapes of the store: writing, viewing one gene, drawing training blocks.

Run ``python benchmarks/chunks.py``: it writes 4,096-px squares of made-up stains and genes in every
candidate layout into a temporary folder, reads them the ways the product does, and stores times
and sizes as ``benchmarks/results/chunks.json``. All candidates run in one process, in turn, so that
their ratios mean something; times are the best of several runs with a warm file cache.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter
from zarr.codecs import BloscCodec, BloscShuffle

SIDE = 4096
GENES = 229
SLICES = 4
# Transcripts per bin and gene in a published whole slice: 10^8 over 4,576 x 6,624 bins, 229 genes.
RATE = 0.0145

GENE_LAYOUTS = [
    # (genes per chunk, side of a chunk, side of a shard), in bins
    (1, 32, 256),
    (1, 64, 256),
    (1, 128, 256),
    (1, 256, 256),
    (8, 64, 256),
    (229, 16, 256),
]
STAIN_LAYOUTS = [
    # (side of a chunk, side of a shard), in pixels
    (128, 4096),
    (256, 4096),
    (512, 4096),
    (1024, 4096),
    (512, 2048),
    (512, 1024),
]


def make_genes(rng: np.random.Generator) -> np.ndarray:
    """Make counts (genes, slices, y, x): genes of very different abundance, clustered in space."""
    bins = SIDE // 16
    seeds = (rng.random((SLICES, bins, bins)) < 0.03).astype(np.float32)
    cells = gaussian_filter(seeds, (0, 2, 2))
    abundance = rng.lognormal(0.0, 1.2, GENES)
    field = cells / cells.mean()
    rates = RATE * abundance / abundance.mean()
    return np.stack([rng.poisson(rate * field) for rate in rates]).astype(np.float16)


def make_stains(rng: np.random.Generator) -> np.ndarray:
    """Make images (2, y, x) uint8: blurred blobs of nuclear size, with shot noise."""
    images = []
    for sigma in (25, 40):
        spots = gaussian_filter((rng.random((SIDE, SIDE)) < 2e-4).astype(np.float32), sigma)
        light = 8 + 120 * spots / spots.max()
        images.append(np.clip(rng.poisson(light), 0, 255))
    return np.stack(images).astype(np.uint8)


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Return the shortest duration: what other programs of a busy machine disturb least."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return round(min(times), 5)


def create(folder: Path, shape: tuple[int, ...], chunks: Any, shards: Any, dtype: Any) -> Any:
    """Make an empty array as the store does."""
    shuffle = BloscShuffle.noshuffle if dtype == np.uint8 else BloscShuffle.shuffle
    return zarr.create_array(
        str(folder),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=shuffle),
        fill_value=0,
        overwrite=True,
    )


def size(folder: Path) -> int:
    """Count the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_genes(folder: Path, counts: np.ndarray, repeats: int) -> list[dict[str, Any]]:
    """Write and read gene bins in every layout."""
    rows = []
    bins = SIDE // 16
    rng = np.random.default_rng(1)
    for genes, chunk, tile in GENE_LAYOUTS:
        # A shard holds all genes, rounded up to whole chunks.
        depth = -(-counts.shape[0] // genes) * genes
        array = create(folder, counts.shape, (genes, 1, chunk, chunk), (depth, 1, tile, tile), "f2")

        def write(array: Any = array) -> None:
            for z in range(SLICES):
                array[:, z] = counts[:, z]

        def crop(side: int, array: Any = array) -> None:
            y, x = rng.integers(0, (bins - side) // 16 + 1, 2) * 16
            array[:, :, y : y + side, x : x + side]

        rows.append(
            {
                "genes_per_chunk": genes,
                "chunk_bins": chunk,
                "shard_bins": tile,
                "write_shard_s": round(seconds(write, 3) / SLICES, 5),
                "bytes": size(folder),
                "one_gene_whole_shard_s": seconds(lambda a=array: a[17, 0], repeats),
                "one_gene_64_bins_s": seconds(lambda a=array: a[17, 0, :64, :64], repeats),
                "all_genes_4_slices_20_bins_s": seconds(lambda: crop(20), repeats),
                "all_genes_4_slices_64_bins_s": seconds(lambda: crop(64), repeats),
                "all_genes_4_slices_256_bins_s": seconds(lambda a=array: a[:], 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def measure_stains(folder: Path, image: np.ndarray, repeats: int) -> list[dict[str, Any]]:
    """Write and read stains in every layout."""
    rows = []
    rng = np.random.default_rng(1)
    for chunk, tile in STAIN_LAYOUTS:
        array = create(folder, image.shape, (1, chunk, chunk), (2, tile, tile), np.uint8)

        def write(array: Any = array) -> None:
            array[:] = image

        def crop(side: int, array: Any = array) -> None:
            y, x = rng.integers(0, SIDE - side + 1, 2)
            array[:, y : y + side, x : x + side]

        rows.append(
            {
                "chunk_px": chunk,
                "shard_px": tile,
                "write_4096_px_s": seconds(write, 3),
                "bytes": size(folder),
                "files": sum(1 for path in folder.rglob("*") if path.is_file()) - 1,
                "one_view_1024_px_s": seconds(lambda: crop(1024), repeats),
                "training_block_256_px_s": seconds(lambda: crop(256), repeats),
                "whole_4096_px_s": seconds(lambda a=array: a[:], 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "chunks.json"
    )
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp(prefix="chunks-"))
    try:
        result = {
            "what": "4,096 px squares; times in seconds, best of several, warm file cache",
            "platform": platform.platform(),
            "python": platform.python_version(),
            "zarr": zarr.__version__,
            "genes": measure_genes(folder / "genes", make_genes(rng), args.repeats),
            "stains": measure_stains(folder / "stains", make_stains(rng), args.repeats),
        }
    finally:
        shutil.rmtree(folder)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()

"""Measure how long phantoms take and how much memory they need.

Run ``python benchmarks/phantom.py``: it makes sizes S and M, each in a process of its own, prints
seconds, processor seconds and peak memory, and the cost per megapixel of M relative to S, which is
1 when cost grows with area. ``--sizes L`` makes the one section of size L, kills it after a third
of its tiles, and finishes it in a second process; that takes many minutes. Results go to
``benchmarks/results/phantom.json``, where those of other sizes are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from napari_teramind.phantom import SIZES, make_phantom

RESULTS = Path(__file__).parent / "results" / "phantom.json"


def make(out: Path, size: str) -> dict[str, Any]:
    """Make a phantom in this process and measure it."""

    def report(message: str, done: int, total: int) -> None:
        print(f"{message}\t{done}\t{total}", file=sys.stderr, flush=True)

    start = time.perf_counter()
    brain = make_phantom(out, size=size, report=report)
    wall = time.perf_counter() - start
    pixels = brain.shape[0] * brain.shape[1] * brain.shape[2]
    return {
        "size": size,
        "shape": list(brain.shape),
        "megapixels": pixels / 1e6,
        "cells": len(brain.table("cells")),
        "seconds": round(wall, 1),
        "processor_seconds": round(time.process_time(), 1),
        # Linux counts in KiB.
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 2),
    }


def start(out: Path, size: str) -> subprocess.Popen[str]:
    """Start making a phantom in a process of its own."""
    command = [sys.executable, __file__, "--make", str(out), "--sizes", size]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(run: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a phantom, and return what its process measured."""
    out, errors = run.communicate()
    if run.returncode:
        raise RuntimeError(errors)
    result: dict[str, Any] = json.loads(out)
    return result


def interrupt(out: Path, size: str) -> dict[str, Any]:
    """Make a phantom, kill the process after a third of the tiles, and go on in another."""
    run = start(out, size)
    assert run.stderr is not None
    began = time.perf_counter()
    for line in run.stderr:
        _, done, total = line.rstrip().split("\t")
        if 3 * int(done) >= int(total):
            break
    run.kill()
    run.wait()
    killed_after = round(time.perf_counter() - began, 1)
    result = finish(start(out, size))
    return {**result, "killed_after_seconds": killed_after, "killed_after_tiles": int(done)}


def store(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Put runs in the place of older ones of the same size in the file of results."""
    old = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    by_size = {run["size"]: run for run in [*old, *runs]}
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "runs": [by_size[size] for size in SIZES if size in by_size],
    }
    if {"S", "M"} <= set(by_size):
        cost = {s: r["processor_seconds"] / r["megapixels"] for s, r in by_size.items()}
        results["cost_per_megapixel_m_over_s"] = round(cost["M"] / cost["S"], 2)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    return results


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["S", "M"])
    parser.add_argument("--folder", type=Path, help="where to put the phantoms for the while")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        print(json.dumps(make(options.make, options.sizes[0])))
        return
    runs = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for size in options.sizes:
            out = Path(folder) / f"{size}.zarr"
            runs.append(interrupt(out, size) if size == "L" else finish(start(out, size)))
            print(json.dumps(runs[-1]), flush=True)
    results = store(runs)
    print("cost per megapixel, M over S:", results.get("cost_per_megapixel_m_over_s"))
    print(RESULTS)


if __name__ == "__main__":
    main()

"""Training as a real process, to be killed."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from napari_teramind.brain import BrainStore
from napari_teramind.training import TrainConfig, fit

QUICK: dict[str, Any] = {
    "channels": 4,
    "patch": 32,
    "gene_channels": [8, 6, 4],
    "batch": 2,
    "warmup": 2,
    "sample_px": 64,
    "sample_steps": 2,
}
"""A network so small that a step takes a tenth of a second."""


def write_job(path: Path, brain: str, out: Path, **settings: Any) -> Path:
    values = {"verb": "train", "brains": [brain], "out": str(out), **QUICK, **settings}
    path.write_text(json.dumps(values))
    return path


def run_here(brain: BrainStore, out: Path, **settings: Any) -> None:
    """Run in this process, without interruption."""
    fit([brain], out, TrainConfig.from_dict({**QUICK, **settings}))


def start(job: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "napari_teramind", "run", str(job), "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(job: Path, **environment: str) -> list[dict[str, Any]]:
    """Run to the end and return the events."""
    process = start(job, **environment)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err + out
    return [json.loads(line) for line in out.splitlines()]


def kill_at(job: Path, out: Path, step: int) -> None:
    """Start, and SIGKILL as soon as a step is in the table."""
    process = start(job)
    end = time.monotonic() + 120
    while last_step(out) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the run never got there"
        time.sleep(0.01)
    process.kill()
    process.communicate()


def last_step(out: Path) -> int:
    path = out / "metrics.csv"
    lines = path.read_text().splitlines() if path.exists() else []
    numbers = [int(n) for line in lines if (n := line.partition(",")[0]).isdigit()]
    return numbers[-1] if numbers else 0


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table, without the time that they took."""
    with path.open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name

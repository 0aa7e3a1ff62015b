"""Runs into a brain with small shards, and what they leave: shared by the tests of simulate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import napari_teramind as tm
from napari_teramind.simulate import Request

STEPS = 2
TILE = 64
WHOLE = Request((0, 128, 0, 256), (0, 4), seed=3, steps=STEPS)
"""All of the small brain: patches of 32 px in 4 rows and 8 columns."""
SHARDS = 4 * 2 * 4

# The command line with shards so small that a small brain has many.
COMMAND = f"""
import napari_teramind.brain.result as result
result._SMALL_TILE = {TILE}
from napari_teramind.cli import main
main()
"""


def stored(path: Path, name: str = "a") -> list[np.ndarray]:
    """All levels of a result."""
    found = tm.open_brain(path).simulations[name]
    return [np.asarray(level[:]) for level in found.levels]


def shard_files(path: Path) -> dict[str, bytes]:
    """All files of a result's arrays."""
    folder = path / "simulations" / "a"
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.glob("[0-9]*/**/*"))
        if file.is_file()
    }


def ledger_of(path: Path) -> Path:
    return path / ".runs" / "simulations" / "a" / "ledger.jsonl"


def recorded(ledger: Path) -> int:
    """Shards that a ledger has."""
    return len(ledger.read_bytes().splitlines()) if ledger.exists() else 0


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def simulate_command(brain: Path, checkpoint: Path, *more: str) -> list[str]:
    options = ["--seed", "3", "--steps", str(STEPS), "--name", "a", "--where", "all", *more]
    return [
        sys.executable, "-c", COMMAND, "simulate", str(brain), "--checkpoint", str(checkpoint),
        *options,
    ]  # fmt: skip


def resume_command(brain: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, "resume", str(brain), *more]


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)

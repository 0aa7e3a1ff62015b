"""Runs with compiled kernels: the same picture, told in the provenance, kept when gone on with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

import napari_teramind as tm

from .runs import (
    environment,
    ledger_of,
    recorded,
    resume_command,
    simulate_command,
    stored,
    wait_until,
)


def test_compiled_kernels_killed_and_resumed(
    small_copy: Path, tmp_path: Path, checkpoint: Path, whole: np.ndarray
) -> None:
    other = Path(shutil.copytree(small_copy, tmp_path / "other.zarr"))
    command = simulate_command(small_copy, checkpoint, "--kernels", "compiled")
    subprocess.run(command, env=environment(), check=True)
    plain, *_ = stored(small_copy)
    assert np.abs(plain.astype(int) - whole).max() <= 1
    assert tm.open_brain(small_copy).simulations["a"].provenance["kernels"] == "compiled"

    killed = simulate_command(other, checkpoint, "--kernels", "compiled", "--workers", "2")
    process = subprocess.Popen(killed, env=environment(), text=True)
    wait_until(lambda: recorded(ledger_of(other)) >= 1, process)
    process.kill()
    process.wait()
    done = subprocess.run(
        resume_command(other, "--workers", "1"),
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "goes on with other" not in done.stderr
    for level, wanted in zip(stored(other), stored(small_copy), strict=True):
        np.testing.assert_array_equal(level, wanted)


def test_without_a_compiler_it_is_said(small_copy: Path, checkpoint: Path, tmp_path: Path) -> None:
    alone = {key: value for key, value in environment().items() if key != "CXX"}
    done = subprocess.run(
        simulate_command(small_copy, checkpoint, "--kernels", "compiled"),
        env={**alone, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Compiled kernels need a C++ compiler and none was found" in done.stderr
    assert "Traceback" not in done.stderr

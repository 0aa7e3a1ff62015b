"""Runs as processes: killed, on a disk that is really full, with workers that die."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import napari_teramind as tm
from napari_teramind.brain.pyramid import mean_halve
from napari_teramind.model import TeraMind, save_model

from .runs import (
    environment,
    ledger_of,
    recorded,
    resume_command,
    shard_files,
    simulate_command,
    stored,
    wait_until,
)


@pytest.fixture(scope="module")
def expected(whole: np.ndarray) -> list[np.ndarray]:
    levels = [whole]
    for _ in range(2):
        levels.append(mean_halve(levels[-1]))
    return levels


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MB; where that is not allowed, test_faults.py alone tests this."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here; a store that says so is in test_faults.py")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_really_full_disk(
    small_disk: Path, tmp_path: Path, small_copy: Path, checkpoint: Path, expected: list[np.ndarray]
) -> None:
    brain = small_disk / "brain.zarr"
    shutil.copytree(small_copy, brain)
    filler = small_disk / "filler"
    # The estimate of the plan fits, what others write meanwhile does not.
    free = shutil.disk_usage(small_disk).free
    command = simulate_command(brain, checkpoint)
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    ledger = ledger_of(brain)
    wait_until(lambda: recorded(ledger) > 0, process)
    with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
        file.write(b"x" * free)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "is full" in errors
    assert "Traceback" not in errors
    filler.unlink()
    done = subprocess.run(resume_command(brain), env=environment(), check=False)
    assert done.returncode == 0
    for level, wanted in zip(stored(brain), expected, strict=True):
        np.testing.assert_array_equal(level, wanted)


def test_killed_and_resumed_it_is_the_same(
    small_copy: Path, checkpoint: Path, expected: list[np.ndarray]
) -> None:
    ledger = ledger_of(small_copy)
    command = simulate_command(small_copy, checkpoint)
    for shards in (1, 12):
        process = subprocess.Popen(command, env=environment(), text=True)
        wait_until(
            lambda n=shards: recorded(ledger) >= n,
            process,
        )
        process.kill()
        process.wait()
        command = resume_command(small_copy)
    assert tm.open_brain(small_copy).simulations.unfinished() == ["a"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for level, wanted in zip(stored(small_copy), expected, strict=True):
        np.testing.assert_array_equal(level, wanted)
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "nothing to resume" in again.stderr


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is one, and goes on: others come and go meanwhile."""
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def test_workers_give_the_same_and_may_die(
    small_copy: Path, checkpoint: Path, expected: list[np.ndarray]
) -> None:
    command = simulate_command(small_copy, checkpoint, "--workers", "2", "--json")
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    parent = psutil.Process(process.pid)

    def workers() -> list[psutil.Process]:
        return [child for child in parent.children(recursive=True) if is_worker(child)]

    # As soon as both are there: so few patches are soon done.
    wait_until(lambda: len(workers()) == 2, process)
    workers()[0].send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=200)
    events = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, events[-1]
    told = [event["message"] for event in events if event["event"] == "warning"]
    assert told == ["A worker process died; what it was at is done again."]
    for level, wanted in zip(stored(small_copy), expected, strict=True):
        np.testing.assert_array_equal(level, wanted)


@pytest.mark.slow
@pytest.mark.timeout(3400)
def test_twenty_kills(tmp_path: Path, make_network: Callable[..., TeraMind]) -> None:
    """A phantom brain, all slice groups, killed at random moments: the same bytes in every file."""
    from napari_teramind.phantom import make_phantom

    brains = [tmp_path / "plain.zarr", tmp_path / "killed.zarr"]
    for brain in brains:
        made = make_phantom(brain, size="XS")
    network = make_network(genes=5, patch=32, channels=2, time_channels=16, prediction="v")
    network.gene_names = made.gene_names[:5]
    path = tmp_path / "network.safetensors"
    save_model(network, path, {})
    many = ("--where", "tissue", "--steps", "4")  # a run that is still at work after twenty kills
    plain = simulate_command(brains[0], path, *many)
    subprocess.run(plain, env=environment(), check=True)
    command = simulate_command(brains[1], path, *many)
    rng = random.Random(0)
    ledger, moments = ledger_of(brains[1]), []
    for _ in range(20):
        before = recorded(ledger)
        more = rng.choice([0, 1, rng.randint(2, 60)])
        process = subprocess.Popen(command, env=environment(), text=True)
        wait_until(lambda goal=before + more: recorded(ledger) >= goal, process)
        # With none to wait for, it dies while it starts, or reads back what there is.
        time.sleep(rng.uniform(0, 0.5 if more else 4))
        assert process.poll() is None, "the run ended too early"
        process.kill()
        process.wait()
        moments.append(recorded(ledger))
        unfinished = tm.open_brain(brains[1]).simulations.unfinished()
        command = resume_command(brains[1]) if unfinished else command
    print("shards recorded at each kill:", *moments)
    assert moments[-1] > moments[0]
    subprocess.run(command, env=environment(), check=True)
    files = [shard_files(brain) for brain in brains]
    assert files[0] == files[1]
    assert len(files[0]) > 100

"""Batches on dask: workers killed, schedulers lost, the same bytes."""

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
from typing import Any

import psutil
import pytest

from batches import (
    ENVIRONMENT,
    arrays,
    command,
    events,
    spawned,
    states,
    teramind,
    wait_until,
    write_batch,
)
from napari_teramind.brain import open_brain
from napari_teramind.jobs import Finished, Warned

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
    pytest.mark.timeout(1500),  # beside other work; a minute on a quiet machine
]

LOCAL = {"kind": "local", "workers": 2, "threads": 1}
STEPS = 4
MANY_STEPS = 40  # a run that is still at work after ten kills


def simulate(brain: str = "brain.zarr", **fields: Any) -> dict[str, Any]:
    return {
        "verb": "simulate", "brain": brain, "checkpoint": "n.safetensors", "name": "a",
        "steps": STEPS, "seed": 3, "where": "all", **fields,
    }  # fmt: skip


@pytest.fixture
def plain(folder: Path) -> dict[str, bytes]:
    return alone(folder, STEPS)


def alone(folder: Path, steps: int) -> dict[str, bytes]:
    """Files of the result of one process alone, in a copy of the brain."""
    brain = folder / "plain.zarr"
    shutil.copytree(folder / "brain.zarr", brain)
    options = ["--steps", steps, "--seed", 3, "--where", "all", "--name", "a"]
    done = teramind("simulate", brain, "--checkpoint", folder / "n.safetensors", *options)
    assert done.returncode == 0, done.stderr
    return arrays(brain, "a")


def start(path: Path, *options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("batch", path, "--json", *options),
        env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ledger_of(brain: Path) -> Path:
    return brain / ".runs" / "simulations" / "a" / "ledger.jsonl"


def recorded(brain: Path) -> int:
    """Shards that are recorded."""
    try:
        return len(ledger_of(brain).read_bytes().splitlines())
    except FileNotFoundError:
        return 0


def kill_a_worker(process: subprocess.Popen[str], rng: random.Random) -> int:
    """Kill one of two workers; return which process it was."""
    wait_until(lambda: len(spawned(process)) == 2, process)
    victim = rng.choice(spawned(process))
    victim.send_signal(signal.SIGKILL)
    return victim.pid


def test_a_killed_worker_costs_time_only(folder: Path, plain: dict[str, bytes]) -> None:
    jobs = [
        simulate(),
        {"verb": "attention", "brain": "brain.zarr", "checkpoint": "n.safetensors", "name": "x",
         "pairs": ["Gad1,Th"]},
    ]  # fmt: skip
    path = write_batch(folder / "b.toml", *jobs, cluster=LOCAL)
    process = start(path)
    wait_until(lambda: recorded(folder / "brain.zarr") > 0, process)
    kill_a_worker(process, random.Random(1))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    told = events(out)
    assert isinstance(told[-1], Finished)
    assert not [event for event in told if isinstance(event, Warned)]
    assert arrays(folder / "brain.zarr", "a") == plain
    assert list(open_brain(folder / "brain.zarr").attention) == ["x"]
    log = (folder / "b.batch" / "cluster.log").read_text()
    assert "died (exit code -9) and is started anew" in log
    provenance = open_brain(folder / "brain.zarr").simulations["a"].provenance
    assert provenance["threads"] == 1


@pytest.mark.slow
@pytest.mark.timeout(3400)
def test_ten_kills(folder: Path) -> None:
    """One of two workers killed at a random moment of the run, ten runs: always the same bytes."""
    plain = alone(folder, MANY_STEPS)
    rng, shards = random.Random(0), len(plain)
    path = write_batch(folder / "b.toml", simulate(steps=MANY_STEPS), cluster=LOCAL)
    brain = folder / "brain.zarr"
    moments = []
    for turn in range(10):
        process = start(path)
        # From the moment at which the work is shared out to the last units; then anywhere within.
        wait_until(lambda: ledger_of(brain).exists(), process)
        goal = rng.randrange(24)
        wait_until(lambda goal=goal: recorded(brain) >= goal, process)
        time.sleep(rng.uniform(0, 0.5))
        moments.append(recorded(brain))
        kill_a_worker(process, rng)
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, (turn, err)
        assert arrays(brain, "a") == plain, turn
        shutil.rmtree(brain / "simulations" / "a")
        shutil.rmtree(folder / "b.batch")
    print("shards of 32 recorded at each kill:", *moments, "; files compared:", shards)
    assert len(set(moments)) > 1


@pytest.mark.slow
@pytest.mark.timeout(3400)
def test_ten_kills_in_one_run(folder: Path) -> None:
    """Workers die again and again; no unit is held guilty of that."""
    plain = alone(folder, MANY_STEPS)
    rng, brain = random.Random(0), folder / "brain.zarr"
    job = simulate(steps=MANY_STEPS)
    process = start(write_batch(folder / "b.toml", job, cluster=LOCAL))
    for turn in range(10):
        goal = 2 * turn
        wait_until(lambda goal=goal: recorded(brain) >= goal, process)
        kill_a_worker(process, rng)
        time.sleep(rng.uniform(0, 1))
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert arrays(brain, "a") == plain


# A scheduler that is somebody's ----------------------------------------------------------------


class Elsewhere:
    """A scheduler and its workers, each a process."""

    def __init__(self, folder: Path) -> None:
        self.processes: list[subprocess.Popen[bytes]]
        self._folder, self.processes, self._started = folder, [], 0
        self._env = {**ENVIRONMENT, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}

    def start(self, port: int = 0, workers: int = 2) -> str:
        """Start them and return the scheduler's address."""
        file = self._folder / f"scheduler-{self._started}.json"
        self._started += 1
        common = ["--no-dashboard", "--host", "127.0.0.1"]
        self._run("dask_scheduler", "--port", str(port), "--scheduler-file", str(file), *common)
        wait_until(lambda: file.exists() and file.read_text().strip().endswith("}"))
        address = str(json.loads(file.read_text())["address"])
        for _ in range(workers):
            options = ["--nthreads", "1", "--memory-limit", "0", "--death-timeout", "5"]
            self._run("dask_worker", address, *options, *common)
        return address

    def _run(self, module: str, *arguments: str) -> None:
        with (self._folder / "elsewhere.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                    env=self._env, stdout=log, stderr=log, cwd=self._folder,
                )
            )  # fmt: skip

    def kill_scheduler(self) -> None:
        self.processes[0].kill()
        self.processes[0].wait()

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path)
    yield made
    made.end()


def test_a_lost_scheduler_is_told_and_the_batch_goes_on(
    folder: Path, plain: dict[str, bytes], elsewhere: Elsewhere
) -> None:
    path = write_batch(folder / "b.toml", simulate(), cluster={"kind": "local", "threads": 1})
    brain = folder / "brain.zarr"
    address = elsewhere.start()
    process = start(path, "--scheduler", address)
    wait_until(lambda: recorded(brain) > 0, process)
    elsewhere.kill_scheduler()
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1, err
    sentence = f"The scheduler at {address} went away; run the same command again to go on."
    assert events(out)[-1].message == sentence
    assert err.strip().splitlines()[-1] == sentence
    assert "Traceback" not in err
    assert states(folder / "b.batch") == ["waiting"]
    assert open_brain(brain).simulations.unfinished() == ["a"]
    before = recorded(brain)

    elsewhere.end()
    done = teramind("batch", path, "--scheduler", elsewhere.start(workers=1), "--json")
    assert done.returncode == 0, done.stderr
    assert before > 0
    assert arrays(brain, "a") == plain
    (log,) = (folder / "b.batch").glob("jobs/*/log.txt")
    assert f"{before} shards were there" in log.read_text()


def test_a_scheduler_that_is_not_there(folder: Path) -> None:
    path = write_batch(folder / "b.toml", simulate())
    done = teramind("batch", path, "--scheduler", "tcp://127.0.0.1:1")
    assert done.returncode == 2, done.stderr
    assert "No scheduler can be reached at tcp://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_interrupted_batch_leaves_nothing_running(
    folder: Path, elsewhere: Elsewhere, make_network: Callable[..., Any]
) -> None:
    """What somebody's workers are at when the batch is cancelled ends soon, and goes on later."""
    out = folder / "run"
    train = {
        "verb": "train", "brains": ["brain.zarr"], "out": "run", "channels": 2, "batch": 1,
        "patch": 32, "crop": 64, "steps": 100_000, "save_every": 1, "device": "cpu",
    }  # fmt: skip
    path = write_batch(folder / "b.toml", train)
    address = elsewhere.start(workers=1)
    process = start(path, "--scheduler", address)
    wait_until(lambda: (out / "last.safetensors").exists(), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130, err

    from napari_teramind.training.record import read_record

    wait_until(lambda: read_record(out).state != "running")
    step = read_record(out).step
    again = start(path, "--scheduler", address)
    wait_until(lambda: read_record(out).step > step, again)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=600)
    wait_until(lambda: read_record(out).state != "running")


# Slurm, played by two programs -----------------------------------------------------------------

SBATCH = """#!/bin/sh
cp "$1" "$PLAYED_SLURM/job-$$.sh"
setsid sh "$PLAYED_SLURM/job-$$.sh" >>"$PLAYED_SLURM/out.log" 2>&1 </dev/null &
echo $! >"$PLAYED_SLURM/$!.pid"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -- -"$job"; echo "$job" >>"$PLAYED_SLURM/cancelled"; done
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
def test_workers_of_slurm(
    folder: Path, plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Slurm: its two commands are played, so that their scripts really start workers."""
    played = folder / "played"
    played.mkdir()
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (played / name).write_text(script)
        (played / name).chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{played}:{ENVIRONMENT['PATH']}")
    monkeypatch.setitem(ENVIRONMENT, "PLAYED_SLURM", str(played))
    slurm = {"cores": 1, "memory": "2GB", "interface": "lo", "death_timeout": 30}
    cluster = {"kind": "slurm", "workers": 2, "slurm": slurm}
    path = write_batch(folder / "b.toml", simulate(), cluster=cluster)
    done = teramind("batch", path)
    assert done.returncode == 0, done.stderr
    assert arrays(folder / "brain.zarr", "a") == plain
    scripts = list(played.glob("job-*.sh"))
    assert len(scripts) == 2
    assert "--nthreads 1" in scripts[0].read_text()
    jobs = {file.stem for file in played.glob("*.pid")}
    assert set((played / "cancelled").read_text().split()) == jobs
    wait_until(lambda: not any(psutil.pid_exists(int(job)) for job in jobs))

"""A worker does one job after the other, is cancelled without dying, and dies without a trace."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from napari_teramind.brain import open_brain
from napari_teramind.jobs import Failed, Finished, Progress, build_spec
from napari_teramind.jobs.warm import WarmJob, WarmWorker, close_worker, run_warm, worker_pid
from napari_teramind.model import save_model


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    close_worker()


@pytest.fixture(scope="module")
def checkpoint(make_network, tmp_path_factory) -> Path:
    network = make_network(genes=5, patch=32, channels=2, time_channels=16)
    network.gene_names = ("Gad1", "Gad2", "Th", "Pvalb", "Mog")
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    return Path(save_model(network, path, {}))


@pytest.fixture
def begin(brain_copy: Path, checkpoint: Path, tmp_path: Path):
    """Begin a generation in the worker."""
    count = iter(range(100))

    def started(**fields) -> WarmJob:
        values = {
            "verb": "simulate", "brain": str(brain_copy), "checkpoint": str(checkpoint),
            "roi": (0, 64, 0, 96), "slices": (0, 2), "steps": 2, **fields,
        }  # fmt: skip
        folder = tmp_path / f"job{next(count)}"
        folder.mkdir()
        job = run_warm(build_spec(values, "a test"), folder)
        assert job is not None
        return job

    return started


def end_of(job: WarmJob, seconds: float = 120) -> Finished | Failed:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for event in job.read():
            if isinstance(event, Finished | Failed):
                return event
        time.sleep(0.02)
    pytest.fail("the job did not end")


def wait_for_progress(job: WarmJob) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for event in job.read():
            assert not isinstance(event, Failed), event
            if isinstance(event, Progress):
                return
        time.sleep(0.02)
    pytest.fail("no progress was told")


def test_one_job_after_the_other_in_one_process(begin, brain_copy):
    ended = end_of(begin(name="a"))
    assert isinstance(ended, Finished), ended
    pid = worker_pid()
    first = begin(name="b")
    assert isinstance(end_of(first), Finished)
    assert worker_pid() == pid == first.pid
    refused = end_of(begin(name="b"))
    assert isinstance(refused, Failed)
    assert refused.exit_code == 2
    assert isinstance(end_of(begin(name="c", edits=["Th=9@0,32,0,32"])), Finished)
    brain = open_brain(brain_copy)
    images = {name: brain.simulations[name].levels[0][:] for name in "abc"}
    assert (images["a"] == images["b"]).all()
    assert (images["a"] != images["c"]).any()
    first.remove_folder()
    assert not first.folder.exists()


def test_cancelling_a_job_leaves_its_worker(begin):
    job = begin(name="long", steps=200, halo=0)
    wait_for_progress(job)
    assert run_warm(job.spec, job.folder) is None  # it has something to do
    pid = worker_pid()
    job.cancel()
    ended = end_of(job, 30)
    assert isinstance(ended, Failed)
    assert ended.exit_code == 130
    assert isinstance(end_of(begin(name="next")), Finished)
    assert worker_pid() == pid


def test_a_worker_that_is_killed_is_told_and_followed_by_another(begin):
    job = begin(name="long", steps=200, halo=0)
    wait_for_progress(job)
    pid = worker_pid()
    os.kill(pid, signal.SIGKILL)
    ended = end_of(job, 30)
    assert isinstance(ended, Failed)
    assert "ended unexpectedly" in ended.message
    assert isinstance(end_of(begin(name="next")), Finished)
    assert worker_pid() not in (None, pid)


def test_a_worker_ends_with_its_standard_input_and_when_idle():
    worker = WarmWorker(600)
    process = psutil.Process(worker.pid)
    worker.close()
    process.wait(60)
    idle = WarmWorker(0.2)
    psutil.Process(idle.pid).wait(60)
    assert not idle.free
    idle.close()


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8, 1.1, 1.5, 2.0])
def test_cancelled_while_it_starts_the_worker_does_the_next(begin, seconds: float) -> None:
    """Interrupted in the import of torch, a process could not import it again."""
    job = begin()
    time.sleep(seconds)
    job.cancel(grace=60)
    assert isinstance(end_of(job), Failed | Finished)
    worker = job.pid
    again = begin()
    assert isinstance(end_of(again), Finished)
    assert again.pid == worker

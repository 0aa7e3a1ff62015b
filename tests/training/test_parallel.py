"""Several processes train as one does with the same batch."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

import training_jobs as jobs
from napari_teramind.brain import BrainStore

pytestmark = pytest.mark.timeout(300)

STEPS = 4
NOISE = 1e-4
"""Relative difference of losses that the order of additions explains; measured: about 1e-6."""


def test_two_processes_learn_what_one_does(tmp_path: Path, tiny_brain: BrainStore) -> None:
    common = {"steps": STEPS, "batch": 4, "accumulate": 2, "dropout": 0.0, "sample_every": 0}
    jobs.run_here(tiny_brain, tmp_path / "one", **common)
    together = {**common, "processes": 2}
    job = jobs.write_job(tmp_path / "2.json", tiny_brain.path, tmp_path / "two", **together)
    events = jobs.run(job)
    # One voice: the second process says nothing on standard output.
    assert sum(event["event"] == "finished" for event in events) == 1
    one, two = (jobs.rows(tmp_path / name / "metrics.csv") for name in ("one", "two"))
    assert len(one) == len(two) == STEPS
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "collage", "shifted", "gradient_norm"):
            assert float(b[name]) == pytest.approx(float(a[name]), rel=NOISE), name
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert config["train"]["processes"] == 2


def test_no_process_is_left_behind(tmp_path: Path, tiny_brain: BrainStore) -> None:
    settings = {"steps": 10_000, "processes": 2, "sample_every": 0}
    job = jobs.write_job(tmp_path / "job.json", tiny_brain.path, tmp_path / "run", **settings)
    process = jobs.start(job)
    end = time.monotonic() + 120
    while jobs.last_step(tmp_path / "run") < 1:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    for survivor in alive:
        survivor.kill()
    assert not alive
    process.communicate()

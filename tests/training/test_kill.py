"""A run that is killed at any instant and resumed is the run that was not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import training_jobs as jobs
from napari_teramind.brain import BrainStore

pytestmark = pytest.mark.timeout(600)

SETTINGS = {
    "dropout": 0.2,
    "exclude": [0, 64, 0, 64],
    "validate_every": 3,
    "validation_crops": 2,
    "sample_every": 5,
    "keep": 2,
}


def killed_and_resumed(
    tmp_path: Path, brain: BrainStore, steps: int, kills: int, kernels: str = "eager"
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    settings = {**SETTINGS, "steps": steps, "kernels": kernels}
    jobs.run_here(brain, whole, **settings)
    # Now and then a step or more is lost and done again.
    settings |= {"save_every": 0.5, "resume": True}
    job = jobs.write_job(tmp_path / "part.json", brain.path, part, **settings)
    rng = np.random.default_rng()
    for step in sorted(int(s) for s in rng.choice(steps - 1, kills, replace=False) + 1):
        print(f"killed at step {step}")
        jobs.kill_at(job, part, step)
    events = jobs.run(job)
    assert events[-1]["result"]["step"] == steps
    for name in ("last", "best"):
        jobs.assert_same_weights(whole / f"{name}.safetensors", part / f"{name}.safetensors")
    for name in ("metrics.csv", "validation.csv"):
        assert jobs.rows(part / name) == jobs.rows(whole / name)
    pictures = [sorted(p.name for p in (run / "samples").iterdir()) for run in (whole, part)]
    assert pictures[0] == pictures[1]
    for name in pictures[0]:
        assert (part / "samples" / name).read_bytes() == (whole / "samples" / name).read_bytes()
    kept = [sorted(p.name for p in (run / "checkpoints").iterdir()) for run in (whole, part)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 4
    assert json.loads((part / "status.json").read_text())["state"] == "finished"
    assert not list(part.rglob("*.partial"))


@pytest.mark.parametrize("kernels", ["eager", "compiled"])
def test_killed_twice(tmp_path: Path, tiny_brain: BrainStore, kernels: str) -> None:
    killed_and_resumed(tmp_path, tiny_brain, steps=9, kills=2, kernels=kernels)


@pytest.mark.slow
def test_killed_at_ten_random_steps(tmp_path: Path, tiny_brain: BrainStore) -> None:
    killed_and_resumed(tmp_path, tiny_brain, steps=60, kills=10)

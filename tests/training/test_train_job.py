"""Training as a job: presets, the command line, stopping, one process a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import training_jobs as jobs
from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.errors import UserError
from napari_teramind.jobs import TrainSpec, build_spec
from napari_teramind.model import load_model
from napari_teramind.training import PRESETS, TrainConfig, estimate, fit
from napari_teramind.training.record import read_record

pytestmark = pytest.mark.timeout(280)


def teramind(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "napari_teramind", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def spec(**values: Any) -> TrainSpec:
    built = build_spec({"verb": "train", "brains": ["a.zarr"], "out": "run", **values}, "The test")
    assert isinstance(built, TrainSpec)
    return built


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_what_is_not_given(name: str) -> None:
    settings = spec(preset=name, steps=7).settings()
    for key, value in PRESETS[name].settings.items():
        assert settings[key] == (7 if key == "steps" else value)
    TrainConfig(**settings)


def test_without_a_preset_the_defaults_are_those_of_the_config() -> None:
    assert TrainConfig(**spec().settings()) == TrainConfig()
    with pytest.raises(UserError, match="'preset' cannot be 'huge'"):
        spec(preset="huge")


def test_options_given_beside_a_preset_count_more(tmp_path: Path, tiny_brain: BrainStore) -> None:
    run = tmp_path / "run"
    done = teramind(
        *("train", tiny_brain.path, "-o", run, "--preset", "packaged", "--steps", 1),
        *("--channels", 4, "--patch", 32, "--batch", 2, "--gene-channels", 8, 6, 4),
        *("--warmup", 3, "--final-lr", 0.5, "--exclude", "0,64,0,64", "--sample-every", 0),
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((run / "config.json").read_text())
    train = config["train"]
    assert (train["channels"], train["gene_channels"], train["warmup"]) == (4, [8, 6, 4], 3)
    assert (train["ema"], train["dropout"], train["learning_rate"]) == (0.99, 0.0, 1e-3)
    # The whole job, as it can be run again from anywhere.
    assert config["job"]["brains"] == [tiny_brain.path]
    assert Path(config["job"]["out"]) == run


def test_a_run_goes_on_with_its_own_settings(tmp_path: Path, tiny_brain: BrainStore) -> None:
    """Nothing need be said again; what would change what is learned is refused."""
    out = tmp_path / "run"
    jobs.run_here(tiny_brain, out, steps=2, seed=5, sample_every=0)
    job = jobs.write_job(tmp_path / "job.json", tiny_brain.path, out, steps=2, seed=5)
    config = json.loads((out / "config.json").read_text())
    config["job"] = json.loads(job.read_text()) | {"sample_every": 0}
    (out / "config.json").write_text(json.dumps(config))
    done = teramind("train", "-o", out, "--resume", "--steps", 3)
    assert done.returncode == 0, done.stderr
    assert "Trained 3 steps" in done.stdout
    assert [row["step"] for row in jobs.rows(out / "metrics.csv")] == ["1", "2", "3"]
    refused = teramind("train", "-o", out, "--resume", "--preset", "packaged")
    assert refused.returncode == 2
    assert "was started with" in refused.stderr
    for wrong, words in (
        (("train", "-o", tmp_path / "none", "--resume"), "holds no run to go on with"),
        (("train", "-o", tmp_path / "none"), "Name a brain to learn from"),
    ):
        done = teramind(*wrong)
        assert done.returncode == 2
        assert words in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "none").exists()


def test_brains_are_not_changed_on_the_way(tmp_path: Path, tiny_brain: BrainStore) -> None:
    """What is held out stays held out, and the run says truly what it has learned from."""
    other = open_brain(shutil.copytree(tiny_brain.path, tmp_path / "other.zarr"))
    moved = open_brain(shutil.copytree(tiny_brain.path, tmp_path / Path(tiny_brain.path).name))
    out = tmp_path / "run"
    config = TrainConfig.from_dict({**jobs.QUICK, "steps": 1, "sample_every": 0})
    fit([tiny_brain], out, config, validation=[other])
    before = (out / "config.json").read_text()
    with pytest.raises(UserError, match=r"learns from .*, not other\.zarr; go on with the same"):
        fit([other], out, config, resume=True)
    with pytest.raises(UserError, match=r"is measured on other\.zarr, not none"):
        fit([tiny_brain], out, config, resume=True)
    with pytest.raises(UserError, match="is named twice"):
        fit([tiny_brain, tiny_brain], out, config, resume=True)
    assert (out / "config.json").read_text() == before
    fit([moved], out, config, resume=True, validation=[other])


def test_a_run_begins_in_a_folder_of_its_own(tmp_path: Path, tiny_brain: BrainStore) -> None:
    config = TrainConfig.from_dict({**jobs.QUICK, "steps": 1, "sample_every": 0})
    notes = tmp_path / "mine" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("dear to me")
    store = shutil.copytree(tiny_brain.path, tmp_path / "b.zarr")
    held = sorted(store.rglob("*"))
    for folder, words in (
        (notes.parent, r"holds other files \(notes\.txt\)"),
        (notes, "is a file"),
        (store, "is a store"),
        (store / "genes" / "run", "lies within the store"),
        (Path("/proc/run"), "cannot be made"),
    ):
        with pytest.raises(UserError, match=words):
            fit([tiny_brain], folder, config)
    assert sorted(store.rglob("*")) == held
    assert sorted(notes.parent.iterdir()) == [notes]


def test_what_never_began_leaves_nothing(tmp_path: Path, tiny_brain: BrainStore) -> None:
    """So that the same command, put right, is not told that there is a run already."""
    out, before = tmp_path / "run", sorted(tmp_path.iterdir())
    settings = {**jobs.QUICK, "steps": 1, "sample_every": 0}
    wrong = TrainConfig.from_dict({**settings, "init": str(tmp_path / "nowhere.safetensors")})
    with pytest.raises(UserError, match="no checkpoint"):
        fit([tiny_brain], out, wrong)
    assert sorted(tmp_path.iterdir()) == before
    fit([tiny_brain], out, TrainConfig.from_dict(settings))
    with pytest.raises(UserError, match="started with init"):
        fit([tiny_brain], out, wrong, resume=True)
    assert (out / "last.safetensors").is_file()  # a run that was there stays


def test_what_is_held_out_must_be_there(tmp_path: Path, tiny_brain: BrainStore) -> None:
    with pytest.raises(UserError, match="512,0,0,512, ends before it begins"):
        TrainConfig(exclude=(512, 0, 0, 512))
    config = TrainConfig.from_dict({**jobs.QUICK, "exclude": [5000, 6000, 0, 512]})
    with pytest.raises(UserError, match="lies outside"):
        fit([tiny_brain], tmp_path / "run", config)


def test_the_folder_of_a_run_stands_for_its_weights(tmp_path: Path, tiny_brain: BrainStore) -> None:
    out = tmp_path / "run"
    jobs.run_here(tiny_brain, out, steps=1, sample_every=0)
    assert load_model(out).sha256 == load_model(out / "last.safetensors").sha256
    values = {"verb": "simulate", "brain": tiny_brain.path, "checkpoint": "run"}
    found = build_spec({**values, "checkpoint": str(out)}, "The test")
    assert found.checkpoint == out / "last.safetensors"
    assert build_spec({"verb": "info", "path": str(out)}, "The test").path == str(
        out / "last.safetensors"
    )


def test_a_dry_run_writes_nothing(tmp_path: Path, tiny_brain: BrainStore) -> None:
    settings = [f"--{k.replace('_', '-')}={v}" for k, v in (("channels", 4), ("patch", 32))]
    done = teramind("train", tiny_brain.path, "-o", tmp_path / "run", *settings, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "2,000 steps, " in done.stdout
    assert "GB of memory" in done.stdout
    assert not (tmp_path / "run").exists()


def test_an_estimate_knows_what_it_did_not_try(
    tiny_brain: BrainStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.from_dict({**jobs.QUICK, "batch": 64, "accumulate": 3})
    monkeypatch.setattr("napari_teramind.training.timing.PATIENCE", 0.0)
    found = estimate([tiny_brain], config)
    assert not found.measured
    assert found.seconds_per_step > 0
    assert found.genes == 12


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, tiny_brain: BrainStore) -> None:
    run = tmp_path / "run"
    settings = {"steps": 10_000, "sample_every": 0, "save_every": 1000}
    process = jobs.start(jobs.write_job(tmp_path / "job.json", tiny_brain.path, run, **settings))
    end = time.monotonic() + 120
    while jobs.last_step(run) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    last = json.loads(out.splitlines()[-1])
    assert process.returncode == 130
    record = read_record(run)
    assert record is not None
    assert record.state == "stopped"
    assert last["message"].startswith(f"Training was stopped at step {record.step} and saved")
    assert jobs.last_step(run) == record.step
    assert (run / "state.pt").exists()


def test_a_file_stop_ends_a_run_and_is_no_obstacle_to_the_next(
    tmp_path: Path, tiny_brain: BrainStore
) -> None:
    config = TrainConfig.from_dict({**jobs.QUICK, "steps": 5, "sample_every": 0})

    def stop_at_two(message: str, done: int, total: int) -> None:
        if done == 2:
            (tmp_path / "stop").touch()

    assert fit([tiny_brain], tmp_path, config, report=stop_at_two).step == 2
    assert fit([tiny_brain], tmp_path, config, resume=True).finished


def test_a_folder_belongs_to_one_process(tmp_path: Path, tiny_brain: BrainStore) -> None:
    config = TrainConfig.from_dict({**jobs.QUICK, "steps": 3, "sample_every": 0})
    refused: list[str] = []

    def try_too(message: str, done: int, total: int) -> None:
        with pytest.raises(UserError, match="trained by another process") as caught:
            fit([tiny_brain], tmp_path, config, resume=True)
        refused.append(str(caught.value))

    assert fit([tiny_brain], tmp_path, config, report=try_too).finished
    assert len(refused) == 3


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path, tiny_brain: BrainStore) -> None:
    """Its config lacks the newer settings, its state what they need, its table a line."""
    import torch

    config = TrainConfig.from_dict({**jobs.QUICK, "steps": 2, "sample_every": 0})
    fit([tiny_brain], tmp_path, config)
    header = json.loads((tmp_path / "config.json").read_text())
    for key in ("init", "keep", "validate_every", "workers", "processes", "sample_px"):
        del header["train"][key]
    (tmp_path / "config.json").write_text(json.dumps(header))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for key in ("best", "scaler"):
        del state[key]
    torch.save(state, tmp_path / "state.pt")
    for name in ("status.json", ".lock"):
        (tmp_path / name).unlink(missing_ok=True)
    with (tmp_path / "metrics.csv").open("a") as table:
        table.write("3,0.1,0.2")
    further = TrainConfig.from_dict({**jobs.QUICK, "steps": 4, "sample_every": 0})
    assert fit([tiny_brain], tmp_path, further, resume=True).step == 4
    assert [row["step"] for row in jobs.rows(tmp_path / "metrics.csv")] == ["1", "2", "3", "4"]


# Half precision is emulated on most CPUs, and slow.
@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_mixed_precision_learns_as_float32_does(
    tmp_path: Path, tiny_brain: BrainStore, precision: str
) -> None:
    losses = {}
    for kind in ("float32", precision):
        values = {**jobs.QUICK, "steps": 3, "sample_every": 0, "precision": kind}
        losses[kind] = fit([tiny_brain], tmp_path / kind, TrainConfig.from_dict(values)).loss
    assert losses[precision] == pytest.approx(losses["float32"], rel=0.05)

"""The loop learns, stops, and resumes exactly."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import load_model
from napari_teramind.training import TrainConfig, fit
from napari_teramind.training.step import learning_rate

QUICK: dict[str, Any] = {
    "channels": 4,
    "patch": 32,
    "gene_channels": (8, 6, 4),
    "batch": 2,
    "warmup": 2,
    "sample_px": 64,
    "sample_steps": 2,
}
TINY = TrainConfig(**QUICK, steps=6, seed=1, dropout=0.2)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(path).named_parameters())


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, tiny_brain: BrainStore, optimizer: Any
) -> None:
    config = replace(TINY, optimizer=optimizer)
    whole = fit([tiny_brain], tmp_path / "whole", config)
    assert whole.finished
    asked = iter([False, True])
    part = fit([tiny_brain], tmp_path / "part", config, should_stop=lambda: next(asked))
    assert (part.step, part.finished) == (2, False)
    rest = fit([tiny_brain], tmp_path / "part", config, resume=True)
    assert rest.step == 6
    expected = weights(whole.checkpoint)
    for name, value in weights(rest.checkpoint).items():
        assert torch.equal(value, expected[name]), name
    for folder in ("whole", "part"):
        with (tmp_path / folder / "metrics.csv").open() as file:
            assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]


def test_the_checkpoint_knows_its_panel_and_origin(tmp_path: Path, tiny_brain: BrainStore) -> None:
    config = TrainConfig(**QUICK | {"batch": 1}, steps=1, genes=("Th", "Nr4a2"), ema=0)
    reports: list[tuple[str, int, int]] = []
    result = fit([tiny_brain], tmp_path, config, report=lambda *event: reports.append(event))
    model = load_model(result.checkpoint)
    assert model.gene_names == ("Th", "Nr4a2")
    assert model.config.prediction == "v"
    assert reports[-1][1:] == (1, 1)
    readable = json.loads((tmp_path / "last.json").read_text())
    assert readable["provenance"]["step"] == 1
    assert readable["provenance"]["train"]["channels"] == 4


def test_it_learns_a_constant_image(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import numpy as np

    from napari_teramind.brain import BrainWriter

    writer = BrainWriter.create(
        tmp_path / "flat.zarr", name="flat", shape=(2, 128, 128), genes=["Th"]
    )
    for z in range(2):
        writer.write_stains(z, 0, 0, np.full((2, 128, 128), 40, np.uint8))
        writer.write_genes(z, 0, 0, np.ones((1, 8, 8), int))
    brain = writer.finish()
    config = TrainConfig(**QUICK, steps=20, learning_rate=3e-3, prediction="v")
    result = fit([brain], tmp_path / "run", config)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert result.loss == pytest.approx(sum(losses) / len(losses))


def test_a_run_is_not_overwritten_or_mixed(tmp_path: Path, tiny_brain: BrainStore) -> None:
    config = TrainConfig(**QUICK | {"batch": 1}, steps=1)
    fit([tiny_brain], tmp_path, config)
    with pytest.raises(UserError, match="holds a training run already"):
        fit([tiny_brain], tmp_path, config)
    other = TrainConfig(**QUICK, steps=1)
    with pytest.raises(UserError, match="batch = 1, not 2"):
        fit([tiny_brain], tmp_path, other, resume=True)
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        fit([tiny_brain], tmp_path, config, resume=True)


def test_time_limit_ends_training(tmp_path: Path, tiny_brain: BrainStore) -> None:
    config = TrainConfig(**QUICK, steps=1000, time_limit=0.01)
    result = fit([tiny_brain], tmp_path, config)
    assert result.step == 1
    assert not result.finished


@pytest.mark.parametrize(
    "settings",
    [{"crop": 100}, {"steps": 0}, {"ema": 1.0}, {"learning_rate": 0}, {"precision": "half"}],
)
def test_bad_settings(settings: dict[str, object]) -> None:
    with pytest.raises(UserError):
        TrainConfig(**settings)  # type: ignore[arg-type]


def test_learning_rate_warms_up_and_falls() -> None:
    config = TrainConfig(steps=100, warmup=10, learning_rate=1.0, final_lr=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)

"""Validation measures held-out tissue, always the same way, and disturbs nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.errors import UserError
from napari_teramind.model import load_model
from napari_teramind.training import TrainConfig, fit
from napari_teramind.training.loop import Moment, network_shape
from napari_teramind.training.record import read_curve, read_record, read_samples
from napari_teramind.training.source import common_panel
from napari_teramind.training.validation import Validator, _scores, held_out_fields
from training_jobs import QUICK, assert_same_weights

FIELD = (64, 192, 0, 128)


def config(**settings: Any) -> TrainConfig:
    every = {"validate_every": 2, "sample_every": 3, "validation_crops": 4, "steps": 4}
    return TrainConfig.from_dict({**QUICK, **every, **settings})


def validator(brain: BrainStore, **settings: Any) -> tuple[Validator, Any]:
    found = config(exclude=FIELD, **settings)
    panel = common_panel([brain], None)
    shape, stains = network_shape([brain], panel, found)
    return Validator(held_out_fields([brain], [], found), panel, shape, found), stains


def test_the_run_folder_can_be_read_by_a_person(tmp_path: Path, tiny_brain: BrainStore) -> None:
    moments: list[Moment] = []
    fit([tiny_brain], tmp_path, config(exclude=FIELD), show=moments.append)
    with (tmp_path / "validation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == ["2", "3", "4"]
    assert [bool(row["loss"]) for row in table] == [True, False, True]
    assert [bool(row["ssim PolyT"]) for row in table] == [False, True, True]
    image = imread(tmp_path / "samples" / "step-000003.png")
    assert image.shape == (2 * 64 + 4, 2 * 64 + 4)
    best = json.loads((tmp_path / "best.json").read_text())["provenance"]
    losses = {int(row["step"]): float(row["loss"]) for row in table if row["loss"]}
    assert best["step"] == min(losses, key=losses.__getitem__)
    assert best["brains"] == [tiny_brain.path]
    assert {p.name for p in (tmp_path / "checkpoints").glob("*.safetensors")} == {
        "step-000002.safetensors",
        "step-000004.safetensors",
    }
    log = (tmp_path / "log.txt").read_text()
    assert "Starting at step 0 of 4" in log
    assert "Finished at step 4" in log
    kinds = [(moment.kind, moment.step) for moment in moments if moment.kind != "training"]
    assert kinds == [("validation", 2), ("picture", 3), ("validation", 4), ("picture", 4)]
    assert [m.step for m in moments if m.kind == "training"] == [1, 2, 3, 4]
    record = read_record(tmp_path)
    assert record is not None
    assert (record.state, record.step, record.steps) == ("finished", 4, 4)
    assert record.checkpoint == tmp_path / "best.safetensors"
    assert read_curve(tmp_path / "validation.csv")[0] == [2, 4]
    assert [step for step, _ in read_samples(tmp_path)] == [3, 4]


def test_tensorboard_shows_the_same_numbers(tmp_path: Path, tiny_brain: BrainStore) -> None:
    fit([tiny_brain], tmp_path, config(exclude=FIELD))
    fit([tiny_brain], tmp_path, config(exclude=FIELD, steps=6), resume=True)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    for kind, table in (("training", "metrics.csv"), ("validation", "validation.csv")):
        events = board.Scalars(f"{kind}/loss")
        steps, values = read_curve(tmp_path / table)
        assert [event.step for event in events] == steps
        np.testing.assert_allclose([event.value for event in events], values, rtol=1e-6)
    assert [image.step for image in board.Images("real and generated")] == [3, 4, 6]


def test_validation_does_not_disturb_training(tmp_path: Path, tiny_brain: BrainStore) -> None:
    settings = {"exclude": FIELD, "dropout": 0.3}
    often = fit([tiny_brain], tmp_path / "often", config(**settings, validate_every=1))
    never = {"validate_every": 0, "sample_every": 0}
    plain = fit([tiny_brain], tmp_path / "never", config(**settings, **never))
    assert_same_weights(often.checkpoint, plain.checkpoint)
    assert not (tmp_path / "never" / "best.safetensors").exists()
    assert not (tmp_path / "never" / "samples").exists()


def test_the_same_network_gets_the_same_marks(tmp_path: Path, tiny_brain: BrainStore) -> None:
    result = fit([tiny_brain], tmp_path, config(exclude=FIELD))
    model = load_model(result.checkpoint)
    one, stains = validator(tiny_brain)
    other, _ = validator(tiny_brain)
    assert one.loss(model) == one.loss(model) == other.loss(model)
    # As the run itself measured and drew it.
    assert sum(one.loss(model)) == pytest.approx(read_curve(tmp_path / "validation.csv")[1][-1])
    picture = one.picture(model, stains)
    np.testing.assert_array_equal(picture.image, imread(tmp_path / "samples" / "step-000004.png"))


def test_only_the_held_out_field_is_measured(tiny_brain: BrainStore, brain_copy: Path) -> None:
    """What is shown and measured comes from the field: blank it, and the rest does not matter."""
    import zarr

    y0, y1, x0, x1 = FIELD
    zarr.open_group(brain_copy / "stains", mode="r+")["0"][:, :, y0:y1, x0:x1] = 200
    blank = open_brain(brain_copy)
    found, stains = validator(blank)
    panel = common_panel([blank], None)
    shape, _ = network_shape([blank], panel, config())
    from napari_teramind.model import TeraMind

    image = found.picture(TeraMind(shape).eval(), stains).image
    assert set(np.unique(image[:, :64])) == {200, 255}
    for batch in found._make_batches():
        # v = signal * noise - spread * clean, x = signal * clean + spread * noise: clean is known.
        from napari_teramind.diffusion.schedule import alphas_bar

        abar = alphas_bar()[batch.t].float()[:, None, None, None, None]
        clean = abar.sqrt() * batch.noisy - (1 - abar).sqrt() * batch.target
        inside = batch.mask.expand_as(clean) > 0
        np.testing.assert_allclose(clean[inside], 200 / 127.5 - 1, atol=1e-4)


def test_a_brain_of_its_own_for_validation(
    tmp_path: Path, tiny_brain: BrainStore, brain_copy: Path
) -> None:
    fit([tiny_brain], tmp_path / "run", config(), validation=[open_brain(brain_copy)])
    assert read_curve(tmp_path / "run" / "validation.csv")[0] == [2, 4]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["validation"] == [
        str(brain_copy)
    ]
    with pytest.raises(UserError, match="both trained and validated on"):
        fit([tiny_brain], tmp_path / "none", config(), validation=[open_brain(tiny_brain.path)])
    assert not (tmp_path / "none").exists()


def test_without_anything_held_out_pictures_say_so(tmp_path: Path, tiny_brain: BrainStore) -> None:
    moments: list[Moment] = []
    fit([tiny_brain], tmp_path, config(), show=moments.append)
    assert not any(moment.kind == "validation" for moment in moments)
    assert [m.held_out for m in moments if m.kind == "picture"] == [False, False]
    record = read_record(tmp_path)
    assert record is not None
    assert record.checkpoint == tmp_path / "last.safetensors"


@pytest.mark.parametrize("field", [(0, 16, 0, 200), (300, 400, 0, 100), (10, 40, 10, 40)])
def test_a_field_that_holds_no_patch_is_refused(
    tmp_path: Path, tiny_brain: BrainStore, field: tuple[int, int, int, int]
) -> None:
    words = "lies outside" if field[0] >= tiny_brain.shape[1] else "smaller than a patch"
    with pytest.raises(UserError, match=words):
        fit([tiny_brain], tmp_path / "run", config(exclude=field))
    assert not (tmp_path / "run").exists()


def test_scores_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (2, 2, 32, 32), dtype=np.uint8)
    scores = _scores(real, real.copy(), ["DAPI", "PolyT"])
    assert scores["ssim DAPI"] == pytest.approx(1)
    assert scores["psnr PolyT"] == 100
    worse = _scores(real, 255 - real, ["DAPI", "PolyT"])
    assert worse["psnr DAPI"] < 10

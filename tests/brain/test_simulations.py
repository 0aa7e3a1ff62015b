"""Results written into a brain."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import open_brain
from napari_teramind.brain.pyramid import mean_halve
from napari_teramind.errors import UserError

ROI, SLICES = (40, 240, 100, 300), (1, 3)


@pytest.fixture
def brain(tiny_brain, tmp_path):
    path = tmp_path / "brain.zarr"
    shutil.copytree(tiny_brain.path, path)
    return open_brain(path)


@pytest.fixture
def image():
    return np.random.default_rng(5).integers(0, 256, (2, 2, 200, 200), dtype=np.uint8)


def test_a_result_lies_over_what_it_stands_for(brain, image):
    path = brain.write_simulation(
        "first", roi=ROI, slices=SLICES, image=image, provenance={"seed": 3, "steps": 15}
    )
    assert Path(path) == Path(brain.path, "simulations", "first")
    assert list(brain.simulations) == ["first"]
    result = open_brain(brain.path).simulations["first"]
    assert result.provenance == {"seed": 3, "steps": 15}
    assert [channel.color for channel in result.channels] == ["0000FF", "FF8000"]
    assert result.translation()[1:] == pytest.approx((100.0, 40 * 0.108, 100 * 0.108))
    expected = image
    for level, array in enumerate(result.levels):
        assert np.array_equal(array[:], expected)
        assert result.scale(level) == pytest.approx(brain.stains.scale(level))
        expected = mean_halve(expected)


def test_a_result_is_not_replaced_without_asking(brain, image):
    args = {"roi": ROI, "slices": SLICES, "provenance": {}}
    brain.write_simulation("a", image=image, **args)
    with pytest.raises(UserError, match="has a simulation 'a' already"):
        brain.write_simulation("a", image=image, **args)
    brain.write_simulation("a", image=255 - image, overwrite=True, **args)
    assert np.array_equal(brain.simulations["a"].levels[0][:], 255 - image)
    folders = [p.name for p in Path(brain.path, "simulations").iterdir() if p.is_dir()]
    assert folders == ["a"]


def test_a_failed_write_leaves_nothing(brain, image, monkeypatch):
    def fail(block):
        raise OSError("disk full")

    monkeypatch.setattr("napari_teramind.brain.pyramid.mean_halve", fail)
    with pytest.raises(OSError, match="disk full"):
        brain.write_simulation("a", roi=ROI, slices=SLICES, image=image, provenance={})
    assert list(brain.simulations) == []
    assert [p for p in Path(brain.path, "simulations").iterdir() if p.is_dir()] == []


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "con", "x" * 200, "tail.", "a\n"]
)
def test_names_cannot_leave_the_folder(brain, image, name):
    before = sorted(Path(brain.path).parent.rglob("*"))
    with pytest.raises(UserError, match="cannot be the name of a simulation"):
        brain.write_simulation(name, roi=ROI, slices=SLICES, image=image, provenance={})
    assert sorted(Path(brain.path).parent.rglob("*")) == before


def test_regions_outside_and_wrong_shapes_are_refused(brain, image):
    with pytest.raises(UserError, match="leaves the brain"):
        brain.write_simulation(
            "a", roi=(100, 300, 100, 300), slices=SLICES, image=image, provenance={}
        )
    with pytest.raises(ValueError, match="expected uint8"):
        brain.write_simulation("a", roi=ROI, slices=(0, 1), image=image, provenance={})


def test_what_a_killed_run_left_is_not_a_result(brain, image):
    brain.write_simulation("a", roi=ROI, slices=SLICES, image=image, provenance={})
    folder = Path(brain.path, "simulations")
    shutil.copytree(folder / "a", folder / ".left-over")
    assert list(brain.simulations) == ["a"]
    assert ".left-over" not in brain.simulations
    assert "b" not in brain.simulations
    assert "../stains" not in brain.simulations
    assert "a/0" not in brain.simulations

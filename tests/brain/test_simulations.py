"""Results written into a brain."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import open_brain
from napari_teramind.brain.pyramid import mean_halve
from napari_teramind.brain.result import ResultWriter
from napari_teramind.errors import UserError
from simulations import keep_simulation

PLACE = {"roi": (40, 240, 100, 300), "slices": (1, 3)}


@pytest.fixture
def brain(brain_copy):
    return open_brain(brain_copy)


@pytest.fixture
def image():
    return np.random.default_rng(5).integers(0, 256, (2, 2, 200, 200), dtype=np.uint8)


def test_a_result_lies_over_what_it_stands_for(brain, image):
    said = {"seed": 3, "steps": 15}
    path = keep_simulation(brain, "first", image, **PLACE, provenance=said)
    assert Path(path) == Path(brain.path, "simulations", "first")
    assert list(brain.simulations) == ["first"]
    result = open_brain(brain.path).simulations["first"]
    assert result.provenance == said
    assert [channel.color for channel in result.channels] == ["0000FF", "FF8000"]
    assert result.translation()[1:] == pytest.approx((100.0, 40 * 0.108, 100 * 0.108))
    expected = image
    for level, array in enumerate(result.levels):
        assert np.array_equal(array[:], expected)
        assert result.scale(level) == pytest.approx(brain.stains.scale(level))
        expected = mean_halve(expected)


def test_a_result_is_not_replaced_without_asking(brain, image):
    keep_simulation(brain, "a", image, **PLACE, provenance={})
    with pytest.raises(UserError, match="has a simulation 'a' already"):
        keep_simulation(brain, "a", image, **PLACE, provenance={})
    keep_simulation(brain, "a", 255 - image, **PLACE, provenance={}, overwrite=True)
    assert np.array_equal(brain.simulations["a"].levels[0][:], 255 - image)
    folders = [p.name for p in Path(brain.path, "simulations").iterdir() if p.is_dir()]
    assert folders == ["a"]


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "con", "x" * 200, "tail.", "a\n"]
)
def test_names_cannot_leave_the_folder(brain, name):
    before = sorted(Path(brain.path).parent.rglob("*"))
    with pytest.raises(UserError, match="cannot be the name of a simulation"):
        ResultWriter.create(brain, name, **PLACE, provenance={})
    assert sorted(Path(brain.path).parent.rglob("*")) == before


def test_regions_outside_and_wrong_shapes_are_refused(brain, image):
    with pytest.raises(UserError, match="leaves the brain"):
        ResultWriter.create(brain, "a", (100, 300, 100, 300), (1, 3), {})
    with ResultWriter.create(brain, "a", **PLACE, provenance={}) as writer:
        for block in (image[:, 0, :100], image[:1, 0], image[:, 0].astype(np.uint16)):
            with pytest.raises(ValueError, match="for shard"):
                writer.write((0, 0, 0), block)
        assert not writer.done


def test_a_result_with_a_gap_does_not_become_complete(brain, image):
    with ResultWriter.create(brain, "a", **PLACE, provenance={}) as writer:
        writer.write((0, 0, 0), image[:, 0])
        with pytest.raises(ValueError, match="already written"):
            writer.write((0, 0, 0), image[:, 0])
        with pytest.raises(ValueError, match="never written"):
            writer.finish()
    assert list(brain.simulations) == []
    assert brain.simulations.unfinished() == ["a"]


def test_what_a_killed_run_left_is_not_a_result(brain, image):
    keep_simulation(brain, "a", image, **PLACE, provenance={})
    folder = Path(brain.path, "simulations")
    shutil.copytree(folder / "a", folder / ".left-over")
    assert list(brain.simulations) == ["a"]
    assert ".left-over" not in brain.simulations
    assert "b" not in brain.simulations
    assert "../stains" not in brain.simulations
    assert "a/0" not in brain.simulations

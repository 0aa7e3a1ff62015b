"""Only what lies in a structure or an outline is generated, and it equals the whole brain there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.brain.bins import bin_labels, structure_box, structure_table
from napari_teramind.brain.layout import BIN
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind
from napari_teramind.simulate import Request, lay_out
from napari_teramind.simulate.tissue import ActivePatches

from .runs import STEPS, WHOLE, environment


@pytest.fixture(scope="module")
def acronym(small_brain: BrainStore) -> str:
    return next(iter(structure_table(small_brain).values())).acronym


def pixels_of(brain: BrainStore, acronym: str) -> np.ndarray:
    """(z, y, x): pixels of the bins in a structure."""
    _, height, width = brain.shape
    labels = bin_labels(brain)((0, height // BIN, 0, width // BIN), range(brain.shape[0]))
    ids = list(structure_table(brain).within(acronym))
    return np.isin(labels, ids).repeat(BIN, 1).repeat(BIN, 2)


def generate(brain: BrainStore, network: TeraMind, request: Request) -> tuple[np.ndarray, int, int]:
    """Return the image, the evaluations of the run, and those of all its patches."""
    from napari_teramind.simulate.roi import GroupRun, paste, to_uint8

    layout = lay_out(brain, network.config, request)
    run = GroupRun(brain, network, layout)
    (y0, y1, x0, x1), (z0, z1) = request.roi, request.slices
    out = np.zeros((2, z1 - z0, y1 - y0, x1 - x0), np.uint8)
    for first in layout.groups:
        for row, rows in run.rows(first, layout.target):
            paste(out, to_uint8(rows), layout, row, layout.target.left, first)
    everything = layout.evaluations_of(None, layout.target) * len(layout.groups)
    return out, ActivePatches(brain, layout).evaluations(), everything


def test_a_structure_equals_the_whole_brain_there(small_brain, network, whole, acronym):
    roi, slices = structure_box(small_brain, [acronym])
    request = Request(roi, slices, seed=3, steps=STEPS, structures=(acronym,))
    image, evaluations, everything = generate(small_brain, network, request)
    inside = pixels_of(small_brain, acronym)[
        slices[0] : slices[1], roi[0] : roi[1], roi[2] : roi[3]
    ]
    assert inside.any()
    expected = whole[:, slices[0] : slices[1], roi[0] : roi[1], roi[2] : roi[3]]
    away = np.abs(image.astype(int) - expected)[:, inside]
    assert away.max() <= 1
    assert evaluations <= everything


def test_an_outline_is_generated_with_what_counts_around_it(small_brain, network, whole):
    outline = ((16.0, 16.0), (16.0, 80.0), (48.0, 80.0), (48.0, 16.0))
    request = Request(WHOLE.roi, (0, 2), seed=3, steps=STEPS, outline=outline)
    image, evaluations, everything = generate(small_brain, network, request)
    away = np.abs(image.astype(int) - whole[:, :2])[..., 16:48, 16:80]
    assert away.max() <= 1
    assert evaluations < everything
    assert not image[..., 192:].any()  # far from it nothing was computed
    quick, fewer, _ = generate(
        small_brain, network, Request(WHOLE.roi, (0, 2), steps=STEPS, outline=outline, halo=0)
    )
    assert fewer < evaluations
    assert not quick[..., 96:].any()
    assert quick[..., :64, :96].any()


def test_what_cannot_be_is_told(small_brain, network, acronym):
    for wrong, words in (
        ({"outline": ((0.0, 0.0), (5.0, 5.0))}, "three corners"),
        ({"structures": ("NOPE",)}, "NOPE"),
    ):
        with pytest.raises(UserError, match=words):
            lay_out(small_brain, network.config, Request(WHOLE.roi, (0, 2), **wrong))
    with pytest.raises(UserError, match="No bin of the region"):
        structure_box(small_brain, [acronym], (0, 0))


def teramind(*arguments: str) -> tuple[int, list[dict]]:
    done = subprocess.run(
        [sys.executable, "-m", "napari_teramind", *arguments, "--json"],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_edits_structures_and_replicates_from_the_command_line(
    small_copy: Path, checkpoint: Path, network: TeraMind, acronym: str
):
    gene = network.gene_names[1]
    common = [str(small_copy), "--checkpoint", str(checkpoint), "--steps", "2", "--seed", "3"]
    code, events = teramind(
        "simulate", *common, "--structure", acronym, "--edit", f"{gene}=9@{acronym}",
        "--replicates", "3", "--name", "r",
    )  # fmt: skip
    assert code == 0, events
    brain = tm.open_brain(small_copy)
    names = [f"r, seed {seed}" for seed in (3, 4, 5)]
    assert sorted(brain.simulations) == sorted([*names, "r, mean", "r, standard deviation"])
    stack = np.stack([np.asarray(brain.simulations[name].levels[0]) for name in names]).astype(
        float
    )
    mean = np.asarray(brain.simulations["r, mean"].levels[0])
    spread = np.asarray(brain.simulations["r, standard deviation"].levels[0])
    np.testing.assert_allclose(mean, stack.mean(axis=0), atol=0.501)
    np.testing.assert_allclose(spread, stack.std(axis=0, ddof=1), atol=0.51)
    assert spread.max() > 3
    made = brain.simulations["r, seed 4"].provenance
    assert made["request"]["edits"] == [
        {"gene": gene, "how": "set", "value": 9.0, "roi": None, "structure": acronym}
    ]
    assert made["request"]["seed"] == 4
    assert brain.simulations["r, mean"].provenance["of"] == names
    # The same again goes on with what is there: nothing is generated twice.
    code, events = teramind(
        "simulate", *common, "--structure", acronym, "--edit", f"{gene}=9@{acronym}",
        "--replicates", "3", "--name", "r",
    )  # fmt: skip
    assert code == 2
    assert "mean" in events[-1]["message"]
    assert not [event for event in events if event["event"] == "progress"]


def test_an_edit_that_cannot_be_ends_with_a_sentence(small_copy: Path, checkpoint: Path):
    common = ["simulate", str(small_copy), "--checkpoint", str(checkpoint)]
    for edit, words in (("Th", "cannot be read"), ("Nope=0", "does not look at Nope")):
        code, events = teramind(*common, "--edit", edit)
        assert code == 2
        assert words in events[-1]["message"]

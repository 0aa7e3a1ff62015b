"""The verbs ``attention`` and ``structures`` as a user runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.cli import run
from napari_teramind.model import TeraMind, save_model

ASK = ["attention", "BRAIN", "--checkpoint", "NET", "--pair"]
ALL = ["structures", "BRAIN", "--all-pairs", "--checkpoint", "NET"]


@pytest.fixture(scope="module")
def checkpoint(tiny_network: TeraMind, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tiny_network, tmp_path_factory.mktemp("net") / "net.safetensors"))


@pytest.fixture(scope="module")
def brain(tiny_brain: BrainStore, checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A brain in which the command line computed a pair."""
    folder = tmp_path_factory.mktemp("cli") / "brain.zarr"
    shutil.copytree(tiny_brain.path, folder)
    command = ["attention", folder, "--checkpoint", checkpoint, "--pair", "DOPA", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "napari_teramind", *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events][:2] == ["planned", "progress"]
    assert events[0]["details"]["units"] == 2
    assert events[-1]["result"]["name"] == "Nr4a2-Th"
    return str(folder)


def test_the_result_carries_its_provenance(brain: str, checkpoint: str) -> None:
    image = tm.open_brain(brain).attention["Nr4a2-Th"]
    job = image.provenance["job"]
    assert job["verb"] == "attention"
    assert job["pairs"] == ["DOPA"]
    network = tm.load_model(checkpoint)
    assert image.provenance["checkpoint_sha256"] == network.sha256
    assert set(image.provenance["versions"]) >= {"napari-teramind", "torch"}
    maps = tm.attention(tm.open_brain(brain), network, [("Nr4a2", "Th")])
    np.testing.assert_array_equal(np.asarray(image.levels[0]), maps.data)


def test_a_toml_job(brain: str, checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        f'verb = "attention"\nbrain = "{brain}"\ncheckpoint = "{checkpoint}"\n'
        'pairs = ["Gad1,Th", ["Mog", "Th"]]\nname = "toml"\nroi = [0, 64, 0, 64]\n'
        'slices = [0, 2]\nmaps = ["ensemble"]\n'
    )
    assert run(["run", str(tmp_path / "job.toml")]) == 0
    image = tm.open_brain(brain).attention["toml"]
    assert image.shape == (2 * 6 + 3, 2, 4, 4)
    shutil.rmtree(Path(brain) / "attention" / "toml")


def test_a_dry_run_says_what_it_would_take(
    brain: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["attention", brain, "--checkpoint", checkpoint, "--pair", "Gad1,Th", "--dry-run"]
    assert run([*command, "--structure", "TH"]) == 0
    assert "12 x 10 bins x 4 slices, 20 channels, " in capsys.readouterr().out
    assert list(tm.open_brain(brain).attention) == ["Nr4a2-Th"]


def test_structures_are_ranked(
    brain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.parquet"
    assert run(["structures", brain, "--quantity", "A", "-o", str(table)]) == 0
    told = capsys.readouterr().out
    assert "A of Nr4a2-Th, ensemble" in told
    assert "Caudoputamen" in told
    frame = pd.read_parquet(table)
    assert set(frame["acronym"]) == {"root", "CP", "TH"}


def test_a_structure_is_picked_from_a_result(brain: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    assert run(["structures", brain, "--structure", "CP", "-o", str(table)]) == 0
    assert set(pd.read_csv(table)["acronym"]) == {"CP"}


def test_all_pairs(
    brain: str, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["structures", brain, "--all-pairs", "--checkpoint", checkpoint]
    assert run([*command, "--structure", "TH", "-o", str(tmp_path / "t.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "t.csv")) == 28
    assert run([*command, "--pair", "DOPA", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["result"]
    assert {row["acronym"] for row in result["pairs"]} == {"CP", "TH"}
    assert run([*command, "-o", str(tmp_path / "m.npz")]) == 0
    with np.load(tmp_path / "m.npz") as file:
        assert file["sums"].shape == (2, 8, 8)


def test_an_atlas_in_place_of_the_labels(brain: str, tmp_path: Path) -> None:
    """An atlas of two halves, laid over the slices by an affine and by landmarks."""
    import tifffile

    annotation = np.zeros((5, 30, 45), np.uint32)
    annotation[:, :, :20], annotation[:, :, 20:] = 672, 549
    tifffile.imwrite(tmp_path / "atlas_1um.tif", annotation, photometric="minisblack")
    columns = "id,acronym,name,color_hex,parent_id\n"
    rows = "997,root,root,FFFFFF,\n672,CP,Caudoputamen,98D6F9,997\n549,TH,Thalamus,FF7080,997\n"
    (tmp_path / "structures.csv").write_text(columns + rows)
    affine = {"affine": [[0, 0, 2.5], [1, 0, 0], [0, 1, 0]]}
    marks = [{"slice": [y, x], "atlas": [2.5, y, x]} for y in (0, 27) for x in (0, 41)]
    slices = {"0": affine, "1": affine, "2": {"landmarks": marks}, "3": affine}
    (tmp_path / "t.json").write_text(json.dumps(slices))
    command = ["structures", brain, "--atlas", str(tmp_path / "atlas_1um.tif")]
    out = tmp_path / "t.csv"
    assert run([*command, "--transforms", str(tmp_path / "t.json"), "-o", str(out)]) == 0
    frame = pd.read_csv(out).set_index("acronym")
    # Bins are 1.728 um wide and the first centre lies at 0.81: 12 of 24 columns lie below 20 um.
    left = sum(0.81 + 1.728 * k < 20 for k in range(24))
    assert set(frame.loc["CP", "bins"]) == {4 * 16 * left}
    assert set(frame.loc["TH", "bins"]) == {4 * 16 * (24 - left)}


def test_brains_are_compared(
    brain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two areas are not enough to speak of agreement.
    assert run(["structures", brain, "--against", brain]) == 2
    assert "2 ranked areas in common" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*ASK, "Nope,Th"], "lacks 'Nope'"),
        ([*ASK, "Slc17a7,Th"], "lacks 'Slc17a7'"),
        ([*ASK, "Th,Th"], "one gene twice"),
        ([*ASK, "Th"], "no pair of genes"),
        ([*ASK, "DOPA", "--roi", "9,9,0,9"], "9-9"),
        ([*ASK, "DOPA", "--structure", "SNc"], "'SNc'"),
        ([*ASK, "DOPA", "--structure", "TH", "--roi", "0,9,0,9"], "No bin"),
        ([*ASK, "DOPA", "--name", "Nr4a2-Th"], "already"),
        ([*ASK, "DOPA", "--map", "x"], "'maps'"),
        ([*ASK, "DOPA", "--checkpoint", "none.safetensors"], "no checkpoint"),
        (["structures", "BRAIN", "--result", "x"], "no attention result 'x'"),
        (["structures", "BRAIN", "--pair", "Gad1,Th"], "no attention of Gad1-Th"),
        (["structures", "BRAIN", "--all-pairs"], "--checkpoint"),
        ([*ALL, "--structure", "SNc"], "'SNc'"),
        (["structures", "BRAIN", "--structure", "SNc"], "says nothing of SNc"),
        (["structures", "BRAIN", "--roi", "0,64,0,64"], "--all-pairs only"),
        (["structures", "BRAIN", "--atlas", "nowhere.tif"], "--transforms"),
        (["structures", "BRAIN", "-o", "table.xls"], "no form"),
    ],
)  # fmt: skip
def test_bad_input(
    brain: str, checkpoint: str, capsys: pytest.CaptureFixture[str],
    arguments: list[str], words: str,
) -> None:  # fmt: skip
    places = {"BRAIN": brain, "NET": checkpoint}
    assert run([places.get(word, word) for word in arguments]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if words in line]
    assert "Traceback" not in error
    assert list(tm.open_brain(brain).attention) == ["Nr4a2-Th"]

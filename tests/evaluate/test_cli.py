"""The verb ``evaluate`` as a user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.cli import run
from simulations import keep_simulation


def teramind(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_teramind", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_a_table_of_metrics(judged: BrainStore, tmp_path: Path) -> None:
    out = tmp_path / "metrics.csv"
    done = teramind("evaluate", judged.path, "--result", "soft", "--structures", "-o", out)
    assert done.returncode == 0, done.stderr
    assert f"Wrote {out}." in done.stdout
    assert "psnr" in done.stdout
    frame = pd.read_csv(out, dtype={"slice": str})
    assert list(frame.columns) == ["stain", "slice", "structure", "metric", "value", "n"]
    assert {"all", "root", "CTX"} <= set(frame["structure"])
    assert {"0", "1", "mean", "std", "all"} == set(frame["slice"])
    assert {"psnr", "ssim", "nuclei_result", "texture_distance"} <= set(frame["metric"])
    assert not any("fid" in metric for metric in frame["metric"])
    refused = teramind("evaluate", judged.path, "--result", "soft", "-o", out)
    assert refused.returncode == 2
    assert "exists already" in refused.stderr


def test_other_forms_hold_the_same(judged: BrainStore, tmp_path: Path) -> None:
    frames = []
    for name in ("m.csv", "m.parquet", "m.json"):
        out = tmp_path / name
        command = ["evaluate", judged.path, "--result", "same", "--nuclei", "none", "-o", str(out)]
        assert run([*command, "--json"]) == 0
        if name == "m.json":
            told = json.loads(out.read_text(), parse_constant=pytest.fail)
            assert told["region_px"] == [100, 600, 130, 800]
            frame = pd.DataFrame(told["rows"])
            frame["value"] = frame["value"].fillna(np.inf)
        else:
            read = {"m.csv": pd.read_csv, "m.parquet": pd.read_parquet}[name]
            frame = read(out).astype({"slice": str})
        frames.append(frame)
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0], check_dtype=False)
    assert np.isinf(frames[0]["value"]).any()


def test_against_another_result(
    judged: BrainStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"{judged.path}/simulations/same"
    assert run(["evaluate", judged.path, "--result", "soft", "--against", other, "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["result"]
    metrics = {(row["stain"], row["metric"], row["slice"]): row["value"]
               for row in result["metrics"]}  # fmt: skip
    assert metrics["DAPI", "psnr", "mean"] > 20


def test_expression_alone(judged: BrainStore, tmp_path: Path) -> None:
    out = tmp_path / "expression.parquet"
    done = teramind("evaluate", judged.path, "--expression", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Wrote {out}.\n"
    frame = pd.read_parquet(out)
    assert list(frame.columns) == ["id", "acronym", "name", "gene", "mean_log2", "bins"]
    assert set(frame["gene"]) == set(judged.gene_names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--result", "nope"], "no simulation 'nope'"),
        (["--result", "soft", "-o", "metrics.xls"], "no form"),
        (["--result", "soft", "--expression", "e.json"], "no form"),
        (["--result", "soft", "-o", "m.csv", "--expression", "m.csv"], "cannot hold both"),
        (["--result", "far"], "no tissue"),
        ([], "name one with --result"),
        (["--result", "soft", "--against", "nowhere.zarr/x"], "no brain at"),
        (["--result", "soft", "--nuclei", "cellpose"], "--cellpose-weights"),
        (["--result", "soft", "--cellpose-weights", "w"], "--nuclei cellpose only"),
        (["--result", "soft", "--nuclei", "cellpose", "--cellpose-weights", "w"], "no weights"),
        (["--result", "soft", "--inception", "i.pth"], "no weights"),
        (["--result", "soft", "--nuclei", "guess"], "--nuclei"),
    ],
)
def test_bad_input(
    judged: BrainStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", judged.path, *arguments]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if words in line]
    assert error.endswith(".")
    assert list(tmp_path.iterdir()) == []


def test_a_brain_without_stains_or_structures(brain_copy: Path, tmp_path: Path) -> None:
    """Its stains are black, as those of a brain whose images nobody has."""
    brain = open_brain(brain_copy)
    image = brain.read_stains((0, 64, 0, 64), (0, 1))
    keep_simulation(brain, "x", image, roi=(0, 64, 0, 64), slices=(0, 1), provenance={})
    shutil.rmtree(brain_copy / "stains" / "0" / "c")
    done = teramind("evaluate", brain_copy)
    assert done.returncode == 2
    assert "no stains to compare" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_structures_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from napari_teramind.brain import BrainWriter

    writer = BrainWriter.create(tmp_path / "b.zarr", name="b", shape=(1, 64, 64), genes=["Th"])
    image = np.full((2, 1, 64, 64), 9, np.uint8)
    writer.write_stains(0, 0, 0, image[:, 0])
    brain = writer.finish()
    keep_simulation(brain, "x", image, roi=(0, 64, 0, 64), slices=(0, 1), provenance={})
    assert run(["evaluate", brain.path, "--structures"]) == 2
    assert "no atlas structures" in capsys.readouterr().err

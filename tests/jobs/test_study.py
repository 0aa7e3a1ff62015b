"""Studies: carried out stage by stage, gone on with after a kill, done once, reported on a page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from napari_teramind.brain import open_brain

pytestmark = pytest.mark.timeout(1500)  # beside other work; a minute on a quiet machine

STUDY = """
title = "Two small animals"
out = "results"
pairs = ["Slc17a6,Slc17a7"]

[animals.main]
brain = "main.zarr"
phantom = "main"
size = "XS"

[animals.supp]
brain = "supp.zarr"
phantom = "supp_m"
size = "XS"

[training]
preset = "packaged"
channels = 4
patch = 32
gene_channels = [8, 6, 4]
batch = 2
warmup = 2
steps = 4
validate_every = 0
sample_every = 0

[simulate]
roi = [256, 512, 256, 640]
slices = [2, 4]
steps = 2
halo = 1

[experiments."supp to main"]
train = ["supp"]
test = "main"
attention = true
"""


def reproduce(study: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_teramind", "reproduce", str(study), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def tokens(out: Path) -> dict[str, str]:
    """What stands for the last time that a stage was done, by stage."""
    found = (out / "stages").glob("*/done.json")
    return {path.parent.name: json.loads(path.read_text())["token"] for path in found}


def kill_while(study: Path, words: str) -> None:
    """Begin the study and SIGKILL it as soon as it says something."""
    command = [sys.executable, "-m", "napari_teramind", "reproduce", str(study), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if words in line:
                process.kill()
                break
        else:
            pytest.fail(f"it never said {words!r}")
    time.sleep(1)  # stages end with their parent


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was killed in the middle, and then carried out."""
    path = tmp_path_factory.mktemp("study") / "small.toml"
    path.write_text(STUDY)
    kill_while(path, "Generating main by supp to main")
    before = tokens(path.parent / "results")
    assert set(before) == {"phantom main", "phantom supp", "train supp to main"}
    assert not (path.parent / "results" / "report.html").exists()
    done = reproduce(path)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    after = tokens(path.parent / "results")
    assert before.items() <= after.items()
    return path


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_holds_everything_itself(study: Path) -> None:
    page = _Page()
    page.feed((study.parent / "results" / "report.html").read_text(encoding="utf-8"))
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    for words in ("Two small animals", "Real and generated", "Slc17a6-Slc17a7", "Expression"):
        assert words in page.text
    assert re.search(r"Kendall's W of the ranks of structures is [01]\.\d\d", page.text)
    assert "nan" not in page.text.lower().split()


def test_tables_are_files_too(study: Path) -> None:
    tables = study.parent / "results" / "tables"
    metrics = pd.read_csv(tables / "metrics supp to main.csv")
    assert {"psnr", "ssim", "nuclei_result", "texture_distance"} <= set(metrics["metric"])
    assert set(metrics["stain"]) == {"DAPI", "PolyT"}
    panel = pd.read_csv(tables / "panel.csv")["gene"].tolist()
    brains = [open_brain(study.parent / f"{name}.zarr") for name in ("main", "supp")]
    assert set(panel) == set.intersection(*(set(brain.gene_names) for brain in brains))
    for animal in ("main", "supp"):
        name = f"structures supp to main Slc17a6-Slc17a7 {animal}.csv"
        assert {"acronym", "enrichment"} <= set(pd.read_csv(tables / name).columns)


def test_what_is_done_is_not_done_again_and_what_has_changed_is(study: Path) -> None:
    out = study.parent / "results"
    before = tokens(out)
    (out / "report.html").unlink()
    assert reproduce(study).returncode == 0
    assert tokens(out) == before
    assert (out / "report.html").exists()

    study.write_text(STUDY.replace("slices = [2, 4]", "slices = [2, 3]"))
    done = reproduce(study)
    assert done.returncode == 0, done.stderr
    changed = {stage for stage, token in tokens(out).items() if token != before[stage]}
    assert changed == {"simulate supp to main", "evaluate supp to main"}
    result = open_brain(study.parent / "main.zarr").simulations["small supp to main"]
    assert result.shape[1] == 1


def test_a_network_of_other_settings_takes_no_network_away(study: Path) -> None:
    networks = study.parent / "results" / "networks"
    before = (networks / "supp to main" / "last.safetensors").read_bytes()
    study.write_text(STUDY.replace("warmup = 2\nsteps = 4", "warmup = 2\nsteps = 3"))
    kill_while(study, "Generating main by supp to main")
    assert (networks / "supp to main before" / "last.safetensors").read_bytes() == before
    assert (networks / "supp to main" / "last.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("title", "= title", "not a study that can be read"),
        ('train = ["supp"]', 'train = ["supp", "who"]', "names who, which is no animal here"),
        ('train = ["supp"]', 'train = ["main"]', "it is tested on main, on which it is trained"),
        ('train = ["supp"]', "", "give either animals to train on or a checkpoint"),
        ('out = "results"', "", "out: Field required"),
        ('phantom = "main"', 'phantom = "mine"', "animals.main.phantom"),
        ("steps = 2", "steps = 0", "'simulate'"),
        ("steps = 2", "stepps = 2", "'simulate'"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(STUDY.replace(old, new, 1))
    done = reproduce(path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["bad.toml"]

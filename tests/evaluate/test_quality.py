"""The page of a brain's slices, written by the command line and read as HTML."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from napari_teramind.brain import open_brain
from napari_teramind.evaluate.quality import slice_quality

PIXEL = 0.108
SIDE = 640


def disc(middle: tuple[float, float]) -> np.ndarray:
    """Tissue of 25 um radius, noisy, and dim noise around it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = np.hypot(y - middle[0], x - middle[1]) < 231
    light = ndimage.gaussian_filter(rng.random((SIDE, SIDE)), 2) * 4000
    return (100 + inside * (4000 + light)).astype(np.uint16)


def write_slice(folder: Path, middle: tuple[float, float], rows: int, genes: list[str]) -> None:
    (folder / "images").mkdir(parents=True)
    np.savetxt(
        folder / "images" / "micron_to_mosaic_pixel_transform.csv",
        [[1 / PIXEL, 0, 0], [0, 1 / PIXEL, 0], [0, 0, 1]],
    )
    for stain in ("DAPI", "PolyT"):
        tifffile.imwrite(folder / "images" / f"mosaic_{stain}_z0.tif", disc(middle))
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "global_x": rng.uniform(0, SIDE * PIXEL, rows),
            "global_y": rng.uniform(0, SIDE * PIXEL, rows),
            "global_z": 0.0,
            "gene": rng.choice(genes, rows),
        }
    )
    table.to_csv(folder / "detected_transcripts.csv")


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[np.ndarray] = []
        self.text = ""
        self.asks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        for name in ("src", "href"):
            address = known.get(name) or ""
            if address.startswith("data:"):
                data = base64.b64decode(address.partition(",")[2])
                self.pictures.append(np.asarray(Image.open(io.BytesIO(data))))
            elif address and not address.startswith("#"):
                self.asks.append(address)

    def handle_data(self, data: str) -> None:
        self.text += data


def teramind(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_teramind", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slices: one far off the others, with few transcripts, and a gene less."""
    folder = tmp_path_factory.mktemp("study")
    names = [f"Gene{i}" for i in range(8)]
    for i in range(4):
        odd = i == 2
        middle = (230.0, 230.0) if not odd else (410.0, 410.0)
        write_slice(folder / f"s{i}", middle, 150 if odd else 4000, names[:3] if odd else names)
    done = teramind("import", "draft", "s3", "s1", "s0", "s2", "-o", "slices.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = teramind("import", "merscope", "slices.toml", "-o", "brain.zarr", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_slices_are_measured(study):
    brain = open_brain(study / "brain.zarr")
    slices = slice_quality(brain)
    assert [s.source for s in slices] == ["s0", "s1", "s2", "s3"]
    area = np.pi * (231 * PIXEL) ** 2 / 1e6
    for s in slices:
        # Smoothing over 20 um lets a disc of 25 um shrink or grow a little.
        assert s.tissue_mm2 == pytest.approx(area, rel=0.35)
    assert [s.transcripts for s in slices] == [4000, 4000, 150, 4000]
    assert [s.inside for s in slices] == [1, 1, 1, 1]
    assert slices[0].overlap is None
    assert slices[1].overlap > 0.95
    assert slices[2].overlap < 0.5
    assert slices[2].missing == [f"Gene{i}" for i in range(3, 8)]
    assert not slices[1].notes
    words = " ".join(slices[2].notes)
    assert "0.037 times the transcripts" in words
    assert "overlaps that of the slice before" in words
    assert "5 genes have no transcript" in words


def test_the_page_shows_every_slice_and_asks_nobody(study):
    done = teramind("quality", "brain.zarr", "-o", "slices.html", "--json", cwd=study)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])["result"]
    assert "2" in result["notes"]
    assert not {"0", "1"} & set(result["notes"])
    shown = Page()
    shown.feed((study / "slices.html").read_text(encoding="utf-8"))
    assert len(shown.pictures) == 8
    assert all(picture.max() > 200 for picture in shown.pictures)
    assert shown.asks == []
    assert "times the transcripts" in shown.text
    again = teramind("quality", "brain.zarr", "-o", "slices.html", cwd=study)
    assert again.returncode == 2
    assert "slices.html" in again.stderr
    assert "Traceback" not in again.stderr
    wrong = teramind("quality", "brain.zarr", "-o", "slices.pdf", cwd=study)
    assert wrong.returncode == 2
    assert ".html" in wrong.stderr


def test_names_in_a_brain_are_shown_as_they_are(tmp_path):
    """A gene is no HTML."""
    for i in range(2):
        write_slice(
            tmp_path / f"s{i}", (300, 300), 200, ["Th", "<script>alert(1)</script>"][: 2 - i]
        )
    done = teramind("import", "merscope", "s0", "s1", "-o", "b.zarr", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert teramind("quality", "b.zarr", "-o", "q.html", cwd=tmp_path).returncode == 0
    text = (tmp_path / "q.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text

"""The process in which Cellpose runs, with a stand-in for Cellpose itself."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_teramind.errors import UserError
from napari_teramind.evaluate.cellpose import Cellpose
from napari_teramind.evaluate.counting import tally_nuclei
from napari_teramind.evaluate.tiles import Box
from spoiling import Payload

# The names and arguments of Cellpose 4.
STAND_IN = """
import numpy as np
from scipy import ndimage

class CellposeModel:
    def __init__(self, gpu=False, pretrained_model="cpsam"):
        import torch
        self.threshold = torch.load(pretrained_model, weights_only=True)["threshold"]
        print("a greeting on standard output")

    def eval(self, x, normalize=True):
        low, high = normalize["lowhigh"]
        if x.max() == 255:
            raise ValueError("too bright\\nmore of it")
        masks, _ = ndimage.label((x - low) / (high - low) > self.threshold)
        return masks.astype(np.uint16), None, None
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    torch.save({"threshold": 0.5}, path)
    return path


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "packages" / "cellpose"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    return package


@pytest.mark.usefixtures("stand_in")
def test_nuclei_come_back_from_the_other_process(weights: Path) -> None:
    image = np.full((300, 300), 10, np.uint8)
    for y, x in ((60, 60), (60, 200), (200, 128)):
        image[y - 20 : y + 20, x - 20 : x + 20] = 120

    def read(box: Box) -> np.ndarray:
        return image[box[0] : box[1], box[2] : box[3]]

    with Cellpose(weights) as cellpose:
        tally = tally_nuclei(
            read,
            lambda box: np.ones((box[1] - box[0], box[3] - box[2]), bool),
            lambda box: np.zeros((box[1] - box[0], box[3] - box[2]), int),
            (0, 300, 0, 300),
            0.108,
            cellpose,
            tile=128,
        )
        assert tally.count() == 3
        assert tally.areas() == ([1600], [3])
        labels = cellpose.segment(image, 10, 120)
        assert labels.max() == 3
        with pytest.raises(UserError, match=r"Cellpose failed \(ValueError: too bright\)"):
            cellpose.segment(np.full((9, 9), 255, np.uint8), 0, 1)
        process = cellpose._process
    assert process.poll() is not None


@pytest.mark.usefixtures("stand_in")
def test_weights_that_hold_code_are_refused(tmp_path: Path) -> None:
    mark, evil = tmp_path / "mark", tmp_path / "evil"
    evil.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UserError, match="Cellpose failed"):
        Cellpose(evil)
    assert not mark.exists()


def test_a_process_that_dies_is_told(stand_in: Path, weights: Path) -> None:
    (stand_in / "models.py").write_text("import sys; sys.stderr.write('out of luck\\n'); exit()")
    with pytest.raises(UserError, match=r"process ended \(out of luck\)"):
        Cellpose(weights)


def test_without_weights_or_cellpose(tmp_path: Path, weights: Path, stand_in: Path) -> None:
    with pytest.raises(UserError, match="no weights of Cellpose"):
        Cellpose(tmp_path / "nowhere")
    (stand_in / "__init__.py").write_text("raise ImportError('No module named cellpose')")
    with pytest.raises(UserError, match="not installed"):
        Cellpose(weights)

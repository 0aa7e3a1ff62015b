"""Results in the store: what they hold, that they survive a kill, and how they are replaced."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image

import napari_teramind as tm
from napari_teramind.attention import job as job_module
from napari_teramind.attention.job import attention_to_store
from napari_teramind.attention.stored import open_maps
from napari_teramind.attention.units import Computer
from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind

PAIR = ("Nr4a2", "Th")


@pytest.fixture
def brain(brain_copy: Path) -> BrainStore:
    return tm.open_brain(brain_copy)


@pytest.fixture
def wide(make_brain: Callable[..., BrainStore], tmp_path: Path) -> BrainStore:
    """Three slices of 40 x 600 bins: several shards."""
    rng = np.random.default_rng(4)
    counts = rng.poisson(0.05, (4, 3, 40, 600))
    return make_brain(tmp_path / "wide.zarr", counts, list("abcd"))


@pytest.fixture
def network(make_network: Callable[..., TeraMind]) -> TeraMind:
    network = make_network(genes=4)
    network.gene_names = tuple("abcd")
    return network


def test_the_result_holds_the_maps(brain: BrainStore, tiny_network: TeraMind) -> None:
    region = {"roi": (20, 200, 40, 300), "slices": (1, 4)}
    path = attention_to_store(brain, tiny_network, "first", [PAIR], **region, job={"verb": "x"})
    assert list(brain.attention) == ["first"]
    maps = tm.attention(brain, tiny_network, [PAIR], **region)
    image = brain.attention["first"]
    np.testing.assert_array_equal(np.asarray(image.levels[0]), maps.data)
    assert [channel.name for channel in image.channels] == list(maps)
    assert image.provenance["job"] == {"verb": "x"}
    assert image.provenance["checkpoint_sha256"] == tiny_network.sha256
    stored = open_maps(brain, "first")
    assert stored.channels == maps.channels
    assert stored.region.box == (1, 13, 2, 19)
    # A tool that we did not write, on every level: centres of bins, means of bins.
    model = Image.from_zarr(zarr.open_group(path, mode="r"))
    for level, dataset in enumerate(model.ome_attributes.multiscales[0].datasets):
        scale = dataset.coordinateTransformations[0].scale
        translation = dataset.coordinateTransformations[1].translation
        side = 0.108 * 16 * 2**level
        assert scale == pytest.approx([1, 100, side, side])
        half = (side - 0.108) / 2
        assert translation == pytest.approx([0, 100, 16 * 0.108 + half, 32 * 0.108 + half])
    first = maps.data[..., :2, :2].mean(axis=(-2, -1))
    np.testing.assert_allclose(np.asarray(image.levels[1])[..., 0, 0], first, rtol=1e-6)


def test_an_interrupted_run_goes_on(
    wide: BrainStore, network: TeraMind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(wide.path, tmp_path / "whole.zarr"))
    attention_to_store(tm.open_brain(whole), network, "m", [("a", "b")])
    computed: list[Any] = []
    compute = Computer.compute

    def failing(self: Computer, unit: Any) -> np.ndarray:
        if len(computed) == 4:
            raise KeyboardInterrupt
        computed.append(unit)
        return compute(self, unit)

    monkeypatch.setattr(Computer, "compute", failing)
    with pytest.raises(KeyboardInterrupt):
        attention_to_store(wide, network, "m", [("a", "b")])
    assert list(wide.attention) == []
    # One shard was damaged meanwhile: it is found out by its checksum, not trusted.
    (partial,) = (path for path in (Path(wide.path) / "attention").iterdir() if path.is_dir())
    zarr.open_array(f"{partial}/0", mode="r+")[:, 0, :, :256] = 7
    units = [entry["unit"] for entry in map(json.loads, (partial / "ledger.jsonl").open())]
    assert len(units) == 7  # three units of two slices, and one of the last slice

    def counting(self: Computer, unit: Any) -> np.ndarray:
        computed.append(unit)
        return compute(self, unit)

    monkeypatch.setattr(Computer, "compute", counting)
    attention_to_store(wide, network, "m", [("a", "b")])
    assert len(computed) == 4 + 3
    for level in range(len(wide.attention["m"].levels)):
        np.testing.assert_array_equal(
            np.asarray(wide.attention["m"].levels[level]),
            np.asarray(tm.open_brain(whole).attention["m"].levels[level]),
        )
    assert [p.name for p in (Path(wide.path) / "attention").iterdir() if p.is_dir()] == ["m"]


def test_another_job_does_not_go_on_with_it(
    wide: BrainStore, network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Computer.compute
    computed: list[Any] = []

    def failing(self: Computer, unit: Any) -> np.ndarray:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(unit)
        return compute(self, unit)

    monkeypatch.setattr(Computer, "compute", failing)
    with pytest.raises(KeyboardInterrupt):
        attention_to_store(wide, network, "m", [("a", "b")])
    monkeypatch.setattr(Computer, "compute", compute)
    attention_to_store(wide, network, "m", [("c", "b")])
    maps = tm.attention(wide, network, [("c", "b")])
    np.testing.assert_array_equal(np.asarray(wide.attention["m"].levels[0]), maps.data)


def test_a_killed_process_leaves_what_can_go_on(wide: BrainStore, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import os, sys, torch\n"
        "import napari_teramind as tm\n"
        "from napari_teramind.attention.job import attention_to_store\n"
        "from napari_teramind.attention.units import Computer\n"
        "from napari_teramind.model import ModelConfig, TeraMind\n"
        "torch.manual_seed(0)\n"
        "config = ModelConfig(genes=4, channels=4, time_channels=16, gene_channels=(8, 6, 4))\n"
        "network = TeraMind(config).eval()\n"
        "network.gene_names = tuple('abcd')\n"
        "left, compute = int(sys.argv[2]), Computer.compute\n"
        "def counted(self, unit):\n"
        "    global left\n"
        "    if left == 0:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    left -= 1\n"
        "    return compute(self, unit)\n"
        "Computer.compute = counted\n"
        "attention_to_store(tm.open_brain(sys.argv[1]), network, 'm', [('a', 'b')])\n"
        "print('left', left)\n"
    )
    killed = subprocess.run([sys.executable, script, wide.path, "4"], capture_output=True)
    assert killed.returncode == -9
    assert list(wide.attention) == []
    done = subprocess.run(
        [sys.executable, script, wide.path, "9"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["left", "7"]
    assert list(wide.attention) == ["m"]


def test_results_are_replaced_only_when_asked(
    brain: BrainStore, tiny_network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention_to_store(brain, tiny_network, "m", [PAIR], slices=(0, 1))
    with pytest.raises(UserError, match="already"):
        attention_to_store(brain, tiny_network, "m", [PAIR], slices=(0, 2))
    attention_to_store(brain, tiny_network, "m", [PAIR], slices=(0, 2), overwrite=True)
    assert brain.attention["m"].shape[1] == 2
    with pytest.raises(UserError, match="cannot be the name"):
        attention_to_store(brain, tiny_network, "../m", [PAIR])
    with pytest.raises(UserError, match="no attention result 'n'"):
        open_maps(brain, "n")


def test_two_runs_do_not_write_one_result(
    brain: BrainStore, tiny_network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocked(*_: Any) -> None:
        with pytest.raises(UserError, match="Another run is writing 'm'"):
            attention_to_store(brain, tiny_network, "m", [PAIR])
        raise KeyboardInterrupt

    monkeypatch.setattr(job_module, "_fill", blocked)
    with pytest.raises(KeyboardInterrupt):
        attention_to_store(brain, tiny_network, "m", [PAIR])
    monkeypatch.undo()
    attention_to_store(brain, tiny_network, "m", [PAIR])

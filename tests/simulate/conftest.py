"""A brain, a network and what it generates, so small that many runs of it can be tested."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import napari_teramind as tm
from napari_teramind.brain import BrainStore, result
from napari_teramind.model import TeraMind, save_model

from .runs import STEPS, TILE, WHOLE


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut results into many shards."""
    monkeypatch.setattr(result, "_SMALL_TILE", TILE)


@pytest.fixture(scope="session")
def small_brain(
    tmp_path_factory: pytest.TempPathFactory, make_tiny_brain: Callable[..., BrainStore]
) -> BrainStore:
    """Open a brain of 4 slices of 128 x 256 px. It is shared: write into a copy of it."""
    return make_tiny_brain(tmp_path_factory.mktemp("brains") / "small.zarr", *WHOLE.roi[1::2])


@pytest.fixture
def small_copy(small_brain: BrainStore, tmp_path: Path) -> Path:
    """Folder of a copy of the small brain, the test's own to write into."""
    return Path(shutil.copytree(small_brain.path, tmp_path / "brain.zarr"))


@pytest.fixture(scope="session")
def network(make_network: Callable[..., TeraMind], small_brain: BrainStore) -> TeraMind:
    """Make a network of patches of 32 px, for five genes of the small brain."""
    network = make_network(genes=5, patch=32, channels=2, time_channels=16, prediction="v")
    network.gene_names = small_brain.gene_names[2:7]
    return network


@pytest.fixture(scope="session")
def checkpoint(network: TeraMind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of the network."""
    path = tmp_path_factory.mktemp("checkpoints") / "network.safetensors"
    save_model(network, path, {})
    return path


@pytest.fixture(scope="session")
def whole(small_brain: BrainStore, network: TeraMind) -> np.ndarray:
    """Generate the whole small brain in one piece."""
    return tm.simulate(small_brain, network, WHOLE.roi, WHOLE.slices, seed=3, steps=STEPS)

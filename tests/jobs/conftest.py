"""A brain and a network in a folder, so small that many batches of them can be tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from napari_teramind.brain import BrainStore
from napari_teramind.model import TeraMind, save_model


@pytest.fixture
def folder(
    tmp_path: Path,
    make_tiny_brain: Callable[..., BrainStore],
    make_network: Callable[..., TeraMind],
) -> Path:
    """Folder with ``brain.zarr``, 4 slices of 128 x 256 px, and ``n.safetensors`` for 5 genes."""
    brain = make_tiny_brain(tmp_path / "brain.zarr", 128, 256)
    network = make_network(genes=5, patch=32, channels=2, time_channels=16, prediction="v")
    network.gene_names = brain.gene_names[2:7]
    save_model(network, tmp_path / "n.safetensors", {})
    return tmp_path

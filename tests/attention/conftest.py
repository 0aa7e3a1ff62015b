from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import BrainStore, BrainWriter
from napari_teramind.model import TeraMind


@pytest.fixture(scope="session")
def make_brain() -> Callable[..., BrainStore]:
    """Make a brain of counts (genes, z, y, x); its stains are black."""

    def make(path: Path, counts: np.ndarray, genes: list[str]) -> BrainStore:
        _, depth, rows, columns = counts.shape
        shape = (depth, rows * 16, columns * 16)
        with BrainWriter.create(path, name="test", shape=shape, genes=genes) as writer:
            for z in range(depth):
                writer.write_genes(z, 0, 0, counts[:, z])
        return writer.finish()

    return make


@pytest.fixture(scope="session")
def tiny_network(make_network: Callable[..., TeraMind], tiny_brain: BrainStore) -> TeraMind:
    """Make a network of four gene slices for eight genes of the tiny brain."""
    network = make_network(genes=8, patch=64)
    network.gene_names = tiny_brain.gene_names[1:9][::-1]
    network.sha256 = "0" * 64
    return network

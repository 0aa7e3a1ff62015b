"""What tests of every room share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind
    from spoiling import World

# One thread a process, set before torch is imported: on small arrays more are no faster, and they
# wait for one another as soon as the cores are shared with other tests or jobs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Properties are tested, not speed: beside other work an example may take long.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# No test is noted among the jobs of whoever runs the tests.
os.environ["TERAMIND_JOBS"] = tempfile.mkdtemp(prefix="teramind-jobs-")

PARITY = Path(__file__).parent / "data" / "parity"

TINY_GENES = (
    "Slc17a7", "Slc17a6", "Gad1", "Gad2", "Th", "Nr4a2",
    "Aqp4", "Gja1", "Mog", "Sox10", "Cldn5", "Pvalb",
)  # fmt: skip


@pytest.fixture(scope="session")
def teramind_data() -> Path:
    """Folder of the real data; tests that need it are skipped where TERAMIND_DATA is not set."""
    value = os.environ.get("TERAMIND_DATA")
    if not value:
        pytest.skip("TERAMIND_DATA is not set")
    folder = Path(value).resolve()
    if not folder.is_dir():
        pytest.fail(f"TERAMIND_DATA names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def tiny_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stains (2, 4, 256, 384) uint8, genes (12, 4, 16, 24) and structures (4, 16, 24) at random."""
    rng = np.random.default_rng(20)
    stains = rng.integers(0, 256, (2, 4, 256, 384), dtype=np.uint8)
    genes = rng.poisson(0.7, (len(TINY_GENES), 4, 16, 24))
    structures = np.zeros((4, 16, 24), np.uint32)
    structures[:, 2:14, 2:12] = 672
    structures[:, 2:14, 12:22] = 549
    return stains, genes, structures


@pytest.fixture(scope="session")
def make_tiny_brain(
    tiny_arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Callable[..., BrainStore]:
    """Make brains of the upper left corner of `tiny_arrays`, by default of all of it."""
    from napari_teramind.brain import BrainWriter, LabelInfo

    columns = ("id", "acronym", "name", "color_hex", "parent_id")
    structures_rows = (
        (997, "root", "root", "FFFFFF", None),
        (672, "CP", "Caudoputamen", "98D6F9", 997),
        (549, "TH", "Thalamus", "FF7080", 997),
    )
    rows = [dict(zip(columns, row, strict=True)) for row in structures_rows]

    def make(path: Path, height: int = 256, width: int = 384) -> BrainStore:
        stains, genes, structures = tiny_arrays
        writer = BrainWriter.create(
            path,
            name="tiny",
            shape=(4, height, width),
            genes=TINY_GENES,
            slice_positions=[0.0, 100.0, 200.0, 320.0],
            labels={"structures": LabelInfo(16, rows), "tissue": LabelInfo(16)},
            source={"made by": "the tests"},
        )
        corner = (slice(height // 16), slice(width // 16))
        for z in range(4):
            labels = structures[z][corner]
            writer.write_stains(z, 0, 0, stains[:, z, :height, :width])
            writer.write_genes(z, 0, 0, genes[:, z][:, *corner])
            writer.write_label("structures", z, labels)
            writer.write_label("tissue", z, (labels > 0).astype(np.uint32))
        return writer.finish()

    return make


@pytest.fixture(scope="session")
def tiny_brain(
    tmp_path_factory: pytest.TempPathFactory, make_tiny_brain: Callable[..., BrainStore]
) -> BrainStore:
    """Open the brain made of `tiny_arrays`. It is shared: write into a copy of it."""
    return make_tiny_brain(tmp_path_factory.mktemp("brains") / "tiny.zarr")


@pytest.fixture
def brain_copy(tiny_brain: BrainStore, tmp_path: Path) -> Path:
    """Folder of a copy of the tiny brain, the test's own to write into."""
    return Path(shutil.copytree(tiny_brain.path, tmp_path / "brain.zarr"))


@pytest.fixture
def world(tmp_path: Path, tiny_brain: BrainStore) -> World:
    """Good things to spoil, in a folder of the test's own."""
    from spoiling import World

    return World(tmp_path, tiny_brain)


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """A network of 12 genes that it does not name, under the published parameter names."""
    return PARITY / "tiny.weights.safetensors"


@pytest.fixture(scope="session")
def parity() -> dict[str, Any]:
    """Tensors of the published implementation (see tests/data/parity/README.md)."""
    from safetensors.torch import load_file

    return load_file(PARITY / "tiny.io.safetensors")


@pytest.fixture(scope="session")
def published() -> TeraMind:
    """Load the network of the parity set."""
    from napari_teramind.model import load_model

    return load_model(PARITY / "tiny.weights.safetensors")


@pytest.fixture(scope="session")
def make_network() -> Callable[..., TeraMind]:
    """Make small networks without zero weights, which would hide what does not reach the output."""
    import torch

    from napari_teramind.model import ModelConfig, TeraMind

    def make(seed: int = 0, **settings: Any) -> TeraMind:
        values = {"genes": 4, "channels": 4, "time_channels": 16, **settings}
        model = TeraMind(ModelConfig(gene_channels=(8, 6, 4), **values)).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                fan = parameter[0].numel() if parameter.ndim > 1 else 4
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
        return model

    return make

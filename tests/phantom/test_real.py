"""The phantom beside a real region: the bounds of ``scripts/compare_phantom.py``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_teramind.brain import open_brain
from napari_teramind.brain.importers.merscope import import_merscope

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "compare_phantom.py"
    spec = importlib.util.spec_from_file_location("compare_phantom", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_bounds_hold_in_the_smallest_phantom(
    compare: ModuleType, phantom: BrainStore, teramind_data: Path, tmp_path: Path
) -> None:
    region = teramind_data / "merscope_region" / "region_0"
    import_merscope(
        [region], tmp_path / "real.zarr", stains={"DAPI": "DAPI", "PolyT": "Cellbound2"}
    )
    real = compare.measure_fields(open_brain(tmp_path / "real.zarr"), [(0, 0, 0)])
    ours = compare.measure_fields(phantom, compare.tissue_fields(phantom, 20))
    result = compare.check(real, ours)
    assert [name for name, holds in result.items() if holds is False] == []


def test_the_watershed_finds_nuclei_and_nothing_else(
    compare: ModuleType, phantom: BrainStore
) -> None:
    """What the comparison measures on images agrees with the ground truth of the phantom."""
    masks = np.asarray(phantom.labels["nuclei"].levels[0])
    found, true, real = 0, 0, 0
    for z, y, x in compare.tissue_fields(phantom, 20):
        place = (y, y + compare.FIELD, x, x + compare.FIELD)
        labels = compare.find_nuclei(phantom.read_stains(place, (z, z + 1))[0, 0]).labels
        mask = masks[z, y : y + compare.FIELD, x : x + compare.FIELD]
        found += int(labels.max())
        true += len(np.unique(mask[mask > 0]))
        real += sum((mask[labels == i] > 0).mean() > 0.6 for i in range(1, labels.max() + 1))
    assert true > 50
    assert real > 0.9 * found
    # Nuclei out of focus, touching ones and those at the border are missed, as in real images.
    assert 0.5 * true < found < 1.1 * true

"""The procedural anatomy beside the Allen volume, and what must hold of it anyway."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_teramind.atlas import read_annotation
from napari_teramind.phantom.anatomy import AtlasAnatomy, ProceduralAnatomy

STEP = 0.1
PLANES = np.arange(0.1, 13.1, 2 * STEP)
_LOOKED_FOR = (
    "Isocortex", "SSp1", "SSp2/3", "SSp4", "SSp5", "SSp6a", "SSp6b", "CA1", "CA1sp", "CA3sp",
    "DG-sg", "CP", "TH", "HY", "SNc", "SNr", "VTA", "PAG", "MOB", "CBXgr", "CBXmo", "CBXpu", "cc",
    "VL", "V3", "AQ", "V4", "CLA", "PIR", "LS", "BLA", "SCs", "IC", "RT", "MH", "arb", "opt",
)  # fmt: skip


@pytest.fixture(scope="module")
def anatomy() -> ProceduralAnatomy:
    return ProceduralAnatomy()


@pytest.fixture(scope="module")
def grid() -> tuple[np.ndarray, np.ndarray]:
    """Points of the right half of a coronal plane, mm."""
    dv, ml = np.meshgrid(np.arange(0.05, 8, STEP), np.arange(0.05, 5.6, STEP), indexing="ij")
    return dv, ml


@pytest.fixture(scope="module")
def volume(anatomy: ProceduralAnatomy, grid: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return np.stack([anatomy.at(ap, *grid) for ap in PLANES])


def test_it_holds_everything_that_a_neuroanatomist_looks_for(
    anatomy: ProceduralAnatomy, volume: np.ndarray
) -> None:
    there = set(np.unique(volume)) - {0}
    for acronym in _LOOKED_FOR:
        assert anatomy.table.within(acronym) & there, acronym


def test_every_id_is_in_the_table(anatomy: ProceduralAnatomy, volume: np.ndarray) -> None:
    assert set(np.unique(volume)) - {0} <= set(anatomy.table)


@settings(max_examples=25)
@given(ap=st.floats(0.2, 13.0), finest=st.floats(0, 0.15))
def test_it_is_symmetric(ap: float, finest: float) -> None:
    anatomy = ProceduralAnatomy()
    dv, ml = np.meshgrid(np.linspace(0, 8, 41), np.linspace(0, 5.5, 31), indexing="ij")
    assert np.array_equal(anatomy.at(ap, dv, ml, finest), anatomy.at(ap, dv, -ml, finest))


def test_neighbouring_planes_are_alike(anatomy: ProceduralAnatomy, volume: np.ndarray) -> None:
    parts = np.zeros(volume.shape, int)
    divisions = ("CTX", "CNU", "IB", "MB", "HB", "CB", "fiber tracts", "VS")
    for number, acronym in enumerate(divisions):
        parts[anatomy.table.mask(volume, acronym)] = number + 1
    alike = [(a == b)[(a != 0) | (b != 0)].mean() for a, b in pairwise(parts[2:-2])]
    assert min(alike) > 0.4
    assert np.mean(alike) > 0.8


def test_thin_layers_survive_in_small_brains(
    anatomy: ProceduralAnatomy, grid: tuple[np.ndarray, np.ndarray]
) -> None:
    layer = anatomy.table.within("CA1sp")
    thin = np.isin(anatomy.at(7.4, *grid), list(layer)).sum()
    thick = np.isin(anatomy.at(7.4, *grid, finest=0.15), list(layer)).sum()
    assert thick > 1.5 * thin > 0


def test_supporting_animals_have_no_olfactory_bulb(grid: tuple[np.ndarray, np.ndarray]) -> None:
    anatomy = ProceduralAnatomy(olfactory_bulb=False)
    first, last = anatomy.ap_range_mm
    bulb = list(anatomy.table.within("MOB"))
    assert not any(np.isin(anatomy.at(ap, *grid), bulb).any() for ap in np.arange(first, last, 0.5))


def test_it_lies_over_the_allen_brain(
    teramind_data: Path, volume: np.ndarray, anatomy: ProceduralAnatomy
) -> None:
    """Dice overlap of large parts with the annotation in the same frame."""
    atlas = AtlasAnatomy(read_annotation(teramind_data / "allen_ccf"))
    dv, ml = np.meshgrid(np.arange(0.05, 8, STEP), np.arange(0.05, 5.6, STEP), indexing="ij")
    real = np.stack([atlas.at(ap, dv, ml) for ap in PLANES])
    least = {
        "root": 0.95, "Isocortex": 0.9, "HPF": 0.8, "CP": 0.8, "TH": 0.82, "HY": 0.78, "MB": 0.85,
        "MOB": 0.78, "CBX": 0.75, "MY": 0.85, "PAG": 0.78, "SNr": 0.45, "SNc": 0.45, "VTA": 0.65,
    }  # fmt: skip
    for acronym, dice in least.items():
        a = anatomy.table.mask(volume, acronym)
        b = atlas.table.mask(real, acronym)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > dice, acronym

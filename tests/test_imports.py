"""``teramind import`` with all of its options, and what they make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.brain.layout import SLICE_SPACING
from napari_teramind.cli import run
from napari_teramind.jobs import ImportMerscopeSpec
from spoiling import World

BIN = 16 * 0.108


def imported(world: World, *argv: object) -> BrainStore:
    assert run(["import", *map(str, argv), "-o", str(world.out)]) == 0
    return open_brain(world.out)


@pytest.fixture
def images(world: World) -> list[object]:
    """Arguments that name a stain of 8 bits, one of 16, and counts of three genes."""
    dapi = world.image("dapi.zarr", (1, 2, 128, 128), 0.108)
    polyt = world.image("polyt.zarr", (1, 2, 128, 128), 0.108)
    ramp = np.arange(2 * 128 * 128, dtype=np.uint16).reshape(1, 2, 128, 128) + 1
    zarr.open_group(polyt, mode="r+").create_array("0", data=ramp, overwrite=True)
    genes = world.image("genes.zarr", (3, 2, 8, 8), BIN)
    return ["--stain", f"DAPI={dapi}", "--stain", f"PolyT={polyt}", "--genes", genes]


def test_omezarr_with_every_option(world: World, images: list[object]) -> None:
    tissue = world.image("tissue.zarr", (1, 2, 8, 8), BIN)
    mask = np.zeros((1, 2, 8, 8), np.uint8)
    mask[..., 2:5] = 1
    zarr.open_array(tissue / "0", mode="r+")[:] = mask
    brain = imported(
        world, "omezarr", *images, "--gene-list", world.panel("Th", "Mog", "Gad1"),
        "--tissue", tissue, "--slice-positions", "0,215.5", "--percentiles", "25", "75",
        "--name", "liver",
    )  # fmt: skip
    assert brain.name == "liver"
    assert brain.gene_names == ("Th", "Mog", "Gad1")
    assert brain.slice_positions.tolist() == [0, 215.5]
    assert brain.tissue is not None
    np.testing.assert_array_equal(np.asarray(brain.tissue.levels[0][:]), mask[0])
    # A quarter of the pixels is black, a quarter white.
    polyt = brain.read_stains((0, 128, 0, 128), (0, 2))[1]
    assert (polyt == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert (polyt == 255).mean() == pytest.approx(0.25, abs=0.01)


def test_omezarr_without_options(world: World, images: list[object]) -> None:
    brain = imported(world, "omezarr", *images)
    assert brain.name == "out"
    assert brain.gene_names == ("Gene0", "Gene1", "Gene2")
    assert brain.slice_positions.tolist() == [0, 100]
    assert brain.tissue is None


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--slice-positions", "0,here", "not a list of numbers"),
        ("--slice-positions", "0,1,2", "3"),
        ("--gene-list", "panel.csv", "1 genes are named"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    world: World,
    images: list[object],
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    words: str,
) -> None:
    given = world.panel("Th") if value == "panel.csv" else value
    argv = ["import", "omezarr", *images, option, given, "-o", world.out]
    assert run([str(argument) for argument in argv]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert not world.out.exists()


def test_regions_are_as_far_apart_as_slices_if_nobody_says() -> None:
    # Said again in the specification, which is read without numpy.
    assert ImportMerscopeSpec(regions=[Path()], out=Path()).region_spacing == SLICE_SPACING


def test_merscope_regions_have_a_name_and_a_distance(world: World) -> None:
    region = world.region()
    image = tifffile.imread(region / "images" / "mosaic_DAPI_z0.tif")
    for stain in ("DAPI", "PolyT"):
        tifffile.imwrite(region / "images" / f"mosaic_{stain}_z1.tif", image)
    regions: list[Path] = [region, region]
    brain = imported(
        world, "merscope", *regions, "--planes", "slices", "--region-spacing", "40",
        "--name", "two",
    )  # fmt: skip
    assert brain.name == "two"
    assert brain.slice_positions.tolist() == [0, 1.5, 40, 41.5]

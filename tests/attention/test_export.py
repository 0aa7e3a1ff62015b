"""Files for other programs, read again with tools that we did not write."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from ome_zarr_models.v05.image import Image
from skimage.io import imread

import napari_teramind as tm
from napari_teramind.atlas import read_annotation
from napari_teramind.attention import AttentionMaps, attention_to_store
from napari_teramind.attention.display import (
    displayed_attention,
    displayed_expression,
    smoothed,
)
from napari_teramind.brain import BrainStore
from napari_teramind.brain.export import export_image
from napari_teramind.cli import run
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind

PAIR = ("Nr4a2", "Th")
UM = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def brain(
    tiny_brain: BrainStore, tiny_network: TeraMind, tmp_path_factory: pytest.TempPathFactory
) -> BrainStore:
    """A brain with a result that begins at slice 1, bin (1, 2)."""
    folder = tmp_path_factory.mktemp("export") / "brain.zarr"
    shutil.copytree(tiny_brain.path, folder)
    brain = tm.open_brain(folder)
    attention_to_store(brain, tiny_network, "m", [PAIR], (16, 256, 32, 384), (1, 4))
    return brain


@pytest.fixture(scope="module")
def maps(brain: BrainStore, tiny_network: TeraMind) -> AttentionMaps:
    return tm.attention(brain, tiny_network, [PAIR], (16, 256, 32, 384), (1, 4))


def check_tiff(path: Path, brain: BrainStore) -> None:
    image = brain.attention["m"]
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        (series,) = file.series
        assert series.axes == "CZYX"
        assert len(series.levels) == len(image.levels) >= 2
        for ours, level in zip(image.levels, series.levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), np.asarray(ours))
            assert level.pages[0].is_tiled
        pixels = ElementTree.fromstring(file.ome_metadata).find(f".//{UM}Pixels")
        assert pixels is not None
        for axis, size in (("X", 1.728), ("Y", 1.728), ("Z", 100)):
            assert float(pixels.attrib[f"PhysicalSize{axis}"]) == pytest.approx(size)
            assert pixels.attrib[f"PhysicalSize{axis}Unit"] == "µm"
        names = [channel.attrib["Name"] for channel in pixels.findall(f"{UM}Channel")]
        assert names == [channel.name for channel in image.channels]
        plane = pixels.find(f"{UM}Plane")
        assert plane is not None
        assert float(plane.attrib["PositionX"]) == pytest.approx(image.translation()[-1])


def check_nifti(path: Path, brain: BrainStore) -> None:
    image = brain.attention["m"]
    volume = nibabel.load(path)
    data = np.asarray(volume.dataobj)
    np.testing.assert_array_equal(data.transpose(3, 2, 1, 0), np.asarray(image.levels[0]))
    assert volume.header.get_xyzt_units()[0] == "mm"
    assert nibabel.aff2axcodes(volume.affine) == ("R", "I", "P")
    z, y, x = image.translation()[-3:]
    expected = np.array([x, -z, -y]) / 1000
    np.testing.assert_allclose((volume.affine @ [0, 0, 0, 1])[:3], expected, atol=1e-6)
    step = (volume.affine @ [1, 1, 1, 1] - volume.affine @ [0, 0, 0, 1])[:3]
    np.testing.assert_allclose(step, [0.001728, -0.1, -0.001728], rtol=1e-5)
    np.testing.assert_allclose(volume.get_qform(), volume.affine, atol=1e-6)
    (names,) = volume.header.extensions
    assert names.get_content().decode().split("\n")[0] == image.channels[0].name


def test_ome_tiff(brain: BrainStore, tmp_path: Path) -> None:
    path = tmp_path / "map.ome.tif"
    assert run(["export", brain.path, "attention/m", "-o", str(path)]) == 0
    check_tiff(path, brain)


def test_nifti(brain: BrainStore, tmp_path: Path) -> None:
    path = tmp_path / "map.nii.gz"
    assert run(["export", brain.path, "attention/m", "-o", str(path)]) == 0
    check_nifti(path, brain)


def test_maps_in_memory_are_saved_alike(
    brain: BrainStore, maps: AttentionMaps, tmp_path: Path
) -> None:
    check_tiff(maps.save(tmp_path / "map.ome.tif"), brain)
    check_nifti(maps.save(tmp_path / "map.nii"), brain)
    path = maps.save(tmp_path / "map.zarr")
    group = zarr.open_group(path, mode="r")
    Image.from_zarr(group)
    stored = brain.attention["m"]
    for level, ours in enumerate(stored.levels):
        np.testing.assert_allclose(np.asarray(group[str(level)]), np.asarray(ours), rtol=1e-6)
    assert (
        group.attrs["ome"]["multiscales"][0]["datasets"]
        == (stored.attributes["ome"]["multiscales"][0]["datasets"])
    )
    with pytest.raises(UserError, match="exists already"):
        maps.save(path)
    maps.save(path, overwrite=True)
    with pytest.raises(UserError, match="no form"):
        maps.save(tmp_path / "map.jpg")
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "precious.txt").touch()
    with pytest.raises(UserError, match="not replaced"):
        maps.save(tmp_path / "mine.zarr", overwrite=True)
    assert (tmp_path / "mine.zarr" / "precious.txt").exists()


def test_one_channel_of_a_coarser_level(brain: BrainStore, tmp_path: Path) -> None:
    name, path = "Nr4a2-Th ensemble Th", tmp_path / "th.nii"
    command = ["export", brain.path, "attention/m", "-o", str(path), "--channel", name]
    assert run([*command, "--level", "1", "--slices", "1:3"]) == 0
    image = brain.attention["m"]
    index = [channel.name for channel in image.channels].index(name)
    data = np.asarray(nibabel.load(path).dataobj)
    expected = np.asarray(image.levels[1])[index, 1:3]
    np.testing.assert_array_equal(data.transpose(2, 1, 0), expected)
    affine = nibabel.load(path).affine
    assert affine[1, 3] * -1000 == pytest.approx(200)  # from the result's second slice on


def test_stains_and_genes_and_labels(brain: BrainStore, tmp_path: Path) -> None:
    export_image(brain.stains, tmp_path / "s.ome.tif")
    with tifffile.TiffFile(tmp_path / "s.ome.tif") as file:
        np.testing.assert_array_equal(file.series[0].asarray(), np.asarray(brain.stains.levels[0]))
        assert file.series[0].dtype == np.uint8
    export_image(brain.genes, tmp_path / "g.ome.tif", channels=["Th"])
    counts = np.asarray(brain.genes.levels[0])[brain.gene_names.index("Th")]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "g.ome.tif", level=0), counts)
    assert brain.structures is not None
    export_image(brain.structures, tmp_path / "atlas_2um.nii.gz")
    labels = np.asarray(brain.structures.levels[0])
    data = np.asarray(nibabel.load(tmp_path / "atlas_2um.nii.gz").dataobj)
    np.testing.assert_array_equal(data.transpose(2, 1, 0), labels)
    # What we read as an atlas comes back front to back, top to bottom, left to right.
    assert brain.structure_table is not None
    brain.structure_table.to_csv(tmp_path / "structures.csv", index=False)
    atlas = read_annotation(tmp_path / "atlas_2um.nii.gz")
    np.testing.assert_array_equal(atlas.annotation, labels)


def test_copy_as_ome_zarr(brain: BrainStore, tmp_path: Path) -> None:
    path = tmp_path / "copy.zarr"
    assert run(["export", brain.path, "attention/m", "-o", str(path)]) == 0
    group = zarr.open_group(path, mode="r")
    Image.from_zarr(group)
    np.testing.assert_array_equal(
        np.asarray(group["0"]), np.asarray(brain.attention["m"].levels[0])
    )
    assert group.attrs["teramind"]["provenance"]["pairs"] == [list(PAIR)]


def test_tables_and_figure(brain: BrainStore, tmp_path: Path) -> None:
    for name in ("t.csv", "t.parquet"):
        assert run(["export", brain.path, "attention/m", "-o", str(tmp_path / name)]) == 0
    read = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, na_values=[""])
    parquet = pd.read_parquet(tmp_path / "t.parquet")
    np.testing.assert_allclose(read["mean"], parquet["mean"])
    assert set(parquet["quantity"]) == {"attention", "A", "expression"}
    path = tmp_path / "f.png"
    assert run(["export", brain.path, "attention/m", "-o", str(path), "--map", "current-next"]) == 0
    image = imread(path)
    assert image.shape[0] > 800
    assert image[..., :3].std() > 20


def test_display_is_the_papers(maps: AttentionMaps) -> None:
    counts = np.stack([maps.expression(gene) for gene in PAIR])
    layer = maps.attention(PAIR)
    shown = displayed_attention(layer, counts, maps.genes)
    both = (counts[0] > 0) & (counts[1] > 0)
    assert (shown[~both] == 0).all()
    np.testing.assert_allclose(shown[both], np.log2(8 * layer.sum(0)[both] + 1), rtol=1e-6)
    np.testing.assert_allclose(displayed_expression(counts), np.log2(counts + 1))
    blurred = smoothed(shown)
    assert blurred.std() < shown.std()
    # Slices do not blur into one another.
    np.testing.assert_allclose(smoothed(shown[1:2])[0], blurred[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["attention/none", "-o", "x.ome.tif"], "no image 'attention/none'"),
        (["attention/none", "-o", "x.csv"], "no attention result 'none'"),
        (["stains", "-o", "x.csv"], "attention/<name>"),
        (["attention/m", "-o", "x.jpg"], "no form"),
        (["attention/m", "-o", "x.nii", "--channel", "Th"], "no channel 'Th'"),
        (["attention/m", "-o", "x.nii", "--level", "9"], "no level 9"),
        (["attention/m", "-o", "x.nii", "--slices", "2:9"], "Slices 2:9"),
        (["attention/m", "-o", "x.zarr", "--level", "1"], "whole image"),
        (["attention/m", "-o", "x.png", "--pair", "Gad1,Th"], "no pair Gad1-Th"),
        (["attention/m", "-o", "x.png", "--slice", "0"], "Slice 0"),
    ],
)
def test_bad_exports(
    brain: BrainStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", brain.path, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []

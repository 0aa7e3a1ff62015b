"""Layers saved by napari's own command, read again by libraries that we did not write."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import nibabel
import numpy as np
import pytest
import tifffile
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from npe2 import PluginManager

from napari_teramind.attention import attention_to_store, open_maps
from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind
from napari_teramind.plugin import writers
from napari_teramind.plugin.attention import View, attention_layer
from napari_teramind.plugin.layers import gene_layer, stain_layers, structure_layer

PLUGIN = "napari-teramind"
PAIR = ("Nr4a2", "Th")


@pytest.fixture(autouse=True)
def known_plugins() -> None:
    """Let napari know its plugins, as it does when a viewer is made."""
    PluginManager.instance().discover()


@pytest.fixture
def layers(tiny_brain: BrainStore) -> dict[str, Layer]:
    found = [*stain_layers(tiny_brain), gene_layer(tiny_brain, "Th"), structure_layer(tiny_brain)]
    return {meta["name"]: Layer.create(data, meta, kind) for data, meta, kind in found}


@pytest.fixture(scope="module")
def attended(
    tiny_brain: BrainStore, make_network: Callable[..., TeraMind], tmp_path_factory
) -> BrainStore:
    """A brain with an attention result."""
    path = shutil.copytree(tiny_brain.path, tmp_path_factory.mktemp("b") / "brain.zarr")
    network = make_network(genes=8, patch=64)
    network.gene_names = tiny_brain.gene_names[1:9]
    network.sha256 = "0" * 64
    attention_to_store(open_brain(path), network, "Nr4a2-Th", [PAIR])
    return open_brain(path)


def test_a_stain_is_written_with_all_its_levels(layers, tiny_brain, tiny_arrays, tmp_path):
    (path,) = layers["DAPI"].save(str(tmp_path / "dapi.ome.tif"), plugin=PLUGIN)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        series = file.series[0]
        assert len(series.levels) == len(tiny_brain.stains.levels)
        np.testing.assert_array_equal(series.asarray().squeeze(), tiny_arrays[0][0])
        assert 'PhysicalSizeX="0.108"' in file.ome_metadata
        assert 'Name="DAPI"' in file.ome_metadata


def test_a_gene_is_written_as_counts_at_its_own_size(layers, tiny_arrays, tmp_path):
    (path,) = layers["Th"].save(str(tmp_path / "th.nii.gz"), plugin=PLUGIN)
    image = nibabel.load(path)
    np.testing.assert_array_equal(image.get_fdata().transpose(2, 1, 0), tiny_arrays[1][4])
    np.testing.assert_allclose(image.header.get_zooms(), (0.001728, 0.001728, 0.1), rtol=1e-6)


def test_structures_are_written_with_the_atlas_ids(layers, tiny_arrays, tmp_path):
    (path,) = layers["structures"].save(str(tmp_path / "s.ome.tif"), plugin=PLUGIN)
    np.testing.assert_array_equal(tifffile.imread(path), tiny_arrays[2])


def test_stains_become_the_channels_of_one_file(make_napari_viewer, tiny_brain, tmp_path):
    viewer = make_napari_viewer()
    for layer in stain_layers(tiny_brain):
        viewer.add_layer(Layer.create(*layer))
    (path,) = viewer.layers.save(str(tmp_path / "both.ome.tif"), plugin=PLUGIN)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].shape == (2, 4, 256, 384)
        assert file.ome_metadata.index('Name="DAPI"') < file.ome_metadata.index('Name="PolyT"')


def test_attention_is_written_as_stored_not_as_shown(attended, tmp_path):
    maps = open_maps(attended, "Nr4a2-Th")
    stored = np.asarray(maps.image.levels[0])
    names = [channel.name for channel in maps.channels]
    data, meta, kind = attention_layer(attended, maps, View(PAIR, "ensemble", "attention"))
    (path,) = Layer.create(data, meta, kind).save(str(tmp_path / "a.ome.tif"), plugin=PLUGIN)
    expected = [names.index(f"Nr4a2-Th ensemble {gene}") for gene in PAIR]
    np.testing.assert_array_equal(tifffile.imread(path), stored[expected])
    data, meta, kind = attention_layer(attended, maps, View(PAIR, "ensemble", "b"))
    (path,) = Layer.create(data, meta, kind).save(str(tmp_path / "b.nii"), plugin=PLUGIN)
    counts = nibabel.load(path).get_fdata().transpose(2, 1, 0)
    np.testing.assert_array_equal(counts, stored[names.index("Th expression")])


def test_layers_of_others_are_written_as_they_lie(tmp_path):
    data = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    meta = {"name": "mine", "scale": (5, 2, 2), "translate": (10, 20, 30), "metadata": {}}
    layer = Layer.create(data, meta, "image")
    (path,) = layer.save(str(tmp_path / "mine.nii"), plugin=PLUGIN)
    image = nibabel.load(path)
    np.testing.assert_array_equal(image.get_fdata().transpose(2, 1, 0), data)
    # To the right, to the front and up, in millimeters.
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [0.03, -0.01, -0.02, 1])
    np.testing.assert_allclose(image.affine @ [1, 1, 1, 1], [0.032, -0.015, -0.022, 1])
    flat = Layer.create(np.eye(5, dtype=bool), {"name": "plane"}, "labels")
    (path,) = flat.save(str(tmp_path / "plane.ome.tif"), plugin=PLUGIN)
    np.testing.assert_array_equal(tifffile.imread(path), np.eye(5))


@pytest.mark.parametrize(
    ("data", "meta", "words"),
    [
        (np.zeros((2, 3, 4, 5)), {}, "neither a plane nor a volume"),
        (np.zeros((8, 8, 3), np.uint8), {"rgb": True}, "neither a plane nor a volume"),
        (np.zeros((8, 8)), {"rotate": 30}, "turned or sheared"),
        (np.zeros((8, 8)), {"shear": [0.3]}, "turned or sheared"),
        (np.zeros((8, 8)), {"affine": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}, "turned or sheared"),
        (np.zeros((8, 8)), {"affine": np.diag([-1, 1, 1])}, "turned or sheared"),
    ],
)
def test_what_a_file_cannot_say_is_told(tmp_path, data, meta, words):
    layer = Layer.create(data, {"name": "odd", **meta}, "image")
    with pytest.raises(UserError, match=words):
        layer.save(str(tmp_path / "odd.ome.tif"), plugin=PLUGIN)
    assert list(tmp_path.iterdir()) == []


def test_a_place_said_by_a_matrix_is_written(tmp_path):
    layer = Layer.create(
        np.zeros((3, 8, 8), np.uint8),
        {
            "name": "placed",
            "scale": (10, 2, 2),
            "translate": (5, 1, 3),
            "affine": [[2, 0, 0, 0], [0, 0.5, 0, 7], [0, 0, 0.5, 9], [0, 0, 0, 1]],
        },
        "image",
    )
    path = tmp_path / "placed.nii.gz"
    assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    written = nibabel.load(path).affine
    expected = [layer.data_to_world(corner) for corner in ((0, 0, 0), (2, 5, 7))]
    for corner, world in zip(((0, 0, 0), (7, 5, 2)), expected, strict=True):
        x, z, y = np.abs((written @ (*corner, 1))[:3]) * 1000
        np.testing.assert_allclose((z, y, x), world)


def test_too_large_a_layer_is_told_in_a_notification(
    layers, make_napari_viewer, monkeypatch, tmp_path
):
    monkeypatch.setattr(writers, "MOST_BYTES", 1000)
    viewer = make_napari_viewer()
    viewer.add_layer(layers["DAPI"])
    assert viewer.layers.save(str(tmp_path / "dapi.ome.tif"), plugin=PLUGIN) == []
    assert "use 'teramind export'" in notification_manager.records[-1].message


def test_layers_of_different_grids_are_told(layers, tmp_path):
    shown = [layers[name].as_layer_data_tuple() for name in ("DAPI", "Th")]
    with pytest.raises(UserError, match="do not lie on one grid"):
        writers.write_layers(str(tmp_path / "x.ome.tif"), shown)

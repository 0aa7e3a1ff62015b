"""Layers lie where they should, at every level, and look as they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_teramind.brain import BrainStore, BrainWriter, LabelInfo, open_brain
from napari_teramind.plugin.layers import (
    GENE_COLORS,
    MOST_RESULTS,
    brain_layers,
    gene_layer,
    simulation_layers,
    tag_of,
)
from napari_teramind.plugin.looks import structure_names
from simulations import keep_simulation

PIXEL = 0.108


def made(brain: BrainStore) -> dict[str, Layer]:
    """Make napari's layers of a brain, by name."""
    layers = [Layer.create(*layer) for layer in brain_layers(brain)]
    return {layer.name: layer for layer in layers}


def test_names_order_and_looks(tiny_brain: BrainStore):
    layers = made(tiny_brain)
    assert list(layers) == ["DAPI", "PolyT", "structures"]
    for layer in layers.values():
        assert [f"{u:~}" for u in layer.units] == ["µm"] * 3
        assert layer.axis_labels == ("z", "y", "x")
        assert tag_of(layer)["brain"] == str(Path(tiny_brain.path).resolve())
    images = [layer for layer in layers.values() if isinstance(layer, Image)]
    assert {layer.blending for layer in images} == {"additive"}
    assert [layer.visible for layer in images] == [True, True]
    np.testing.assert_allclose(layers["DAPI"].colormap.colors[-1], [0, 0, 1, 1])
    np.testing.assert_allclose(layers["PolyT"].colormap.colors[-1], [1, 128 / 255, 0, 1], atol=0.01)
    for layer, channel in zip(images[:2], tiny_brain.stains.channels, strict=True):
        assert tuple(layer.contrast_limits) == channel.window


def test_structures_have_the_atlas_colours_and_names(tiny_brain: BrainStore, tiny_arrays):
    layer = made(tiny_brain)["structures"]
    assert isinstance(layer, Labels)
    ids = dict(zip(layer.features["index"], layer.features["id"], strict=True))
    for row in tiny_brain.structure_table.itertuples():
        (label,) = (number for number, id_ in ids.items() if id_ == row.id)
        expected = [int(row.color_hex[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        np.testing.assert_allclose(layer.get_color(label)[:3], expected, atol=1e-3)
        both = f"{row.acronym} - {row.name}"  # "root - root" says nothing twice
        assert structure_names(layer)[label] == (row.name if row.acronym == row.name else both)
    assert layer.get_color(0) is None  # transparent
    shown = np.asarray(layer.data[-1])
    np.testing.assert_array_equal(np.vectorize({0: 0, **ids}.get)(shown), tiny_arrays[2])


def test_large_and_unlisted_atlas_ids_are_drawn(tmp_path: Path):
    rows = [
        {"id": i, "acronym": str(i), "name": str(i), "color_hex": color, "parent_id": None}
        for i, color in [(614454277, "FF0000"), (8, "00FF00"), (312782546, None)]
    ]
    labels = np.array([[614454277, 8, 312782546, 0, 5]], np.uint32)
    with BrainWriter.create(
        tmp_path / "ids.zarr",
        name="ids",
        shape=(1, 16, 80),
        genes=["Th"],
        labels={"structures": LabelInfo(16, rows)},
    ) as writer:
        writer.write_label("structures", 0, labels)
    layer = made(open_brain(tmp_path / "ids.zarr"))["structures"]
    numbers = np.asarray(layer.data[-1])[0, 0]
    assert numbers.tolist() == [3, 1, 2, 0, 4]
    colors = layer.colormap.map(numbers)
    np.testing.assert_allclose(colors[:2, :3], [[1, 0, 0], [0, 1, 0]], atol=1e-3)
    np.testing.assert_allclose(colors[[2, 4], :3], 0.5, atol=0.01)
    assert structure_names(layer)[4] == "? - not in the atlas"


def test_a_brain_without_structures_opens(tmp_path: Path):
    with BrainWriter.create(
        tmp_path / "bare.zarr", name="bare", shape=(1, 64, 64), genes=["A", "B"]
    ) as writer:
        writer.write_stains(0, 0, 0, np.ones((2, 64, 64), np.uint8))
    assert list(made(open_brain(tmp_path / "bare.zarr"))) == ["DAPI", "PolyT"]


def test_opening_reads_no_pixels(tiny_brain: BrainStore, monkeypatch: pytest.MonkeyPatch):
    import zarr

    read: list[str] = []
    original = zarr.Array.__getitem__

    def counted(self: zarr.Array, key: object) -> object:
        read.append(self.path)
        return original(self, key)

    monkeypatch.setattr(zarr.Array, "__getitem__", counted)
    brain_layers(open_brain(tiny_brain.path))
    assert read == []
    gene_layer(tiny_brain, "Th")  # whose contrast depends on its values
    assert read
    assert all(path.startswith("genes/") for path in read)


def test_a_brain_of_many_results_opens_without_them(brain_copy: Path):
    brain = open_brain(brain_copy)
    image = np.zeros((2, 1, 64, 64), np.uint8)
    for n in range(MOST_RESULTS + 1):
        assert len(made(open_brain(brain_copy))) == 3 + 2 * n
        keep_simulation(
            brain, f"r{n}", image, roi=(0, 64, 0, 64), slices=(0, 1), provenance={"seed": n}
        )
    assert len(made(open_brain(brain_copy))) == 3


def test_a_gene_has_a_colour_of_its_own_and_a_contrast_that_shows_it(tiny_brain: BrainStore):
    _, meta, kind = gene_layer(tiny_brain, "Th")
    assert kind == "image"
    assert meta["colormap"] in GENE_COLORS
    low, high = meta["contrast_limits"]
    assert low == 0
    assert 1 <= high <= 6  # counts are Poisson of mean 0.7
    data = gene_layer(tiny_brain, "Th", "#123456")[0]
    np.testing.assert_array_equal(
        np.asarray(data), tiny_brain.read_genes((0, 16, 0, 24), (0, 4), ["Th"])[0]
    )


def test_a_result_shares_place_colours_and_contrast_with_the_stain(brain_copy: Path):
    brain = open_brain(brain_copy)
    image = np.full((2, 2, 70, 90), 200, np.uint8)
    keep_simulation(
        brain, "one", image, roi=(33, 103, 45, 135), slices=(1, 3), provenance={"seed": 7}
    )
    dapi, polyt = (Layer.create(*layer) for layer in simulation_layers(brain, "one"))
    assert [dapi.name, polyt.name] == ["DAPI (generated, seed 7)", "PolyT (generated, seed 7)"]
    real = made(brain)
    assert dapi.colormap.name == real["DAPI"].colormap.name
    assert dapi.contrast_limits == real["DAPI"].contrast_limits
    np.testing.assert_allclose(
        dapi.data_to_world((0, 0, 0)), real["DAPI"].data_to_world((1, 33, 45))
    )
    # The lower one covers the real stains, the upper one adds to it.
    assert [dapi.blending, polyt.blending] == ["translucent_no_depth", "additive"]
    assert not real["DAPI (generated, seed 7)"].visible


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> tuple[BrainStore, list[tuple[int, int]]]:
    """A brain whose nuclei, transcripts and structures are the same few squares of 64 px."""
    height, width = 2100, 3333  # multiples of nothing
    bins = -(-height // 16), -(-width // 16)
    places = [(160, 320), (1024, 1600), (1920, 3200)]
    stains = np.zeros((2, height, width), np.uint8)
    genes = np.zeros((1, *bins))
    labels = np.zeros(bins, np.uint32)
    for y, x in places:
        stains[:, y : y + 64, x : x + 64] = 250
        box = (slice(y // 16, y // 16 + 4), slice(x // 16, x // 16 + 4))
        genes[(0, *box)] = 3
        labels[box] = 5
    row = {"id": 5, "acronym": "P", "name": "Place", "color_hex": "00FF00", "parent_id": None}
    path = tmp_path_factory.mktemp("pattern") / "pattern.zarr"
    with BrainWriter.create(
        path,
        name="pattern",
        shape=(2, height, width),
        genes=["Th"],
        slice_positions=[50.0, 150.0],
        labels={"structures": LabelInfo(16, [row])},
    ) as writer:
        for z in range(2):
            writer.write_stains(z, 0, 0, stains)
            writer.write_genes(z, 0, 0, genes)
            writer.write_label("structures", z, labels)
    return open_brain(path), places


@pytest.mark.parametrize("name", ["DAPI", "Th", "structures"])
def test_everything_lies_on_one_another_within_a_bin_at_every_level(name: str, pattern):
    brain, places = pattern
    layer = Layer.create(*gene_layer(brain, "Th")) if name == "Th" else made(brain)[name]
    levels = list(layer.data) if layer.multiscale else [layer.data]
    assert len(levels) == {"DAPI": 4, "Th": 1, "structures": 5}[name]
    for factor, level in zip(layer.downsample_factors, levels, strict=True):
        image = np.asarray(level[1]) > 0
        # Where napari puts pixel i of a level: factor i + (factor - 1) / 2 in the finest one.
        ys, xs = (
            (factor[a] * np.arange(level.shape[a]) + (factor[a] - 1) / 2) * layer.scale[a]
            + layer.translate[a]
            for a in (1, 2)
        )
        for y, x in places:
            centre = np.array([y + 31.5, x + 31.5]) * PIXEL
            near = np.ix_(np.abs(ys - centre[0]) < 10, np.abs(xs - centre[1]) < 10)
            rows, columns = np.nonzero(image[near])
            found = [ys[near[0][:, 0]][rows].mean(), xs[near[1][0]][columns].mean()]
            np.testing.assert_allclose(found, centre, atol=16 * PIXEL)
    np.testing.assert_allclose(layer.data_to_world((1, 0, 0))[0], 150)

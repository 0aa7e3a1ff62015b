"""The store as tools see it that we did not write."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import ome_zarr_models.v05
import pytest
import zarr
from napari_ome_zarr import napari_get_reader

from napari_teramind.brain import BrainWriter, LabelInfo, open_brain
from simulations import keep_simulation


@pytest.fixture
def brain_with_simulation(tiny_brain, tmp_path):
    path = tmp_path / "brain.zarr"
    shutil.copytree(tiny_brain.path, path)
    brain = open_brain(path)
    image = np.full((2, 2, 160, 200), 77, np.uint8)
    keep_simulation(
        brain, "seed 0", image, roi=(32, 192, 48, 248), slices=(1, 3), provenance={"seed": 0}
    )
    return brain


@pytest.mark.parametrize("image", ["stains", "genes", "simulations/seed 0"])
def test_images_validate(brain_with_simulation, image):
    group = zarr.open_group(f"{brain_with_simulation.path}/{image}", mode="r")
    model = ome_zarr_models.v05.Image.from_zarr(group)
    assert model.ome_attributes.version == "0.5"
    assert [axis.unit for axis in model.ome_attributes.multiscales[0].axes[1:]] == [
        "micrometer"
    ] * 3


@pytest.mark.parametrize("label", ["structures", "tissue"])
def test_labels_validate(tiny_brain, label):
    group = zarr.open_group(f"{tiny_brain.path}/stains/labels/{label}", mode="r")
    ome_zarr_models.v05.ImageLabel.from_zarr(group)
    listing = zarr.open_group(f"{tiny_brain.path}/stains/labels", mode="r")
    assert label in ome_zarr_models.v05.Labels.from_zarr(listing).ome_attributes.labels


@pytest.mark.parametrize("image", ["stains", "genes", "simulations/seed 0"])
def test_napari_ome_zarr_opens_the_images(brain_with_simulation, image):
    path = f"{brain_with_simulation.path}/{image}"
    ours = {
        "stains": brain_with_simulation.stains,
        "genes": brain_with_simulation.genes,
        "simulations/seed 0": brain_with_simulation.simulations["seed 0"],
    }[image]
    data, meta, kind = napari_get_reader(path)(path)[0]
    assert kind == "image"
    assert [level.shape for level in data] == [level.shape for level in ours.levels]
    assert np.array_equal(np.asarray(data[0]), ours.levels[0][:])
    assert meta["scale"] == pytest.approx(ours.scale()[1:])
    assert meta["units"] == ("micrometer",) * 3
    assert [name.split(": ")[-1] for name in meta["name"]] == [c.name for c in ours.channels]


def test_napari_ome_zarr_opens_the_labels_with_the_stains(tiny_brain):
    path = f"{tiny_brain.path}/stains"
    labels = [layer for layer in napari_get_reader(path)(path) if layer[2] == "labels"]
    assert len(labels) == 2
    data, meta, _ = labels[0]
    assert np.array_equal(np.asarray(data[0]), tiny_brain.structures.levels[0][:])
    assert meta["scale"] == pytest.approx(tiny_brain.structures.scale())


def test_array_layout(tiny_brain):
    document = json.loads(Path(tiny_brain.path, "genes", "0", "zarr.json").read_text())
    assert document["dimension_names"] == list("czyx")
    shard = document["chunk_grid"]["configuration"]["chunk_shape"]
    assert shard[:2] == [12, 1]
    codec = document["codecs"][0]
    assert codec["name"] == "sharding_indexed"
    # One gene is read without the others, and one slice without its neighbours.
    assert codec["configuration"]["chunk_shape"][:2] == [1, 1]


def test_a_whole_brain_is_made_sparsely_and_opens_at_once(tmp_path):
    """The size of the published animals: 50 slices of 73,216 x 105,984 px, 229 genes."""
    path = tmp_path / "whole.zarr"
    labels = {"structures": LabelInfo(16), "tissue": LabelInfo(16)}
    genes = [f"Gene{i}" for i in range(229)]
    with BrainWriter.create(
        path, name="whole", shape=(50, 73_216, 105_984), genes=genes, labels=labels
    ) as writer:
        row, column = 8 * writer.gene_tile, 12 * writer.gene_tile
        counts = np.zeros((229, writer.gene_tile, writer.gene_tile), np.uint8)
        counts[7, 3, 4] = 5
        writer.write_genes(25, row, column, counts)
    start = time.perf_counter()
    brain = open_brain(path)
    assert brain.stains.shape == (2, 50, 73_216, 105_984)
    assert len(brain.gene_names) == 229
    assert time.perf_counter() - start < 2
    b, c = row + 3, column + 4
    assert brain.read_genes((b, b + 1, c, c + 1), (25, 26), ["Gene7"]) == 5
    coarsest = len(brain.genes.levels) - 1
    place = b >> coarsest, c >> coarsest
    assert brain.genes.levels[-1][7, 25, place[0], place[1]] == np.float16(5 / 4**coarsest)
    assert not brain.read_stains((40_000, 40_100, 50_000, 50_100), (25, 26)).any()
    assert brain.table("gene_totals")["total"].sum() == 5

"""Where levels lie, and what is in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_teramind.brain import BrainWriter, open_brain
from napari_teramind.brain.layout import Placement, level_shape, n_levels
from napari_teramind.brain.pyramid import majority_halve, mean_halve


@given(
    factor=st.integers(1, 32),
    level=st.integers(0, 6),
    index=st.integers(0, 1000),
    corner=st.integers(0, 5000),
)
def test_a_pixel_lies_at_the_mean_of_the_pixels_it_stands_for(factor, level, index, corner):
    placement = Placement(0.108, factor, corner=(corner, 0))
    n = factor * 2**level
    centre = np.mean([(corner + index * n + i) * 0.108 for i in range(n)])
    _, scale, _ = placement.scale(level)
    _, origin, _ = placement.translation(level)
    assert origin + index * scale == pytest.approx(centre, rel=1e-9, abs=1e-9)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_halving_against_a_plain_loop(height, width, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width), dtype=np.uint8)
    labels = rng.integers(0, 3, (height, width), dtype=np.uint32) * 70_000
    means, ids = mean_halve(image), majority_halve(labels)
    for y in range(means.shape[0]):
        for x in range(means.shape[1]):
            # An odd edge repeats its last pixels, which leaves means and majorities as they are.
            block = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert means[y, x] == np.floor(image[block].mean() + 0.5)
            values, counts = np.unique(labels[block], return_counts=True)
            assert ids[y, x] in values[counts == counts.max()]


def test_genes_coarser_levels_are_means(tiny_brain, tiny_arrays):
    _, genes, _ = tiny_arrays
    levels = tiny_brain.genes.levels
    assert len(levels) >= 2
    for k, level in enumerate(levels):
        n = 2**k
        z, b, c = genes.shape[1:]
        expected = genes.reshape(-1, z, b // n, n, c // n, n).mean(axis=(3, 5))
        assert level.dtype == np.float16
        assert np.allclose(level[:], expected, rtol=2e-3)


def test_stains_and_labels_have_equally_many_levels(tiny_brain):
    n = len(tiny_brain.stains.levels)
    assert n >= 3
    assert len(tiny_brain.structures.levels) == n
    assert len(tiny_brain.tissue.levels) == n


def test_labels_keep_their_ids_at_every_level(tiny_brain):
    for level in tiny_brain.structures.levels:
        assert level.dtype == np.uint32
        assert set(np.unique(level[:])) <= {0, 672, 549}


def test_scale_and_translation_in_the_files(tiny_brain):
    for image, factor in (
        (tiny_brain.stains, 1),
        (tiny_brain.genes, 16),
        (tiny_brain.structures, 16),
    ):
        lead = image.axes.index("z")
        for level in range(len(image.levels)):
            n = factor * 2**level
            assert image.scale(level)[lead:] == pytest.approx((100.0, n * 0.108, n * 0.108))
            inset = (n - 1) / 2 * 0.108
            assert image.translation(level)[lead:] == pytest.approx((0.0, inset, inset))
    assert list(tiny_brain.slice_positions) == [0.0, 100.0, 200.0, 320.0]


def test_a_point_is_at_one_place_in_all_images_and_levels(tmp_path):
    """A bright square and the transcripts in it, far from the corner, across shard borders."""
    y, x, side = 1024 + 320, 768, 64
    shape = (1, 2048, 1536)
    image = np.zeros((2, *shape[1:]), np.uint8)
    image[:, y : y + side, x : x + side] = 200
    counts = np.zeros((1, shape[1] // 16, shape[2] // 16))
    counts[0, y // 16 : (y + side) // 16, x // 16 : (x + side) // 16] = 3
    with BrainWriter.create(tmp_path / "b.zarr", name="b", shape=shape, genes=["Th"]) as writer:
        writer.write_stains(0, 0, 0, image)
        writer.write_genes(0, 0, 0, counts)
    brain = open_brain(tmp_path / "b.zarr")
    centre = np.array([y + (side - 1) / 2, x + (side - 1) / 2]) * 0.108
    for multiscale in (brain.stains, brain.genes):
        for level, array in enumerate(multiscale.levels):
            plane = np.asarray(array[0, 0], dtype=float)
            found = (np.indices(plane.shape) * plane).sum(axis=(1, 2)) / plane.sum()
            world = found * multiscale.scale(level)[2:] + multiscale.translation(level)[2:]
            assert world == pytest.approx(centre, abs=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "levels"),
    [(16, 16, 1), (127, 100, 1), (128, 128, 2), (512, 512, 3), (4096, 100, 4), (73216, 105984, 9)],
)
def test_number_of_levels(height, width, levels):
    assert n_levels(height, width) == levels
    assert max(level_shape(height, width, levels - 1)) <= 512


def test_large_images_are_written_shard_by_shard(tmp_path, monkeypatch):
    """Many tiles in any order give the same pyramid as one piece, and every shard is set once."""
    from napari_teramind.brain import layout

    monkeypatch.setattr(layout, "STAIN_CHUNK", 32)
    monkeypatch.setattr(layout, "STAIN_TILE", 64)
    monkeypatch.setattr(layout, "GENE_CHUNK", 4)
    monkeypatch.setattr(layout, "GENE_TILE", 4)
    rng = np.random.default_rng(3)
    shape = (2, 600, 230)
    image = rng.integers(1, 256, (2, 2, 600, 230), dtype=np.uint8)
    counts = rng.poisson(3.0, (5, 2, 38, 15))
    writes = _count_sets(monkeypatch)
    with BrainWriter.create(
        tmp_path / "b.zarr", name="b", shape=shape, genes=list("abcde")
    ) as writer:
        assert (writer.tile, writer.gene_tile) == (64, 4)
        corners = [(z, y, x) for z in (0, 1) for y in range(0, 600, 64) for x in (0, 64, 128)]
        for i in rng.permutation(len(corners)):
            z, y, x = corners[i]
            end = 230 if x == 128 else x + 64
            writer.write_stains(z, y, x, image[:, z, y : y + 64, x:end])
        for z in (0, 1):
            writer.write_genes(z, 0, 0, counts[:, z])
    shards = [path for path in writes if "/c/" in path]
    assert len(shards) == len(set(shards))
    brain = open_brain(tmp_path / "b.zarr")
    expected = image
    for level in brain.stains.levels:
        assert np.array_equal(level[:], expected)
        expected = mean_halve(expected)
    assert np.array_equal(brain.read_genes((0, 38, 0, 15), (0, 2)), counts)
    means = counts.astype(np.float16)
    for level in brain.genes.levels:
        assert np.array_equal(level[:], means)
        means = mean_halve(means)


def _count_sets(monkeypatch) -> list[str]:
    from zarr.storage import LocalStore

    writes: list[str] = []
    original = LocalStore.set

    async def counted(self, key, value):
        writes.append(f"{self.root}/{key}")
        await original(self, key, value)

    monkeypatch.setattr(LocalStore, "set", counted)
    return writes

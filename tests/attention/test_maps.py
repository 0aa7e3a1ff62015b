"""Maps of pairs against the published numbers, the full softmax and one another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_teramind as tm
from napari_teramind.attention import AttentionMaps
from napari_teramind.attention.counts import PatchGrid, SparseCounts, gather_tokens
from napari_teramind.attention.pairs import window
from napari_teramind.attention.rows import pair_entries
from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind

PAIR = ("Nr4a2", "Th")


@pytest.fixture(scope="module")
def whole(tiny_brain: BrainStore, tiny_network: TeraMind) -> AttentionMaps:
    return tm.attention(tiny_brain, tiny_network, [PAIR, ("Gad1", "Th")])


@pytest.fixture(scope="module")
def field(
    make_brain: Callable[..., BrainStore],
    parity: dict[str, torch.Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> BrainStore:
    """A brain in which the parity set's genes lie on whole shifted patches, in slices 1 to 4."""
    counts = np.zeros((12, 6, 16, 16), np.float32)
    counts[:, 1:5, 2:14, 2:14] = parity["eps.genes"][0].numpy()
    path = tmp_path_factory.mktemp("parity") / "brain.zarr"
    return make_brain(path, counts, [f"g{i}" for i in range(12)])


@pytest.mark.filterwarnings("ignore:The checkpoint names no genes")
def test_the_published_layer(
    field: BrainStore, published: TeraMind, parity: dict[str, torch.Tensor]
) -> None:
    expected = parity["attention.pair_1_3"][0].numpy()
    maps = tm.attention(field, published, [("g1", "g3")], (32, 224, 32, 224), (2, 4))
    assert maps.data.shape[1:] == (2, 12, 12)
    for k, name in enumerate(("previous-current", "current-next", "ensemble")):
        found = maps.attention(("g1", "g3"), name)
        np.testing.assert_allclose(found.swapaxes(0, 1), expected[:, 2 * k : 2 * k + 2], atol=1e-4)
    for k, gene in enumerate(("g1", "g3")):
        np.testing.assert_array_equal(maps.expression(gene), expected[:, 6 + k])


def test_the_published_maps(
    field: BrainStore, published: TeraMind, parity: dict[str, torch.Tensor]
) -> None:
    expected = parity["attention.maps"].numpy()
    grid = PatchGrid((2, 14, 2, 14), 4)
    counts = SparseCounts(field, field.gene_names)
    tokens = gather_tokens(counts, grid, range(1, 5), 12, np.ones(9, bool))
    windows = [(0, 1), (1, 2), (2, 3), (0, 1, 2, 3)]
    pairs = [(a, b) for a in range(12) for b in range(a + 1, 12)]
    found = pair_entries(published, tokens, pairs, windows)[..., :6]
    for k, (a, b) in enumerate(pairs):
        block = expected[:, :, [a, b]][:, :, :, [a, b]]
        np.testing.assert_allclose(found[:, k], block.transpose(0, 2, 3, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("gene_slices", "patch"), [(1, 32), (1, 64), (4, 32), (4, 64), (4, 128), (8, 64), (16, 32)]
)
def test_rows_equal_the_full_softmax(
    tiny_brain: BrainStore,
    make_network: Callable[..., TeraMind],
    gene_slices: int,
    patch: int,
) -> None:
    network = make_network(genes=12, gene_slices=gene_slices, patch=patch, seed=gene_slices)
    c = network.config
    grid = PatchGrid((3, 16, 0, 21), c.bins)
    rows, columns = grid.shape
    start = -c.gene_margin
    slices = range(start, start + gene_slices)
    tokens = gather_tokens(
        SparseCounts(tiny_brain, tiny_brain.gene_names),
        grid,
        slices,
        12,
        np.ones(grid.shape, bool).ravel(),
    )
    windows = list({window("ensemble", 0, gene_slices), (gene_slices - 1,)})
    pairs = [(0, 5), (5, 7), (11, 2)]
    found = pair_entries(network, tokens, pairs, windows)
    g = torch.from_numpy(tiny_brain.read_genes(grid.covered, (slices.start, slices.stop)))
    _, patches = network.cut_field(
        torch.zeros(1, 2, c.image_slices, rows * patch, columns * patch), g[None]
    )
    for w, seen in enumerate(windows):
        keep = torch.zeros(gene_slices)
        keep[list(seen)] = 1
        with torch.inference_mode():
            full = network.gene_gene_attention(patches * keep[:, None, None]).numpy()
        for k, (a, b) in enumerate(pairs):
            block = full[:, [a, b]][:, :, [a, b]].transpose(1, 2, 0)
            np.testing.assert_allclose(found[w, k], block, atol=2e-6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    y=st.integers(0, 250), x=st.integers(0, 380), z=st.integers(0, 3),
    height=st.integers(1, 200), width=st.integers(1, 200), depth=st.integers(1, 4),
)  # fmt: skip
def test_a_region_equals_the_crop_of_the_whole(
    tiny_brain: BrainStore, tiny_network: TeraMind, whole: AttentionMaps,
    y: int, x: int, z: int, height: int, width: int, depth: int,
) -> None:  # fmt: skip
    y1, x1, z1 = min(y + height, 256), min(x + width, 384), min(z + depth, 4)
    pairs = [PAIR, ("Gad1", "Th")]
    part = tm.attention(tiny_brain, tiny_network, pairs, (y, y1, x, x1), (z, z1))
    bins = (slice(y // 16, -(-y1 // 16)), slice(x // 16, -(-x1 // 16)))
    np.testing.assert_allclose(part.data, whole.data[(slice(None), slice(z, z1), *bins)], atol=1e-6)
    np.testing.assert_allclose(part.y_um, whole.y_um[bins[0]])
    np.testing.assert_allclose(part.x_um, whole.x_um[bins[1]])
    np.testing.assert_array_equal(part.z_um, tiny_brain.slice_positions[z:z1])


def test_the_layer_is_a_times_counts(whole: AttentionMaps) -> None:
    for pair in whole.pairs:
        counts = np.stack([whole.expression(gene) for gene in pair])
        for name in whole.maps:
            expected = np.einsum("ijzyx,jzyx->izyx", whole.alone(pair, name), counts)
            np.testing.assert_allclose(whole.attention(pair, name), expected, atol=1e-6)


def test_names_and_coordinates(whole: AttentionMaps, tiny_brain: BrainStore) -> None:
    assert list(whole)[:6] == [
        "Nr4a2-Th previous-current Nr4a2",
        "Nr4a2-Th previous-current Th",
        "Nr4a2-Th previous-current A Nr4a2>Nr4a2",
        "Nr4a2-Th previous-current A Nr4a2>Th",
        "Nr4a2-Th previous-current A Th>Nr4a2",
        "Nr4a2-Th previous-current A Th>Th",
    ]
    assert list(whole)[-3:] == ["Nr4a2 expression", "Th expression", "Gad1 expression"]
    counts = tiny_brain.read_genes((0, 16, 0, 24), (0, 4), ["Th"])[0]
    np.testing.assert_array_equal(whole["Th expression"], counts)
    assert whole.y_um[0] == pytest.approx(7.5 * 0.108)
    assert whole.placement.translation(0) == pytest.approx((0, whole.y_um[0], whole.x_um[0]))
    with pytest.raises(KeyError):
        whole["Th"]


def test_the_middle_window_is_shared(whole: AttentionMaps) -> None:
    """Slices (1, 2) are current-next for the first slice of a group, previous-current for the
    second: A alone is the same there."""
    first = whole.alone(PAIR, "current-next")[:, :, 0]
    second = whole.alone(PAIR, "previous-current")[:, :, 1]
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, whole.alone(PAIR, "ensemble")[:, :, 0])


def test_other_gene_windows_have_the_ensemble_only(
    tiny_brain: BrainStore, make_network: Callable[..., TeraMind]
) -> None:
    network = make_network(genes=12, gene_slices=1, patch=32)
    network.gene_names = tiny_brain.gene_names
    assert tm.attention(tiny_brain, network, [PAIR]).maps == ["ensemble"]
    with pytest.raises(UserError, match="4 gene slices"):
        tm.attention(tiny_brain, network, [PAIR], maps=["current-next"])


def test_patches_without_counts_are_uniform(
    make_brain: Callable[..., BrainStore], make_network: Callable[..., TeraMind], tmp_path: Path
) -> None:
    counts = np.zeros((4, 2, 16, 16), np.float32)
    counts[1, 0, 1, 1] = 3
    brain = make_brain(tmp_path / "b.zarr", counts, list("abcd"))
    network = make_network(genes=4)
    network.gene_names = tuple("abcd")
    maps = tm.attention(brain, network, [("a", "b")])
    assert (maps.alone(("a", "b"))[..., 8:, 8:] == 0.25).all()
    assert maps["a-b ensemble b"][0, 1, 1] > 0
    assert np.count_nonzero(maps["a-b ensemble b"]) == 1


def test_structures_mask_what_lies_outside(
    tiny_brain: BrainStore, tiny_network: TeraMind, whole: AttentionMaps
) -> None:
    maps = tm.attention(tiny_brain, tiny_network, [PAIR], structures=["TH"])
    # The thalamus of the tiny brain: rows 2 to 13, columns 12 to 21.
    assert maps.data.shape[1:] == (4, 12, 10)
    channels = [list(whole).index(name) for name in maps]
    expected = whole.data[channels][:, :, 2:14, 12:22]
    np.testing.assert_allclose(maps.data, expected, atol=1e-6)
    both = tm.attention(tiny_brain, tiny_network, [PAIR], (0, 128, 0, 384), structures=["TH", "CP"])
    assert both.data.shape[1:] == (4, 6, 20)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": [("Nr4a2", "Nope")]}, "lacks 'Nope'"),
        ({"pairs": [("Nr4a2", "th")]}, "did you mean Th"),
        ({"pairs": [("Th", "Slc17a7")]}, "panel of 8 genes lacks 'Slc17a7'"),
        ({"pairs": [("Th", "Th")]}, "one gene twice"),
        ({"pairs": [PAIR, PAIR[::-1]]}, "listed twice"),
        ({"pairs": [("Th",)]}, "two genes"),
        ({"pairs": []}, "No pair"),
        ({"roi": (8, 8, 0, 16)}, "y 8-8"),
        ({"roi": (0, 512, 0, 16)}, "y 0-512"),
        ({"slices": (4, 4)}, "[Ss]lices 4"),
        ({"structures": ["SNc"]}, "'SNc'"),
        ({"structures": ["TH"], "roi": (0, 16, 0, 16)}, "No bin"),
        ({"structures": []}, "No structure"),
        ({"maps": ["middle"]}, "no map 'middle'"),
    ],
)
def test_bad_requests(
    tiny_brain: BrainStore, tiny_network: TeraMind, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        tm.attention(tiny_brain, tiny_network, **{"pairs": [PAIR], **options})

"""Regions of a brain store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind
from napari_teramind.simulate import Request, simulate_to_store
from napari_teramind.simulate.plan import plan_run
from napari_teramind.simulate.region import Roi
from napari_teramind.simulate.roi import to_uint8

STEPS = 3


@pytest.fixture(scope="module")
def network(make_network: Callable[..., TeraMind], tiny_brain: BrainStore) -> TeraMind:
    # Noise networks with random weights end in black and white; velocity ones in grey.
    network = make_network(genes=5, patch=32, prediction="v")
    network.gene_names = tiny_brain.gene_names[2:7][::-1]
    return network


def final_state(
    brain: BrainStore, network: TeraMind, roi: Roi, slices: tuple[int, int]
) -> np.ndarray:
    """Return the last state in float, before it is rounded to grey levels."""
    shown: list[np.ndarray] = []
    tm.simulate(
        brain,
        network,
        roi,
        slices,
        seed=3,
        steps=STEPS,
        preview=lambda _step, x0: shown.append(x0),
    )
    return shown[-1].copy()


@pytest.fixture(scope="module")
def whole_state(tiny_brain: BrainStore, network: TeraMind) -> np.ndarray:
    return final_state(tiny_brain, network, (0, 256, 0, 384), (0, 4))


@pytest.fixture(scope="module")
def whole(whole_state: np.ndarray) -> np.ndarray:
    """Return the whole brain in grey levels, 4 slices of 256 x 384 px."""
    image = to_uint8(torch.from_numpy(whole_state)).numpy()
    assert image.std() > 10
    return image


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    y=st.integers(0, 240),
    x=st.integers(0, 360),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    z=st.integers(0, 3),
    count=st.integers(1, 3),
)
def test_a_region_equals_the_crop_of_the_whole(
    tiny_brain: BrainStore,
    network: TeraMind,
    whole_state: np.ndarray,
    y: int,
    x: int,
    height: int,
    width: int,
    z: int,
    count: int,
) -> None:
    roi = (y, min(y + height, 256), x, min(x + width, 384))
    slices = (z, min(z + count, 4))
    part = final_state(tiny_brain, network, roi, slices)
    crop = whole_state[:, slices[0] : slices[1], roi[0] : roi[1], roi[2] : roi[3]]
    np.testing.assert_allclose(part, crop, atol=1e-3, rtol=0)


def test_seeds_and_stains_differ(
    tiny_brain: BrainStore, network: TeraMind, whole: np.ndarray
) -> None:
    other = tm.simulate(tiny_brain, network, (0, 64, 0, 64), (0, 2), seed=4, steps=STEPS)
    assert (other != whole[:, :2, :64, :64]).mean() > 0.5
    assert (whole[0] != whole[1]).mean() > 0.5


def test_a_smaller_halo_is_near_and_cheaper(
    tiny_brain: BrainStore, network: TeraMind, whole: np.ndarray
) -> None:
    roi = (128, 160, 192, 224)
    quick = plan_run(tiny_brain, network.config, Request(roi, (0, 2), steps=STEPS, halo=1))
    exact = plan_run(tiny_brain, network.config, Request(roi, (0, 2), steps=STEPS))
    assert quick.evaluations < exact.evaluations
    assert "patch evaluations" in exact.text
    image = tm.simulate(tiny_brain, network, roi, (0, 2), seed=3, steps=STEPS, halo=0)
    crop = whole[:, :2, 128:160, 192:224]
    assert 0 < np.abs(image.astype(int) - crop).mean() < 30


@pytest.mark.parametrize("gene_slices", [1, 8])
def test_other_gene_windows(
    tiny_brain: BrainStore, make_network: Callable[..., TeraMind], gene_slices: int
) -> None:
    network = make_network(genes=2, patch=32, gene_slices=gene_slices)
    network.gene_names = tiny_brain.gene_names[:2]
    image = tm.simulate(tiny_brain, network, (0, 32, 0, 40), (1, 4), steps=2)
    assert image.shape == (2, 3, 32, 40)


def test_genes_reach_the_result_by_name(
    tiny_brain: BrainStore, network: TeraMind, whole: np.ndarray
) -> None:
    names = network.gene_names
    assert names is not None
    network.gene_names = (names[1], names[0], *names[2:])
    try:
        image = tm.simulate(tiny_brain, network, (0, 64, 0, 64), (0, 2), seed=3, steps=STEPS)
    finally:
        network.gene_names = names
    assert (image != whole[:, :2, :64, :64]).mean() > 1e-3


def test_preview_ends_at_the_result(tiny_brain: BrainStore, network: TeraMind) -> None:
    previews: list[np.ndarray] = []
    reports: list[tuple[str, int, int]] = []
    image = tm.simulate(
        tiny_brain,
        network,
        (40, 90, 50, 99),
        (1, 4),
        steps=STEPS,
        report=lambda *event: reports.append(event),
        preview=lambda _step, x0: previews.append(x0.copy()),
    )
    assert previews[0].shape == image.shape == (2, 3, 50, 49)
    assert len(previews) >= 2 * STEPS
    final = ((previews[-1] + 1) * 127.5).clip(0, 255)
    assert np.abs(final - image).max() <= 1
    done = [event[1] for event in reports]
    assert done == sorted(done)
    assert reports[-1][1] == reports[-1][2]
    assert reports[0][0] == "Generating slice 1"


def test_published_noise_differs_from_ours(
    tiny_brain: BrainStore, network: TeraMind, whole: np.ndarray
) -> None:
    image = tm.simulate(tiny_brain, network, (0, 64, 0, 64), (0, 2), steps=STEPS, noise="published")
    assert (image != whole[:, :2, :64, :64]).mean() > 0.5


def test_the_result_lies_over_the_brain_with_its_provenance(
    brain_copy: Path, network: TeraMind
) -> None:
    brain = tm.open_brain(brain_copy)
    roi, slices = (30, 101, 17, 80), (1, 3)
    request = Request(roi, slices, seed=5, steps=2)
    simulate_to_store(brain, network, "first", request, job={"a": 1})
    result = tm.open_brain(brain.path).simulations["first"]
    expected = tm.simulate(brain, network, roi, slices, seed=5, steps=2)
    np.testing.assert_array_equal(np.asarray(result.levels[0][:]), expected)
    pixel = brain.pixel_size
    assert result.translation(0)[-2:] == pytest.approx((30 * pixel, 17 * pixel))
    assert result.provenance["seed"] == 5
    assert result.provenance["job"] == {"a": 1}
    with pytest.raises(UserError, match="already"):
        simulate_to_store(brain, network, "first", request)


def test_requests_that_cannot_be_met(
    tiny_brain: BrainStore, make_network: Callable[..., TeraMind], network: TeraMind
) -> None:
    roi, slices = (0, 32, 0, 32), (0, 2)
    with pytest.raises(UserError, match="leaves the brain"):
        tm.simulate(tiny_brain, network, (0, 300, 0, 32), slices)
    with pytest.raises(UserError, match="leave the brain"):
        tm.simulate(tiny_brain, network, roi, (0, 9))
    stranger = make_network(genes=1, patch=32)
    stranger.gene_names = ("Xyz",)
    with pytest.raises(UserError, match="lacks 1 of the checkpoint's 1 genes"):
        tm.simulate(tiny_brain, stranger, roi, slices)
    stranger.gene_names = None
    with pytest.raises(UserError, match="names no genes"):
        tm.simulate(tiny_brain, stranger, roi, slices)
    single = make_network(genes=12, patch=32, stains=1)
    with pytest.raises(UserError, match="generates 1 stains"):
        tm.simulate(tiny_brain, single, roi, slices)


def test_weights_without_names_take_the_brains_order(
    tiny_brain: BrainStore, make_network: Callable[..., TeraMind]
) -> None:
    network = make_network(genes=12, patch=32)
    with pytest.warns(UserWarning, match="names no genes"):
        tm.simulate(tiny_brain, network, (0, 32, 0, 32), (0, 2), steps=1)

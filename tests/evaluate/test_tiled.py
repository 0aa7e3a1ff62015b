"""Planes measured tile by tile give what independent implementations give of whole planes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance
from skimage.draw import ellipse
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import (
    peak_signal_noise_ratio as torch_psnr,
)
from torchmetrics.functional.image import (
    structural_similarity_index_measure as torch_ssim,
)

from napari_teramind.evaluate.counting import Tally, Watershed, tally_nuclei
from napari_teramind.evaluate.images import MARGIN, PlaneScores, Scores
from napari_teramind.evaluate.nuclei import find_nuclei, smallest_area
from napari_teramind.evaluate.tiles import Box, cut, widened

PIXEL = 0.108

corners = st.tuples(st.integers(0, 40), st.integers(0, 40))
sides = st.tuples(st.integers(7, 60), st.integers(7, 60))


def pictures(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    real = (gaussian_filter(rng.random(shape), 1.5) * 600).clip(0, 255)
    made = (real + rng.normal(0, 20, shape)).clip(0, 255)
    return real.astype(np.uint8), made.astype(np.uint8)


def tiled(
    real: np.ndarray,
    made: np.ndarray,
    corner: tuple[int, int],
    tile: int,
    counts: np.ndarray | None = None,
    parts: np.ndarray | None = None,
) -> PlaneScores:
    """Measure a plane whose first pixel is the brain's pixel `corner`."""
    (y, x), (height, width) = corner, real.shape
    box = (y, y + height, x, x + width)
    counts = np.ones(real.shape, bool) if counts is None else counts
    parts = np.zeros(real.shape, int) if parts is None else parts
    plane = PlaneScores(box, int(parts.max()) + 1)

    def crop(image: np.ndarray, place: Box) -> np.ndarray:
        return image[place[0] - y : place[1] - y, place[2] - x : place[3] - x]

    for place in cut(box, tile):
        wide = widened(place, MARGIN, box)
        plane.add(place, crop(real, wide), crop(made, wide), crop(counts, place),
                  crop(parts, place))  # fmt: skip
    return plane


def whole(scores: Scores | None) -> Scores:
    assert scores is not None
    return scores


@given(shape=sides, corner=corners, tile=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_whole_planes_are_those_of_scikit_image_and_torchmetrics(
    shape: tuple[int, int], corner: tuple[int, int], tile: int, seed: int
) -> None:
    real, made = pictures(shape, seed)
    scores = whole(tiled(real, made, corner, tile).scores())
    assert scores.n == real.size
    expected = peak_signal_noise_ratio(real, made, data_range=255)
    assert scores.psnr == pytest.approx(expected, abs=1e-6)
    a, b = (torch.from_numpy(image.astype(np.float64))[None, None] for image in (real, made))
    assert scores.psnr == pytest.approx(float(torch_psnr(a, b, data_range=255.0)), abs=1e-6)

    expected = structural_similarity(real, made, data_range=255)
    assert scores.ssim == pytest.approx(expected, abs=1e-6)
    assert scores.means == pytest.approx((real.mean(), made.mean()), abs=1e-6)
    distance = wasserstein_distance(real.ravel(), made.ravel())
    assert scores.distance == pytest.approx(distance, abs=1e-6)


@given(corner=corners, tile=st.integers(5, 70), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_ssim_is_that_of_torchmetrics(corner: tuple[int, int], tile: int, seed: int) -> None:
    """torchmetrics divides covariances by n where scikit-image divides by n - 1; C2 makes up."""
    real, made = pictures((48, 61), seed)
    a, b = (torch.from_numpy(image.astype(np.float64))[None, None] for image in (real, made))
    _, found = torch_ssim(
        a, b, gaussian_kernel=False, kernel_size=7, data_range=255.0,
        k2=0.03 * (48 / 49) ** 0.5, return_full_image=True,
    )  # fmt: skip
    inner = found[0, 0].numpy()
    margins = [(n - (m - 2 * MARGIN)) // 2 for n, m in zip(inner.shape, real.shape, strict=True)]
    inner = inner[tuple(slice(k, n - k) for k, n in zip(margins, inner.shape, strict=True))]
    assert inner.shape == (48 - 2 * MARGIN, 61 - 2 * MARGIN)
    assert whole(tiled(real, made, corner, tile).scores()).ssim == pytest.approx(
        float(inner.mean()), abs=1e-6
    )


@given(tile=st.integers(3, 70), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_only_what_counts_is_compared_part_by_part(tile: int, seed: int) -> None:
    real, made = pictures((50, 44), seed)
    rng = np.random.default_rng(seed)
    counts = gaussian_filter(rng.random(real.shape), 3) > 0.5
    parts = np.kron(rng.integers(0, 3, (5, 4)), np.ones((10, 11), int))
    plane = tiled(real, made, (3, 5), tile, counts, parts)
    _, full = structural_similarity(real, made, data_range=255, full=True)
    known = np.zeros(real.shape, bool)
    known[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    for chosen in ([0], [1, 2]):
        at = counts & np.isin(parts, chosen)
        found = plane.scores(np.array(chosen))
        if not at.any():
            assert found is None
            continue
        scores = whole(found)
        error = ((real.astype(float) - made) ** 2)[at].mean()
        assert scores.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=1e-6)
        assert scores.ssim == pytest.approx(full[at & known].mean(), abs=1e-6)
        assert (scores.n, scores.ssim_n) == (at.sum(), (at & known).sum())


def test_equal_planes_and_slivers() -> None:
    real, _ = pictures((30, 30), 0)
    same = whole(tiled(real, real, (0, 0), 16).scores())
    assert (same.psnr, same.ssim, same.distance) == (np.inf, 1.0, 0.0)
    sliver = whole(tiled(real[:5], real[:5] // 2, (0, 0), 16).scores())
    assert np.isnan(sliver.ssim)
    assert sliver.ssim_n == 0
    assert np.isfinite(sliver.psnr)


# Nuclei -----------------------------------------------------------------------------------------


def scattered(seed: int, height: int = 700, width: int = 800) -> np.ndarray:
    """A plane of about eighty ellipses, some of which touch."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 10.0)
    for _ in range(80):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        a, b = rng.uniform(22, 40, 2)
        where = ellipse(y, x, a, b, (height, width), rotation=rng.uniform(0, 3))
        image[where] = rng.uniform(90, 180)
    image = gaussian_filter(image, 3) + rng.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def tally(image: np.ndarray, tile: int, counts: np.ndarray | None = None) -> Tally:
    height, width = image.shape
    box = (32, 32 + height, 48, 48 + width)

    def crop(plane: np.ndarray, place: Box) -> np.ndarray:
        return plane[place[0] - 32 : place[1] - 32, place[2] - 48 : place[3] - 48]

    everywhere = np.ones(image.shape, bool) if counts is None else counts
    halves = np.broadcast_to(np.arange(width) >= width // 2, image.shape).astype(int)
    return tally_nuclei(
        lambda place: crop(image, place),
        lambda place: crop(everywhere, place),
        lambda place: crop(halves, place),
        box,
        PIXEL,
        Watershed(PIXEL, tile),
        tile,
    )


@given(tile=st.integers(180, 900), seed=st.integers(0, 3))
@settings(max_examples=6)
def test_tiles_find_the_nuclei_of_the_whole_plane_once(tile: int, seed: int) -> None:
    image = scattered(seed)
    found, expected = tally(image, tile), find_nuclei(image)
    assert found.count() == expected.count > 40
    sizes, times = found.areas()
    areas = np.sort(np.repeat(sizes, times)) * PIXEL**2
    np.testing.assert_allclose(areas, np.sort(expected.areas_um2))
    assert areas.min() > smallest_area()
    assert found.count([0]) + found.count([1]) == found.count()
    assert sum(found.areas([0])[1]) + sum(found.areas([1])[1]) == len(areas)


def test_a_nucleus_counts_where_its_centroid_does() -> None:
    image = np.full((400, 400), 5, np.uint8)
    for y, x in ((100, 100), (100, 196), (300, 300)):
        image[ellipse(y, x, 36, 36)] = 150
    left = np.zeros(image.shape, bool)
    left[:, :200] = True  # the second nucleus lies on both sides, its centroid on this one
    assert tally(image, 256).count() == 3
    assert tally(image, 256, left).count() == 2


def test_an_even_plane_has_no_nuclei() -> None:
    assert tally(np.full((300, 300), 7, np.uint8), 128).count() == 0

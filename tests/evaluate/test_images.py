"""Metrics against independent implementations, nuclei against images whose nuclei are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.draw import ellipse

from napari_teramind.brain import BrainStore
from napari_teramind.evaluate.images import psnr, ssim
from napari_teramind.evaluate.nuclei import find_nuclei

PIXEL = 0.108


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    real = gaussian_filter(rng.random((96, 128)) * 255, 2).astype(np.uint8)
    return real, np.clip(real + rng.normal(0, 9, real.shape), 0, 255).astype(np.uint8)


def test_psnr_is_what_it_says(images: tuple[np.ndarray, np.ndarray]) -> None:
    real, made = (image.astype(float) for image in images)
    expected = 10 * np.log10(255**2 / np.mean((real - made) ** 2))
    assert psnr(*images) == pytest.approx(expected, abs=1e-6)


def test_ssim_is_the_formula_of_its_paper(images: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (image.astype(float) for image in images)

    def mean(a: np.ndarray) -> np.ndarray:
        return np.asarray(uniform_filter(a, 7))

    unbiased = 49 / 48
    sx, sy = (unbiased * (mean(a * a) - mean(a) ** 2) for a in (x, y))
    sxy = unbiased * (mean(x * y) - mean(x) * mean(y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean(x) * mean(y) + c1) * (2 * sxy + c2)
    bottom = (mean(x) ** 2 + mean(y) ** 2 + c1) * (sx + sy + c2)
    assert ssim(*images) == pytest.approx((top / bottom)[3:-3, 3:-3].mean(), abs=1e-6)


def test_nuclei_are_counted_and_measured() -> None:
    rng = np.random.default_rng(0)
    image = np.full((512, 512), 12.0)
    area = 0
    for y in (80, 200, 320, 440):
        for x in (90, 210, 340, 430):
            rows, columns = ellipse(y, x, 38, 31)
            image[rows, columns] = 150
            area = len(rows)
    image = gaussian_filter(image, 3) + rng.normal(0, 12, image.shape)
    found = find_nuclei(image.clip(0, 255).astype(np.uint8))
    assert found.count == 16
    assert len(found.areas_um2) == 16
    assert found.areas_um2.mean() == pytest.approx(area * PIXEL**2, rel=0.06)
    assert found.diameters_um.mean() == pytest.approx(np.sqrt(38 * 31) * 2 * PIXEL, rel=0.04)


def test_touching_nuclei_are_told_apart() -> None:
    image = np.zeros((200, 260))
    for x in (80, 150):
        image[ellipse(100, x, 38, 36)] = 180
    assert find_nuclei(gaussian_filter(image, 3)).count == 2


def test_a_plane_without_nuclei_has_none(tiny_brain: BrainStore) -> None:
    assert find_nuclei(np.full((64, 64), 7, np.uint8)).count == 0
    assert (
        find_nuclei(tiny_brain.read_stains((0, 128, 0, 128), (0, 1))[0, 0], threshold=300).count
        == 0
    )

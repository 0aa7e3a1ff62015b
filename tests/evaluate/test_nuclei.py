"""The watershed on nuclei that people drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_teramind.evaluate.nuclei import (
    blurred,
    find_nuclei,
    grey_histogram,
    otsu_threshold,
    settled_threshold,
)

DATA = Path(__file__).parents[1] / "data" / "nuclei"


def f1(found: np.ndarray, drawn: np.ndarray, least: float = 0.5) -> float:
    """F1 of nuclei, matched where intersection over union is more than a half."""
    shape = int(found.max()) + 1, int(drawn.max()) + 1
    both = np.bincount(found.ravel() * shape[1] + drawn.ravel(), minlength=shape[0] * shape[1])
    both = both.reshape(shape)
    union = both.sum(1)[:, None] + both.sum(0)[None] - both
    matched = int((both[1:, 1:] / np.maximum(union[1:, 1:], 1) > least).sum())
    nuclei = int((both.sum(1)[1:] > 0).sum() + (both.sum(0)[1:] > 0).sum())
    return 2 * matched / nuclei


@pytest.mark.parametrize("pixel_size", [0.35, 0.4, 0.45])
def test_the_watershed_finds_what_people_drew(pixel_size: float) -> None:
    """The image states no scale: at 0.4 um a pixel, its nuclei are 9.5 um wide (median)."""
    image, mask = (tifffile.imread(DATA / f"{name}.tif") for name in ("image", "mask"))
    assert len(np.unique(mask)) - 1 == 125
    found = find_nuclei(image, pixel_size).labels
    assert f1(found, mask.astype(np.int64)) >= 0.75


def test_bright_nuclei_raise_the_threshold_less_than_otsus() -> None:
    image = tifffile.imread(DATA / "image.tif")
    settled = settled_threshold(grey_histogram(blurred(image, 0.4)))
    assert settled < otsu_threshold(image, 0.4) - 3
    # Where nothing is that bright, it is Otsu's.
    dim = np.minimum(image, 60)
    settled = settled_threshold(grey_histogram(blurred(dim, 0.4)))
    assert settled == pytest.approx(otsu_threshold(dim, 0.4), abs=0.5)
    assert settled_threshold(grey_histogram(np.full(9, 7.0))) == np.inf

"""Noise depends on the seed and the absolute place, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_teramind.diffusion.noise import noise_field, philox_block
from napari_teramind.diffusion.samplers import plan_steps
from napari_teramind.diffusion.schedule import timesteps
from napari_teramind.errors import UserError

GOLDEN = {
    (0, 0, 0, 0, 0): [2.916203, -1.28554, -1.390157, -1.029079, -0.776271],
    (7, 1, 3, 2, 5): [-1.151841, 0.4603, -0.299696, 0.569501, -2.178641],
    (2**63 + 1, 0, 49, 1143, 1655): [0.382078, 1.583004, -0.752846, -0.232005, -0.586358],
}


@pytest.mark.parametrize(("place", "values"), GOLDEN.items())
def test_golden_values(place: tuple[int, int, int, int, int], values: list[float]) -> None:
    block = philox_block(*place)
    found = [*block[0, :3], block[40, 10], block[63, 63]]
    np.testing.assert_allclose(found, values, atol=1e-6)


def test_it_is_normal_and_the_stains_differ() -> None:
    field = noise_field("philox", 0, 2, range(2), (0, 512, 0, 512), 2)
    assert abs(field.mean()) < 0.01
    assert abs(field.std() - 1) < 0.01
    assert abs((field**4).mean() - 3) < 0.1
    planes = field.reshape(4, -1)
    correlation = np.corrcoef(planes) - np.eye(4)
    assert np.abs(correlation).max() < 0.02


@settings(max_examples=30)
@given(
    y=st.integers(-100, 300),
    x=st.integers(-100, 300),
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    z=st.integers(0, 3),
    kind=st.sampled_from(["philox", "published"]),
)
def test_a_crop_of_noise_is_noise_of_the_crop(
    y: int, x: int, height: int, width: int, z: int, kind: str
) -> None:
    whole = noise_field(kind, 0, 2, range(4), (-100, 450, -100, 450), 4)
    crop = noise_field(kind, 0, 2, range(z, z + 1), (y, y + height, x, x + width), 4)
    expected = whole[:, z : z + 1, y + 100 : y + 100 + height, x + 100 : x + 100 + width]
    np.testing.assert_array_equal(crop, expected)


def test_published_noise() -> None:
    i = 416 * 1 + 2
    seed = (1103515245 * i + 12345) % 2**31
    tile = torch.randn((256, 256, 100), generator=torch.Generator().manual_seed(seed)).numpy()
    field = noise_field("published", 0, 2, range(3, 5), (256, 512, 512, 768), 50)
    np.testing.assert_array_equal(field[1, 0], tile[..., 53])
    np.testing.assert_array_equal(field[0, 1], tile[..., 4])


def test_bad_options_are_refused() -> None:
    with pytest.raises(UserError, match="not known"):
        noise_field("gaussian", 0, 1, range(1), (0, 1, 0, 1), 1)
    with pytest.raises(UserError, match="no seed"):
        noise_field("published", 1, 1, range(1), (0, 1, 0, 1), 1)
    with pytest.raises(UserError, match="not known"):
        plan_steps("euler", 15)


def test_steps_use_the_smallest_even_stride() -> None:
    assert timesteps(1000) == list(range(1000))
    assert timesteps(8) == list(range(0, 1000, 125))
    with pytest.raises(UserError, match="use 500 or 1000"):
        timesteps(700)

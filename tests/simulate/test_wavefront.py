"""However a field is cut, it comes out the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_teramind as tm
from napari_teramind.diffusion.samplers import ddim_step, plan_steps
from napari_teramind.model import TeraMind
from napari_teramind.simulate.pools import PatchPool
from napari_teramind.simulate.region import PatchBox, Settings
from napari_teramind.simulate.wavefront import Wavefront

P = 32
STEPS = 3


@pytest.fixture(scope="module")
def network(make_network: Callable[..., TeraMind]) -> TeraMind:
    return make_network(patch=P, gene_slices=4)


@pytest.fixture(scope="module")
def field() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of 5 x 4 patches, and genes that go with it."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 2, 5 * P, 4 * P, generator=generator)
    return noise, torch.randint(0, 3, (4, 4, 12, 10), generator=generator).float()


@torch.inference_mode()
def stepped(network: TeraMind, noise: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Plain stepping by the definition: pad with -1, predict the whole field, step."""
    x = noise[None]
    for step in plan_steps("ddim", STEPS):
        padded = torch.nn.functional.pad(x, [P // 2] * 4, value=-1.0)
        eps = network.predict_noise(padded, g[None], torch.tensor([step.t]))
        x, _ = ddim_step(x, eps, step)
    return x[0]


@pytest.fixture(scope="module")
def expected(network: TeraMind, field: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    out = stepped(network, *field)
    assert out.std() > 0.1
    return out


@settings(max_examples=6)
@given(
    band=st.one_of(st.none(), st.integers(1, 5)),
    batch=st.sampled_from([3, 8, 16]),
)
def test_cuts_do_not_matter(
    network: TeraMind,
    field: tuple[torch.Tensor, torch.Tensor],
    expected: torch.Tensor,
    band: int | None,
    batch: int,
) -> None:
    out = tm.sample(network, *field, steps=STEPS, settings=Settings(band, batch))
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)


@settings(max_examples=6)
@given(
    top=st.integers(0, 4),
    left=st.integers(0, 3),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    band=st.one_of(st.none(), st.integers(1, 4)),
)
def test_a_part_equals_the_crop_of_the_whole(
    network: TeraMind,
    field: tuple[torch.Tensor, torch.Tensor],
    expected: torch.Tensor,
    top: int,
    left: int,
    rows: int,
    columns: int,
    band: int | None,
) -> None:
    noise, g = field
    target = PatchBox(top, min(top + rows, 5), left, min(left + columns, 4))
    asked: list[PatchBox] = []

    def read_noise(box: PatchBox) -> torch.Tensor:
        asked.append(box)
        y0, y1, x0, x1 = box.pixels(P)
        return noise[:, :, y0:y1, x0:x1].clone()

    run = Wavefront(
        network,
        target,
        PatchBox(0, 5, 0, 4),
        plan_steps("ddim", STEPS),
        lambda b: g[:, :, 2 * b.top : 2 * b.bottom, 2 * b.left : 2 * b.right],
        read_noise,
        Settings(band=band, batch=8),
    )
    y0, y1, x0, x1 = target.pixels(P)
    torch.testing.assert_close(run.run(), expected[:, :, y0:y1, x0:x1], atol=1e-4, rtol=0)
    assert run.evaluated == run.evaluations
    assert sum(box.rows for box in asked) == run.margin.rows  # every row of noise is read once


def test_bands_keep_few_rows(network: TeraMind) -> None:
    """The buffer holds about band + steps rows, however tall the field is."""
    tallest = 0
    rows = 12

    def read_noise(box: PatchBox) -> torch.Tensor:
        return torch.zeros(2, 2, box.rows * P, box.columns * P)

    run = Wavefront(
        network,
        PatchBox(0, rows, 0, 1),
        PatchBox(0, rows, 0, 1),
        plan_steps("ddim", STEPS),
        lambda b: torch.zeros(4, 4, 2 * b.rows, 2 * b.columns),
        read_noise,
        Settings(band=2, batch=4),
    )
    heights = []
    for _, done in run.bands():
        heights.append(done.shape[2] // P)
        tallest = max(tallest, run.state.shape[2] // P, len(run.features) // 2)
    assert sum(heights) == rows
    assert tallest <= 2 + STEPS + 1


def test_callback_sees_every_step(
    network: TeraMind, field: tuple[torch.Tensor, torch.Tensor], expected: torch.Tensor
) -> None:
    seen: list[tuple[int, np.ndarray, np.ndarray]] = []
    tm.sample(
        network,
        *field,
        steps=STEPS,
        callback=lambda s, x, x0: seen.append((s, x.numpy().copy(), x0.numpy().copy())),
    )
    assert [s for s, _, _ in seen] == list(range(STEPS))
    np.testing.assert_allclose(seen[-1][1], expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(seen[-1][2], expected.numpy(), atol=1e-4)
    assert all(np.abs(x0).max() <= 1 for _, _, x0 in seen)


@pytest.mark.parametrize(
    ("noise", "genes"),
    [
        ((2, 2, 33, 32), (4, 4, 4, 4)),
        ((2, 1, 32, 32), (4, 4, 4, 4)),
        ((2, 2, 32, 32), (4, 4, 2, 2)),
    ],
)
def test_wrong_shapes_are_named(
    network: TeraMind, noise: tuple[int, ...], genes: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="must be"):
        tm.sample(network, torch.zeros(noise), torch.zeros(genes))


def test_slots_that_are_used_again_do_not_change_a_bit(
    network: TeraMind,
    field: tuple[torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One pool for all bands and steps, whose slots are handed out in another order each time."""
    kept = tm.sample(network, *field, steps=STEPS, settings=Settings(2, 8))

    def fresh(pool: PatchPool) -> None:
        pool.parts, pool._slots, pool._free = [], {}, []

    monkeypatch.setattr(PatchPool, "clear", fresh)
    assert torch.equal(tm.sample(network, *field, steps=STEPS, settings=Settings(2, 8)), kept)

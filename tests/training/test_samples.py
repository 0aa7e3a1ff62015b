"""Training samples are what DESIGN section 3 says, and the same for a number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import ModelConfig, TeraMind
from napari_teramind.training import TrainConfig
from napari_teramind.training.loop import network_shape
from napari_teramind.training.samples import Block, allowed_corners, draw
from napari_teramind.training.source import SampleSource, common_panel
from napari_teramind.training.step import Objective, draw_times, make_batch

CONFIG = ModelConfig(genes=1, stains=1, gene_slices=1, patch=32)


def coordinate_block(side: int = 12) -> Block:
    """A block whose genes tell the bin, and whose pixels tell the bin they lie in."""
    number = np.arange(side * side).reshape(side, side)
    pixels = np.kron(number, np.ones((16, 16), int)) % 256
    corners = allowed_corners((0, side, 0, side), 8, None)
    return Block(pixels[None, None].astype(np.uint8), number[None, None].astype(float), corners)


@settings(max_examples=100)
@given(seed=st.integers(0, 10_000))
def test_images_and_genes_stay_together(seed: int) -> None:
    """Wherever the mask is 1 the pixels of a bin carry the bin's own number; elsewhere all is 0."""
    sample = draw(coordinate_block(), CONFIG, 128, np.random.default_rng(seed))
    values = np.rint((sample.clean[0, 0] + 1) * 127.5)
    genes = np.kron(sample.genes[0, 0], np.ones((16, 16)))
    inside = sample.mask > 0
    np.testing.assert_array_equal(values[inside], genes[inside] % 256)
    assert not sample.clean[0, 0][~inside].any()
    assert not genes[~inside].any()
    assert inside.sum() in (64 * 64, 64 * 48, 48 * 48)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), across=st.integers(2, 5))
def test_larger_blocks_hold_the_same_tissue(seed: int, across: int) -> None:
    sample = draw(coordinate_block(), CONFIG, 128, np.random.default_rng(seed), across)
    assert sample.mask.shape == sample.clean.shape[-2:] == (32 * across, 32 * across)
    values = np.rint((sample.clean[0, 0] + 1) * 127.5)
    genes = np.kron(sample.genes[0, 0], np.ones((16, 16)))
    inside = sample.mask > 0
    np.testing.assert_array_equal(values[inside], genes[inside] % 256)
    # The block may stick out of the crop by half a patch: on one side of an axis, on both, or not.
    sticking = {(32 * across - 16 * a) * (32 * across - 16 * b) for a in range(3) for b in range(3)}
    assert inside.sum() in sticking


def test_padding_turns_and_flips_all_occur() -> None:
    block = coordinate_block()
    samples = [draw(block, CONFIG, 128, np.random.default_rng(i)) for i in range(300)]
    assert {int(s.mask.sum()) for s in samples} == {64 * 64, 64 * 48, 48 * 48}
    whole = [s.genes[0, 0] for s in samples if s.mask.all()]
    signs = {(np.sign(g[0, 1] - g[0, 0]), np.sign(g[1, 0] - g[0, 0]), abs(g[0, 1] - g[0, 0]))
             for g in whole}  # fmt: skip
    assert len(signs) == 8


@settings(max_examples=50)
@given(y=st.integers(0, 400), x=st.integers(0, 400), h=st.integers(1, 300), w=st.integers(1, 300))
def test_no_crop_touches_the_held_out_field(y: int, x: int, h: int, w: int) -> None:
    exclude = (y, y + h, x, x + w)
    corners = allowed_corners((4, 36, 2, 40), 8, exclude)
    tops, lefts = (corners + np.array([4, 2])).T * 16
    apart = (tops + 128 <= y) | (tops >= y + h) | (lefts + 128 <= x) | (lefts >= x + w)
    assert apart.all()


def source(brain: BrainStore, **settings_: object) -> SampleSource:
    train = TrainConfig(patch=32, **settings_)  # type: ignore[arg-type]
    panel = common_panel([brain], None)
    return SampleSource([brain], panel, ModelConfig(genes=len(panel), patch=32), train)


def test_a_sample_depends_on_its_number_alone(tiny_brain: BrainStore) -> None:
    first, second = source(tiny_brain), source(tiny_brain)
    a = first[500]
    for number in (3, 700, 500):
        b = second[number]
    for name in ("clean", "genes", "mask"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    other = source(tiny_brain, seed=1)[500]
    assert not np.array_equal(a.clean, other.clean)


def test_samples_hold_the_brains_values(tiny_brain: BrainStore) -> None:
    sample = source(tiny_brain)[0]
    assert sample.clean.shape == (2, 2, 64, 64)
    assert sample.genes.shape == (12, 4, 4, 4)
    assert 0.2 < sample.genes[:, :, sample.mask[::16, ::16] > 0].mean() < 1.2
    assert abs(sample.clean[:, :, sample.mask > 0].mean()) < 0.1


def test_times_are_uniform_or_focused() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = draw_times(TrainConfig(batch=20000), generator)
    assert uniform.float().mean().item() == pytest.approx(499.5, abs=8)
    focused = draw_times(TrainConfig(batch=20000, focus=(40, 420, 0.6)), generator)
    inside = ((focused >= 40) & (focused < 420)).float().mean().item()
    assert inside == pytest.approx(0.6 + 0.4 * 0.38, abs=0.02)
    assert (focused < 40).any()
    assert (focused >= 420).any()
    with pytest.raises(UserError, match="'focus' must be two times"):
        TrainConfig(focus=(420, 40, 0.6))


def test_panels(tiny_brain: BrainStore) -> None:
    assert common_panel([tiny_brain, tiny_brain], None) == tiny_brain.gene_names
    assert common_panel([tiny_brain], ["Th"]) == ("Th",)
    with pytest.raises(UserError, match="no gene 'Nope'"):
        common_panel([tiny_brain], ["Nope"])
    with pytest.raises(UserError, match="at least one brain"):
        common_panel([], None)


def test_what_blocks_and_weights_may_be() -> None:
    with pytest.raises(UserError, match="'block' must be from 2 to 5"):
        TrainConfig(block=6)
    with pytest.raises(UserError, match="'shifted' must be at least 0"):
        TrainConfig(shifted=-1)


def test_without_weight_the_shifted_patches_are_left_out(tiny_brain: BrainStore) -> None:
    """The collage term, and its gradient, are those of the published loss all the same."""
    train = TrainConfig(patch=32, batch=2, channels=4, block=3, dropout=0)
    panel = common_panel([tiny_brain], None)
    shape, _ = network_shape([tiny_brain], panel, train)
    samples = SampleSource([tiny_brain], panel, shape, train)
    batch = make_batch([samples[0], samples[1]], range(2), shape, train, 0)
    torch.manual_seed(0)
    model = TeraMind(shape)
    torch.nn.init.normal_(model.unet.exit.weight)
    parts = (batch.noisy, batch.target, batch.genes, batch.mask, batch.t)
    both, alone = Objective(model, 1.0)(*parts), Objective(model, 0.0)(*parts)
    half = Objective(model, 0.5)(*parts)
    assert batch.noisy.shape[-2:] == (96, 96)
    assert alone[0] == both[0] > 0
    assert alone[1] == 0 < both[1]
    assert half[1] == both[1] / 2
    (found,) = torch.autograd.grad(alone.sum(), model.unet.exit.weight)
    (wanted,) = torch.autograd.grad(both[0], model.unet.exit.weight)
    torch.testing.assert_close(found, wanted)


def test_requests_that_leave_nothing_to_draw(tiny_brain: BrainStore) -> None:
    with pytest.raises(UserError, match="smaller than a training crop"):
        source(tiny_brain, crop=512)
    with pytest.raises(UserError, match="No training crop"):
        source(tiny_brain, exclude=(0, 256, 0, 384))[0]

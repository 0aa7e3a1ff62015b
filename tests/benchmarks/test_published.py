"""The re-created published network and schedule give the published implementation's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from published.network import PublishedNetwork, patches
from published.schedule import PublishedSchedule, abar, to_uint8
from safetensors.torch import load_file
from tests.conftest import PARITY

import napari_teramind as tm
from napari_teramind.diffusion.samplers import plan_steps
from napari_teramind.model import ModelConfig, TeraMind, save_model
from napari_teramind.model.convs import upsample
from napari_teramind.training.loss import diffuse, losses

Tensors = dict[str, torch.Tensor]


def folded(x: torch.Tensor) -> torch.Tensor:
    """(B, stain slice, y, x) to (B, stain, slice, y, x)."""
    return x.unflatten(-3, (2, 2))


@pytest.fixture
def recreated() -> PublishedNetwork:
    config = ModelConfig(genes=12, channels=4, time_channels=32)
    network = PublishedNetwork(config).eval()
    return network.load_published(load_file(PARITY / "tiny.weights.safetensors"))


@torch.inference_mode()
def test_one_evaluation(recreated: PublishedNetwork, parity: Tensors) -> None:
    x, g, t = folded(parity["eps.image"]), parity["eps.genes"], parity["eps.timestep"]
    collage, patch = recreated(x, g, t)
    torch.testing.assert_close(collage, folded(parity["eps.collage"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(patch, folded(parity["eps.patch"]), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_gene_features(recreated: PublishedNetwork, parity: Tensors) -> None:
    features = recreated.gene_features(patches(parity["eps.genes"], 4))
    torch.testing.assert_close(features[0][:4], parity["genes.features0"], atol=1e-4, rtol=0)
    torch.testing.assert_close(features[3][:1], parity["genes.features_last"], atol=1e-4, rtol=0)


def test_schedule(recreated: PublishedNetwork, parity: Tensors, tmp_path: Path) -> None:
    states: list[np.ndarray] = []
    out = PublishedSchedule(recreated, tmp_path, state="float32").run(
        folded(parity["ddim.noise"]).numpy(),
        parity["ddim.genes"].numpy(),
        on_step=lambda _step, x: states.append(x),
    )
    assert len(states) == 15
    for state, name in ((states[0], "ddim.step1"), (out, "ddim.final")):
        np.testing.assert_allclose(state, folded(parity[name]).numpy(), atol=1e-3, rtol=0)


def test_tiles_and_traffic(tmp_path: Path, recreated: PublishedNetwork) -> None:
    """Two tiles give what the whole field gives, and every step passes through the disk."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((2, 2, 128, 320)).astype(np.float32)
    genes = rng.poisson(0.5, (12, 4, 12, 24)).astype(np.float32)
    schedule = PublishedSchedule(recreated, tmp_path, state="float32")
    out = schedule.run(noise, genes, steps=2)
    model = tm.load_model(PARITY / "tiny.weights.safetensors")
    ours = tm.sample(model, torch.from_numpy(noise), torch.from_numpy(genes), steps=2)
    assert out.std() > 0.1
    np.testing.assert_allclose(out, ours.numpy(), atol=1e-3, rtol=0)
    assert schedule.tile_steps == 2 * 2
    assert schedule.state_written == 3 * noise.nbytes
    # Each tile is read with 32 px of the other one.
    assert schedule.state_read == 2 * (noise.nbytes + 2 * 4 * 4 * 128 * 32)
    short = PublishedSchedule(
        recreated, tmp_path, state="float32", both_decoders=False, cache_features=True
    )
    np.testing.assert_allclose(short.run(noise, genes, steps=2), out, atol=1e-5, rtol=0)
    half = PublishedSchedule(recreated, tmp_path).run(noise, genes, steps=2)
    assert half.dtype == np.float16
    difference = to_uint8(half).astype(int) - to_uint8(out).astype(int)
    assert 0 < np.abs(difference).mean() < 2


def test_steps_are_those_of_the_product() -> None:
    times, products = abar(15)
    steps = plan_steps("ddim", 15)
    assert times == [step.t for step in reversed(steps)]
    np.testing.assert_allclose(products, [step.abar for step in reversed(steps)], rtol=1e-12)


def test_loss_and_gradients(recreated: PublishedNetwork, parity: Tensors) -> None:
    inner, outer = recreated(
        folded(parity["loss.noisy"]), parity["loss.genes"], parity["loss.timestep"]
    )
    noise, mask = folded(parity["loss.noise"]), folded(parity["loss.mask"])
    collage = ((noise[..., 32:-32, 32:-32] - inner) ** 2).mean()
    shifted = (mask * (noise - outer) ** 2).mean()
    torch.testing.assert_close(collage[None], parity["loss.collage"], atol=1e-4, rtol=0)
    torch.testing.assert_close(shifted[None], parity["loss.shifted"], atol=1e-4, rtol=0)
    (collage + shifted).backward()
    parameters = dict(recreated.named_parameters())
    names = [key for key in parity if key.startswith("loss.grad.")]
    assert len(names) == 4
    for key in names:
        gradient = parameters[key.removeprefix("loss.grad.")].grad
        assert gradient is not None
        assert (gradient - parity[key]).norm() / parity[key].norm() < 1e-3, key


@pytest.mark.parametrize(("patch", "slices"), [(128, 1), (64, 4), (32, 8)])
def test_equals_ours(
    make_network: Callable[..., TeraMind], tmp_path: Path, patch: int, slices: int
) -> None:
    """Same weights, none of them zero, same outputs, same gradients as this package's network."""
    ours = make_network(patch=patch, gene_slices=slices)
    save_model(ours, tmp_path / "model.safetensors")
    theirs = PublishedNetwork(ours.config).eval()
    theirs.load_published(load_file(tmp_path / "model.safetensors"))
    generator = torch.Generator().manual_seed(5)
    m, side = ours.config.image_slices, 2 * patch
    clean, noise = torch.randn(2, 2, 2, m, side, side, generator=generator)
    g = torch.poisson(torch.full((2, 4, slices, side // 16, side // 16), 0.7), generator=generator)
    mask = torch.ones(2, 1, 1, side, side)
    batch = diffuse(clean, g, mask, torch.tensor([40, 700]), noise, "epsilon")
    outputs = theirs(batch.noisy, batch.genes, batch.t)
    for a, b in zip(
        outputs, ours.output_patches(batch.noisy, batch.genes, batch.t, shifted=True), strict=True
    ):
        assert b.std() > 0.01
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    features = ours.gene_features(ours.cut_field(clean, g)[1])
    for a, b in zip(theirs.gene_features(patches(g, patch // 16)), features, strict=True):
        torch.testing.assert_close(a, upsample(b).permute(0, 4, 3, 1, 2), atol=1e-4, rtol=1e-4)
    sum(losses(ours, batch)).backward()
    half = patch // 2
    inner, outer = outputs
    (
        ((noise[..., half:-half, half:-half] - inner) ** 2).mean() + ((noise - outer) ** 2).mean()
    ).backward()
    for a, b in (
        (theirs.input_blocks[1][0].in_layers[2].weight, ours.unet.encoder[0].res.conv1.weight),
        (theirs.rna_blocks[0][0].down_z.weight, ours.genes.gene_gene.down_z.weight),
    ):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).norm() / b.grad.norm() < 1e-3

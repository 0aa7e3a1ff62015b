"""The published implementation's numbers, tensor by tensor (see tests/data/parity/README.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import PARITY

import napari_teramind as tm
from napari_teramind.diffusion.schedule import alphas_bar, respaced_betas, timesteps
from napari_teramind.model import TeraMind, load_model
from napari_teramind.model.convs import upsample
from napari_teramind.model.names import published_names
from napari_teramind.simulate.wavefront import Settings
from napari_teramind.training.loss import Batch, diffuse, losses

Tensors = dict[str, torch.Tensor]


def folded(x: torch.Tensor) -> torch.Tensor:
    """(B, stain slice, y, x) to (B, stain, slice, y, x)."""
    return x.unflatten(-3, (2, 2))


@pytest.fixture(scope="module", params=["tiny.weights.safetensors", "tiny.last.ckpt"])
def network(request: pytest.FixtureRequest) -> TeraMind:
    return load_model(PARITY / request.param)


def test_config_is_inferred_from_names_and_shapes(network: TeraMind) -> None:
    c = network.config
    assert (c.genes, c.stains, c.gene_slices, c.image_slices) == (12, 2, 4, 2)
    assert (c.patch, c.channels, c.time_channels, c.prediction) == (64, 4, 32, "epsilon")


@torch.inference_mode()
def test_noise_of_both_paths(network: TeraMind, parity: Tensors) -> None:
    x, g, t = folded(parity["eps.image"]), parity["eps.genes"], parity["eps.timestep"]
    collage, patch = network.output_patches(x, g, t, shifted=True)
    torch.testing.assert_close(collage, folded(parity["eps.collage"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(patch, folded(parity["eps.patch"]), atol=1e-4, rtol=0)
    assert torch.equal(network.predict_noise(x, g, t), collage)


@torch.inference_mode()
def test_gene_features(network: TeraMind, parity: Tensors) -> None:
    _, patches = network.cut_field(torch.zeros(1, 2, 2, 192, 192), parity["eps.genes"])
    features = [upsample(f).permute(0, 4, 3, 1, 2) for f in network.gene_features(patches)]
    torch.testing.assert_close(features[0][:4], parity["genes.features0"], atol=1e-4, rtol=0)
    torch.testing.assert_close(features[3][:1], parity["genes.features_last"], atol=1e-4, rtol=0)


def test_schedule(parity: Tensors) -> None:
    assert timesteps(15) == parity["ddim.timesteps"].tolist()
    np.testing.assert_allclose(respaced_betas(15), parity["ddim.betas"].numpy(), atol=1e-12)


def test_ddim(published: TeraMind, parity: Tensors) -> None:
    states: list[torch.Tensor] = []
    out = tm.sample(
        published,
        folded(parity["ddim.noise"]),
        parity["ddim.genes"],
        callback=lambda _step, x, _x0: states.append(x.clone()),
        settings=Settings(batch=5),
    )
    torch.testing.assert_close(out, folded(parity["ddim.final"]), atol=1e-3, rtol=0)
    assert len(states) == 15
    torch.testing.assert_close(states[0], folded(parity["ddim.step1"]), atol=1e-4, rtol=0)


def parity_batch(parity: Tensors) -> Batch:
    t = parity["loss.timestep"]
    batch = diffuse(
        folded(parity["loss.clean"]),
        parity["loss.genes"],
        folded(parity["loss.mask"]),
        t,
        folded(parity["loss.noise"]),
        "epsilon",
    )
    torch.testing.assert_close(batch.noisy, folded(parity["loss.noisy"]), atol=1e-5, rtol=0)
    return batch


def test_loss_and_gradients(network: TeraMind, parity: Tensors) -> None:
    batch = parity_batch(parity)
    collage, shifted = losses(network, batch)
    torch.testing.assert_close(collage[None], parity["loss.collage"], atol=1e-4, rtol=0)
    torch.testing.assert_close(shifted[None], parity["loss.shifted"], atol=1e-4, rtol=0)
    (collage + shifted).backward()
    ours = {theirs: name for name, theirs in published_names(network).items()}
    parameters = dict(network.named_parameters())
    compared = 0
    for key, expected in parity.items():
        if key.startswith("loss.grad."):
            gradient = parameters[ours[key.removeprefix("loss.grad.")]].grad
            assert gradient is not None
            error = (gradient - expected).norm() / expected.norm()
            assert error < 1e-3, key
            compared += 1
    assert compared == 4


@torch.inference_mode()
def test_noise_of_a_velocity_network(parity: Tensors, make_network: Any) -> None:
    """A velocity network's noise obeys v = sqrt(abar) noise - sqrt(1 - abar) x0."""
    network = make_network(genes=12, prediction="v")
    x, g, t = folded(parity["eps.image"]), parity["eps.genes"], parity["eps.timestep"]
    (v,) = network.output_patches(x, g, t, shifted=False)
    noise = network.predict_noise(x, g, t)
    abar = alphas_bar()[t].float()
    inner = x[..., 32:-32, 32:-32]
    x0 = (inner - (1 - abar).sqrt() * noise) / abar.sqrt()
    torch.testing.assert_close(abar.sqrt() * noise - (1 - abar).sqrt() * x0, v, atol=1e-4, rtol=0)

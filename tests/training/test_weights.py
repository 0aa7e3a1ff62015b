"""A run may start from another checkpoint's weights; genes are found by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import ModelConfig, TeraMind, load_model, save_model
from napari_teramind.training import TrainConfig, fit
from napari_teramind.training.weights import start_from
from training_jobs import QUICK

SHAPE = {"channels": 4, "time_channels": 32, "patch": 32, "gene_channels": (8, 6, 4)}


def network(genes: tuple[str, ...], seed: int, **settings: object) -> TeraMind:
    torch.manual_seed(seed)
    model = TeraMind(ModelConfig(genes=len(genes), **SHAPE | settings)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.gene_names = genes
    return model


def test_genes_are_found_by_name_and_new_ones_keep_their_weights(tmp_path: Path) -> None:
    old = network(("Th", "Gad1", "Mog", "Sst"), 0)
    new = network(("Mog", "Xyz", "Th"), 1)
    before = {name: p.clone() for name, p in new.named_parameters()}
    found = start_from(new, str(save_model(old, tmp_path / "old.safetensors")))
    assert found["genes_found"] == 2
    assert found["sha256"] == load_model(tmp_path / "old.safetensors").sha256
    weights, theirs = dict(new.named_parameters()), dict(old.named_parameters())
    name = "genes.gene_gene.down_z.weight"
    assert torch.equal(weights[name][0, 2], theirs[name][2, 0])
    assert torch.equal(weights[name][1], before[name][1])
    assert torch.equal(weights[name][:, 1], before[name][:, 1])
    # Where genes come after other channels.
    name = "unet.middle1.conv1.weight"
    rest = theirs[name].shape[1] - 4
    assert torch.equal(weights[name][:, :rest], theirs[name][:, :rest])
    assert torch.equal(weights[name][:, rest + 2], theirs[name][:, rest])
    assert torch.equal(weights[name][:, rest + 1], before[name][:, rest + 1])
    assert torch.equal(weights["unet.exit.weight"], theirs["unet.exit.weight"])


def test_the_same_panel_in_another_order_is_the_same_network(tmp_path: Path) -> None:
    genes = ("Th", "Gad1", "Mog", "Sst")
    old, new = network(genes, 0), network(genes[::-1], 1)
    start_from(new, str(save_model(old, tmp_path / "old.safetensors")))
    generator = torch.Generator().manual_seed(2)
    x = torch.randn((1, 2, 2, 64, 64), generator=generator)
    g = torch.poisson(torch.ones(1, 4, 4, 4, 4), generator=generator)
    t = torch.tensor([500])
    one, other = new.predict_noise(x, g.flip(1), t), old.predict_noise(x, g, t)
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


def test_a_run_says_what_it_started_from_and_resumes_without_it(
    tmp_path: Path, tiny_brain: BrainStore
) -> None:
    first = fit([tiny_brain], tmp_path / "first", TrainConfig(**QUICK, steps=2, sample_every=0))
    settings = {**QUICK, "sample_every": 0, "init": str(first.checkpoint), "learning_rate": 1e-12}
    config = TrainConfig.from_dict({**settings, "steps": 1, "ema": 0})
    second = fit([tiny_brain], tmp_path / "second", config)
    expected = dict(load_model(first.checkpoint).named_parameters())
    for name, value in load_model(second.checkpoint).named_parameters():
        torch.testing.assert_close(value, expected[name])
    sha256 = load_model(first.checkpoint).sha256
    (tmp_path / "first" / "last.safetensors").unlink()
    further = TrainConfig.from_dict({**settings, "steps": 2, "ema": 0})
    fit([tiny_brain], tmp_path / "second", further, resume=True)
    for name in ("config.json", "last.json"):
        values = json.loads((tmp_path / "second" / name).read_text())
        assert values.get("provenance", values)["init"]["sha256"] == sha256


def test_what_cannot_be_started_from(tmp_path: Path) -> None:
    old = save_model(network(("Th", "Mog"), 0), tmp_path / "old.safetensors")
    with pytest.raises(UserError, match="has channels = 4, and this run 6"):
        start_from(network(("Th",), 1, channels=6), str(old))
    with pytest.raises(UserError, match="prediction = epsilon, and this run v"):
        start_from(network(("Th",), 1, prediction="v"), str(old))
    with pytest.raises(UserError, match="shares no gene"):
        start_from(network(("Sst",), 1), str(old))
    with pytest.raises(UserError, match="no checkpoint at"):
        start_from(network(("Sst",), 1), str(tmp_path / "none.safetensors"))

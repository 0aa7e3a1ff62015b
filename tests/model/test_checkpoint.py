"""Checkpoints of every published size, and files that are not checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import PARITY

from napari_teramind.errors import UserError
from napari_teramind.model import (
    TeraMind,
    convert_checkpoint,
    load_model,
    read_gene_list,
    save_model,
)

MakeNetwork = Callable[..., TeraMind]


@pytest.mark.parametrize("patch", [32, 64, 128])
@pytest.mark.parametrize("gene_slices", [1, 4, 8, 16])
def test_every_size_survives_a_round_trip(
    tmp_path: Path, make_network: MakeNetwork, patch: int, gene_slices: int
) -> None:
    network = make_network(patch=patch, gene_slices=gene_slices)
    bare = load_file(save_model(network, tmp_path / "a.safetensors"))
    save_file(bare, tmp_path / "bare.safetensors")
    again = load_model(tmp_path / "bare.safetensors")
    assert (again.config.patch, again.config.gene_slices) == (patch, gene_slices)
    c = network.config
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    if patch == 128 and gene_slices > 1:
        return  # the same code at four times the cost
    x = torch.randn(1, 2, c.image_slices, 2 * patch, 2 * patch)
    g = torch.rand(1, 4, gene_slices, patch // 8, patch // 8)
    with torch.inference_mode():
        noise = again.predict_noise(x, g, torch.tensor([300]))
    assert noise.shape == (1, 2, c.image_slices, patch, patch)
    assert noise.isfinite().all()
    assert noise.std() > 0


def test_convert_keeps_panel_and_weights(tmp_path: Path) -> None:
    panel = tmp_path / "panel.csv"
    panel.write_text("gene,note\n" + "".join(f"Gene{i},x\n" for i in range(14)))
    path = convert_checkpoint(PARITY / "tiny.last.ckpt", tmp_path / "out.safetensors", panel)
    model = load_model(path)
    assert model.gene_names == tuple(f"Gene{i}" for i in range(12))
    readable = json.loads(path.with_suffix(".json").read_text())
    assert readable["config"]["patch"] == 64
    assert readable["provenance"]["converted_from"] == "tiny.last.ckpt"
    original = load_file(PARITY / "tiny.weights.safetensors")
    for name, value in load_file(path).items():
        assert torch.equal(value, original[name].float()), name
    with pytest.raises(UserError, match="exists already"):
        convert_checkpoint(PARITY / "tiny.last.ckpt", path, panel)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (os.environ["TERAMIND_TEST_BOMB"],))


@pytest.mark.parametrize("kind", ["torch", "legacy", "plain"])
def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    proof = tmp_path / "exploded"
    monkeypatch.setenv("TERAMIND_TEST_BOMB", str(proof))
    path = tmp_path / "bad.ckpt"
    content = {"state_dict": {"model.x": torch.zeros(1)}, "hparams": _Bomb()}
    if kind == "plain":
        path.write_bytes(pickle.dumps({"hparams": _Bomb()}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(UserError, match="nothing in it was run"):
        load_model(path)
    assert not proof.exists()


def test_harmless_lightning_objects_are_read_past(tmp_path: Path) -> None:
    from argparse import Namespace

    content = torch.load(PARITY / "tiny.last.ckpt", weights_only=True)
    content["hyper_parameters"] = Namespace(lr=2e-5, path=Path("a"))
    torch.save(content, tmp_path / "real.ckpt")
    assert load_model(tmp_path / "real.ckpt").config.genes == 12


def _without(name: str) -> dict[str, torch.Tensor]:
    tensors = load_file(PARITY / "tiny.weights.safetensors")
    del tensors[name]
    return tensors


def _with(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**load_file(PARITY / "tiny.weights.safetensors"), name: value}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a": torch.zeros(2)}, "not the weights of a Tera-MIND network"),
        (lambda: _without("middle_block.0.in_layers.2.bias"), "is missing"),
        (lambda: _with("extra", torch.zeros(1)), "is not expected"),
        (lambda: _with("out.2.bias", torch.zeros(3)), "has shape"),
        (lambda: _with("out.2.bias", torch.full((2,), torch.nan)), "not finite"),
    ],
)
def test_wrong_weights(tmp_path: Path, tensors: Any, words: str) -> None:
    path = tmp_path / "wrong.safetensors"
    save_file(tensors() if callable(tensors) else tensors, path)
    with pytest.raises(UserError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "absent"])
def test_damaged_files(tmp_path: Path, suffix: str, damage: str) -> None:
    source = PARITY / ("tiny.weights.safetensors" if suffix == ".safetensors" else "tiny.last.ckpt")
    data = source.read_bytes()
    path = tmp_path / f"damaged{suffix}"
    if damage != "absent":
        path.write_bytes({"empty": b"", "truncated": data[:100_000], "text": b"hello\n"}[damage])
    with pytest.raises(UserError, match=r"damaged\.(safetensors|ckpt)"):
        load_model(path)


def test_a_checkpoint_without_state_dict(tmp_path: Path) -> None:
    torch.save({"weights": 1}, tmp_path / "a.ckpt")
    assert zipfile.is_zipfile(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="state_dict"):
        load_model(tmp_path / "a.ckpt")


def test_a_short_panel_is_refused() -> None:
    with pytest.raises(UserError, match="has 2 symbols but the network takes 12"):
        load_model(PARITY / "tiny.weights.safetensors", genes=["Th", "Nr4a2"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no genes"),
        ("name,id\nTh,1\n", "none named 'gene'"),
        ("gene\nTh\nTh\n", "more than once"),
    ],
)
def test_bad_gene_lists(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "genes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_gene_list(path)


def test_gene_lists_in_three_forms(tmp_path: Path) -> None:
    for text in ("gene\nTh\nNr4a2\n", "Th\nNr4a2\n", "id,gene\n1,Th\n2,Nr4a2\n"):
        path = tmp_path / "genes.csv"
        path.write_text(text)
        assert read_gene_list(path) == ("Th", "Nr4a2")

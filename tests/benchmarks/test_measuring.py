"""What the benchmarks count and compare is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from measuring import flops, report, world
from measuring.conv3d import Conv3dTeraMind
from published.network import PublishedNetwork
from torch.utils.flop_counter import FlopCounterMode

import napari_teramind as tm
from napari_teramind.model import ModelConfig, TeraMind
from napari_teramind.model.names import published_names

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ModelConfig(genes=5, channels=4, time_channels=16, patch=32, gene_channels=(8, 6, 4))


def conv3d_twin(model: TeraMind) -> Conv3dTeraMind:
    twin = Conv3dTeraMind(model.config).eval()
    state = dict(model.named_parameters())
    shapes = {name: value.shape for name, value in twin.published.state_dict().items()}
    names = published_names(model)
    twin.published.load_published(
        {theirs: state[ours].detach().view(shapes[theirs]) for ours, theirs in names.items()}
    )
    return twin


def test_cost_of_the_published_size_is_the_published_one() -> None:
    """6,436 GFLOP for a 256-px tile and step: 25 patches encoded at 48, 41 decoded at 127.4."""
    config = ModelConfig(genes=229)
    with torch.device("meta"):
        size = sum(p.numel() for p in PublishedNetwork(config).parameters())
    assert round(size / 1e6, 1) == 213.8
    each = flops.as_conv3d(config)
    assert round(each["encoder"] / 1e9) == 48
    assert each["decoder"] / 1e9 == pytest.approx(127.4, abs=0.1)
    tile = flops.published_patches(256, 256, 1, 64, both_decoders=True, cache_features=False)
    assert (tile.encoder, tile.decoder, tile.genes) == (25, 41, 25)
    assert round(tile.flop(each) / 1e9) == 6436
    # Half of the multiplications of convolutions over slices are left, less of upsampled values.
    ours = flops.as_ours(config)
    assert 0.45 < ours["decoder"] / each["decoder"] < 0.5


@torch.inference_mode()
def test_counting_patches_counts_what_the_engine_computes() -> None:
    model = world.random_network(TINY, 3)
    twin = conv3d_twin(model)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 2, 96, 160, generator=generator)
    g = torch.poisson(torch.full((5, 4, 8, 12), 0.5), generator=generator)
    expected = tm.sample(model, noise, g, steps=2)
    patches = flops.count_patches(twin)
    with FlopCounterMode(display=False) as counter:
        out = tm.sample(twin, noise, g, steps=2)
    assert out.std() > 0.1
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)
    assert patches.encoder >= 2 * 4 * 6
    assert patches.decoder >= 2 * 3 * 5
    assert 4 * 6 <= patches.genes < patches.encoder
    # The embedding of the time is computed once a step by the engine, and is not counted by patch.
    total = patches.flop(flops.as_conv3d(TINY))
    assert total == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_no_weight_is_zero() -> None:
    model = world.random_network(TINY, 0)
    assert all(bool((p != 0).all()) for p in model.parameters())


def test_ratios() -> None:
    run = {"gflop_as_conv3d": 8.0, "seconds": 6.0, "processor_seconds": 9.0, "peak_bytes": 4}
    rest = {"io": {"written": 30}, "result_bytes": 20, "grey_levels_off": 0.25}
    ours = {"gflop_as_conv3d": 4.0, "seconds": 1.5, "processor_seconds": 3.0, "peak_bytes": 2}
    found = report.ratios([{**run, **rest, "label": "a"}, {**ours, **rest, "label": "b"}])
    assert found == {
        "b": {
            "gflop": 2.0,
            "seconds": 4.0,
            "processor_seconds": 3.0,
            "peak_bytes": 2.0,
            "written_over_stored": 1.5,
            "grey_levels_off": 0.25,
        }
    }


def run(script: str, *options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_simulation_from_end_to_end(tmp_path: Path) -> None:
    options = "--channels 4 --genes 12 --size 256 --steps 2 --ladder-size 256 --ladder-steps 2"
    more = ["--ours", "float32", "bfloat16", "--results", str(tmp_path / "out.json")]
    table = run("simulate.py", *options.split(), *more)
    assert "| published, float32 |" in table
    found = json.loads((tmp_path / "out.json").read_text())
    published, ours, low = found["main"]
    assert 0 < published["grey_levels_off"] < 1
    assert ours["grey_levels_off"] == 0
    assert low["grey_levels_off"] > 0
    assert all(run["saturated"] < 0.9 for run in found["main"])
    assert published["gflop_as_conv3d"] > ours["gflop_as_conv3d"] > ours["gflop_executed"]
    # Two steps and the noise, in float16.
    assert published["state_bytes"]["written"] == 3 * 2 * 4 * 256 * 256
    rungs = found["ladder"]
    assert rungs[0]["label"] == "published"
    assert len({rung["label"] for rung in rungs}) == len(rungs) >= 7
    assert all(rung["grey_levels_off"] < 1 for rung in rungs)
    assert [area["planned_evaluations"] for area in found["areas"]] == [32, 128, 512]
    assert found["workers"][1]["pixels_that_differ_from_one_worker"] < 0.01


@pytest.mark.slow
def test_training_from_end_to_end(tmp_path: Path) -> None:
    options = ["--channels", "4", "--genes", "12", "--batch", "1", "--repeats", "2"]
    run("training.py", *options, "--results", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["agreement"]["worst_gradient"] < 1e-3
    assert [run["label"] for run in found["runs"]] == [
        "published, float32",
        "published, float32, freed memory kept",
        "ours, float32, eager kernels",
        "ours, float32",
        "ours, bfloat16 autocast, eager kernels",
        "ours, bfloat16 autocast",
    ]

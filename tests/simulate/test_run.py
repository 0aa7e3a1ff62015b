"""Runs into a brain: values, growth, cuts, tissue."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.brain.pyramid import mean_halve
from napari_teramind.brain.result import ResultWriter
from napari_teramind.diffusion.samplers import plan_steps, take_step
from napari_teramind.model import TeraMind
from napari_teramind.simulate import Request, lay_out, simulate_to_store
from napari_teramind.simulate.readers import gene_reader, noise_reader
from napari_teramind.simulate.region import OUTSIDE, PatchBox, Settings
from napari_teramind.simulate.roi import GroupRun, to_uint8
from napari_teramind.simulate.run import describe, generate_unit, work_units
from napari_teramind.simulate.tissue import ActivePatches
from napari_teramind.simulate.wavefront import Wavefront

from .runs import SHARDS, STEPS, TILE, WHOLE, stored


@pytest.mark.usefixtures("small_shards")
def test_a_result_has_the_values_of_the_array_and_its_pyramid(
    small_copy: Path, network: TeraMind, whole: np.ndarray
) -> None:
    brain = tm.open_brain(small_copy)
    path = simulate_to_store(brain, network, "a", WHOLE)
    levels = stored(small_copy)
    expected = whole
    for level in levels:
        np.testing.assert_array_equal(level, expected)
        expected = mean_halve(expected)
    assert len(levels) >= 3
    array = zarr.open_array(f"{path}/0", mode="r")
    assert array.shards == (2, 1, TILE, TILE)
    assert not (small_copy / ".runs" / "simulations" / "a").exists()


@pytest.mark.usefixtures("small_shards")
def test_it_grows_as_it_goes_and_is_no_result_before_its_end(
    small_copy: Path, network: TeraMind, whole: np.ndarray
) -> None:
    brain = tm.open_brain(small_copy)
    layout = lay_out(brain, network.config, WHOLE)
    seen = 0
    with ResultWriter.create(brain, "a", WHOLE.roi, WHOLE.slices, {}) as writer:
        run = GroupRun(brain, network, layout)
        for unit in work_units(writer, layout):
            for shard, block in generate_unit(run, writer, unit):
                writer.write(shard, block)
                seen += 1
                if seen == 7:
                    assert "a" not in brain.simulations
                    assert brain.simulations.unfinished() == ["a"]
                    growing = brain.simulations.growing("a").levels
                    part = np.asarray(growing[0][:])
                    same = part == whole
                    assert 0 < same.mean() < 1
                    # The coarsest level shows the first rows before the slice is complete.
                    assert np.asarray(growing[-1][:, 0]).any() or len(growing) < 4
        writer.finish()
    assert seen == SHARDS
    assert brain.simulations.unfinished() == []


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lane=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
    band=st.sampled_from([None, 1, 3]),
)
def test_any_cut_and_order_gives_the_same_bits(
    small_brain: BrainStore,
    network: TeraMind,
    whole: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
    lane: int,
    order: random.Random,
    band: int | None,
) -> None:
    """Units of any lane width, in any order, against the whole in one piece."""
    layout = lay_out(small_brain, network.config, WHOLE)
    out = np.zeros_like(whole)
    targets = [
        (first, PatchBox(top, top + 2, left, min(left + lane, 8)))
        for first in layout.groups
        for top in range(0, 4, 2)
        for left in range(0, 8, lane)
    ]
    order.shuffle(targets)
    run = GroupRun(small_brain, network, layout)
    for first, target in targets[:6]:
        wave = Wavefront(
            network, target, layout.area, run.steps,
            gene_reader(small_brain, network, run.panel, first),
            noise_reader(small_brain, network, "philox", 3, first),
            Settings(band, layout.settings.batch),
        )  # fmt: skip
        y0, y1, x0, x1 = target.pixels(32)
        image = to_uint8(wave.run()).numpy()
        np.testing.assert_array_equal(image, whole[:, first : first + 2, y0:y1, x0:x1])
        out[:, first : first + 2, y0:y1, x0:x1] = image


@torch.inference_mode()
def stepped_with_mask(
    brain: BrainStore, network: TeraMind, active: np.ndarray, first: int, sampler: str
) -> torch.Tensor:
    """Plain stepping by the definition, all patches, those outside the mask put back to -1."""
    p = 32
    idle = torch.from_numpy(~active).repeat_interleave(p, 0).repeat_interleave(p, 1)
    panel = network.gene_names
    assert panel is not None
    area = PatchBox(0, 4, 0, 8)
    x = noise_reader(brain, network, "philox", 3, first)(area).masked_fill(idle, OUTSIDE)
    g = gene_reader(brain, network, panel, first)(PatchBox(0, 5, 0, 9))
    x0 = None
    for step in plan_steps(sampler, 3):
        padded = torch.nn.functional.pad(x, [p // 2] * 4, value=OUTSIDE)
        eps = network.predict_noise(padded[None], g[None], torch.tensor([step.t]))[0]
        x, x0 = take_step(x, eps, step, x0)
        x = x.masked_fill(idle, OUTSIDE)
    return x


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
@pytest.mark.parametrize("band", [None, 2])
def test_a_mask_of_tissue_equals_stepping_with_it(
    small_brain: BrainStore, network: TeraMind, sampler: str, band: int | None
) -> None:
    request = Request(WHOLE.roi, (0, 4), seed=3, steps=3, sampler=sampler, where="tissue")
    layout = lay_out(small_brain, network.config, request)
    active = np.random.default_rng(0).random((4, 8)) < 0.5
    run = Wavefront(
        network, layout.target, layout.area, plan_steps(sampler, 3),
        gene_reader(small_brain, network, network.gene_names or (), 2),
        noise_reader(small_brain, network, "philox", 3, 2),
        Settings(band, 8), active,
    )  # fmt: skip
    expected = stepped_with_mask(small_brain, network, active, 2, sampler)
    torch.testing.assert_close(run.run(), expected, atol=1e-3, rtol=0)
    assert run.evaluated == run.evaluations == 3 * active.sum()


def test_tissue_is_grown_by_a_patch_and_nothing_else_is_made(
    small_copy: Path, network: TeraMind
) -> None:
    brain = tm.open_brain(small_copy)
    request = Request(WHOLE.roi, (0, 2), steps=STEPS, where="tissue")
    layout = lay_out(brain, network.config, request)
    active = ActivePatches(brain, layout)[0]
    assert active is not None
    # Tissue: bins 2..7 by 2..15, so patches 1..3 by 1..7, and one more on every side.
    assert active.all()
    smaller = Request((0, 32, 0, 256), (0, 2), steps=STEPS, where="tissue")
    part = ActivePatches(brain, lay_out(brain, network.config, smaller))[0]
    assert part is not None
    np.testing.assert_array_equal(part, active)


@pytest.mark.usefixtures("small_shards")
def test_what_holds_no_tissue_is_black_and_has_no_file(tmp_path: Path, network: TeraMind) -> None:
    from napari_teramind.brain import BrainWriter, LabelInfo

    writer = BrainWriter.create(
        tmp_path / "b.zarr", name="b", shape=(2, 256, 512), genes=network.gene_names or (),
        labels={"tissue": LabelInfo(16)},
    )  # fmt: skip
    rng = np.random.default_rng(0)
    tissue = np.zeros((16, 32), np.uint32)
    tissue[4:8, 4:8] = 1
    for z in range(2):
        writer.write_stains(z, 0, 0, rng.integers(0, 255, (2, 256, 512), dtype=np.uint8))
        writer.write_genes(z, 0, 0, rng.poisson(1.0, (5, 16, 32)))
        writer.write_label("tissue", z, tissue)
    brain = writer.finish()
    request = Request((0, 256, 0, 512), (0, 2), steps=STEPS, where="tissue")
    path = simulate_to_store(brain, network, "a", request)
    image = np.asarray(brain.simulations["a"].levels[0][:])
    # Patches 2..3 of 32 px hold tissue, and 1..4 are computed: px 32 to 160.
    computed = np.zeros((256, 512), bool)
    computed[32:160, 32:160] = True
    assert not image[..., ~computed].any()
    assert image[..., computed].std() > 10
    files = sum(1 for f in Path(path, "0").rglob("*") if f.is_file() and f.name != "zarr.json")
    assert files == 2 * 3 * 3
    layout = lay_out(brain, network.config, request)
    assert ActivePatches(brain, layout).evaluations() == STEPS * 16


def test_provenance_says_what_equal_bits_need(small_brain: BrainStore, network: TeraMind) -> None:
    said = describe(network, lay_out(small_brain, network.config, WHOLE), {"verb": "simulate"})
    assert said["cut"] == {"band": None, "batch": 8}
    assert said["precision"] == "float32"
    assert said["threads"] == torch.get_num_threads()
    assert Request.from_dict(json.loads(json.dumps(said["request"]))) == WHOLE

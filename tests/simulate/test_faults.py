"""Runs that meet a damaged shard, a second run, a fault, a full disk, or a lack of memory."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.brain.result import ResultWriter
from napari_teramind.errors import UserError
from napari_teramind.jobs import SimulateSpec, run_job
from napari_teramind.jobs.events import Event
from napari_teramind.model import TeraMind
from napari_teramind.simulate import Request, lay_out, simulate_to_store
from napari_teramind.simulate import run as run_module
from napari_teramind.simulate import workers as workers_module
from napari_teramind.simulate.roi import GroupRun
from napari_teramind.simulate.run import complete, generate_unit, work_units
from simulations import full_disk

from .runs import SHARDS, WHOLE, stored


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_found_and_computed_again(
    small_copy: Path, network: TeraMind, whole: np.ndarray
) -> None:
    brain = tm.open_brain(small_copy)
    layout = lay_out(brain, network.config, WHOLE)
    with ResultWriter.create(brain, "a", WHOLE.roi, WHOLE.slices, {}) as writer:
        run = GroupRun(brain, network, layout)
        for shard, block in generate_unit(run, writer, work_units(writer, layout)[0]):
            writer.write(shard, block)
    files = sorted(f for f in (writer.path / "0" / "c").rglob("*") if f.is_file())
    files[0].write_bytes(files[0].read_bytes()[:-40])
    files[1].write_bytes(files[2].read_bytes())
    files[3].unlink()
    with ResultWriter.resume(brain, "a") as again:
        assert len(writer.done - again.done) == 3
        complete(brain, network, again, layout)
    np.testing.assert_array_equal(stored(small_copy)[0], whole)


@pytest.mark.usefixtures("small_shards")
def test_two_runs_never_write_one_result(small_copy: Path, network: TeraMind) -> None:
    brain = tm.open_brain(small_copy)
    with ResultWriter.create(brain, "a", WHOLE.roi, WHOLE.slices, {}):
        with pytest.raises(UserError, match="Another run is writing"):
            ResultWriter.resume(brain, "a")
        with pytest.raises(UserError, match="Another run is writing"):
            ResultWriter.create(brain, "a", WHOLE.roi, WHOLE.slices, {}, overwrite=True)
    with pytest.raises(UserError, match="unfinished simulation 'a'"):
        simulate_to_store(brain, network, "a", WHOLE)
    with pytest.raises(UserError, match="no simulation 'b' to resume"):
        ResultWriter.resume(brain, "b")


def test_a_result_is_replaced_only_by_a_complete_one(
    small_copy: Path, network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    brain = tm.open_brain(small_copy)
    request = Request((0, 64, 0, 64), (0, 2), steps=1)
    simulate_to_store(brain, network, "a", request)
    before = stored(small_copy)[0]

    def fail(*_: Any) -> None:
        raise RuntimeError("a fault of the test")

    with monkeypatch.context() as patch:
        patch.setattr(TeraMind, "decode", fail)
        with pytest.raises(RuntimeError, match="of the test"):
            simulate_to_store(brain, network, "a", request, overwrite=True)
    np.testing.assert_array_equal(stored(small_copy)[0], before)
    other = Request((0, 64, 0, 64), (0, 2), steps=1, seed=9)
    simulate_to_store(brain, network, "a", other, overwrite=True)
    assert (stored(small_copy)[0] != before).mean() > 0.5
    assert [f.name for f in (small_copy / "simulations").iterdir() if f.is_dir()] == ["a"]


@pytest.mark.parametrize(
    ("workers", "module", "part"),
    [(1, run_module, "complete"), (2, workers_module, "complete_with_workers")],
    ids=["alone", "with-workers"],
)
def test_a_job_that_fails_before_its_first_shard_leaves_nothing(
    small_copy: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    module: ModuleType,
    part: str,
) -> None:
    def fail(*_: Any) -> None:
        raise UserError("A fault of the test.")

    monkeypatch.setattr(module, part, fail)
    events: list[Event] = []
    spec = SimulateSpec(
        brain=str(small_copy), checkpoint=checkpoint, roi=(0, 64, 0, 64), slices=(0, 2), steps=1,
        halo=0, name="a", workers=workers,
    )  # fmt: skip
    assert run_job(spec, events.append) == 2
    assert events[-1].model_dump()["message"] == "A fault of the test."
    brain = tm.open_brain(small_copy)
    assert list(brain.simulations) == brain.simulations.unfinished() == []


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_stops_cleanly_and_the_run_goes_on(
    small_copy: Path, network: TeraMind, whole: np.ndarray
) -> None:
    brain = tm.open_brain(small_copy)
    with full_disk(20), pytest.raises(UserError, match=r"disk of .* is full; .*resume"):
        simulate_to_store(brain, network, "a", WHOLE)
    assert brain.simulations.unfinished() == ["a"]
    with ResultWriter.resume(brain, "a") as writer:
        assert 0 < len(writer.done) < SHARDS
        complete(brain, network, writer, lay_out(brain, network.config, WHOLE))
    np.testing.assert_array_equal(stored(small_copy)[0], whole)


def test_when_memory_runs_out_the_batch_halves(
    small_copy: Path, network: TeraMind, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocating call fails for large batches, as it does on a GPU that is short of memory."""
    real = torch.nn.functional.conv2d
    seen: list[int] = []

    def conv2d(x: torch.Tensor, kernel: torch.Tensor, *arguments: Any, **more: Any) -> torch.Tensor:
        if kernel.shape[-1] > 1:  # linear layers are convolutions too, of positions
            seen.append(x.shape[0])
            if x.shape[0] > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(x, kernel, *arguments, **more)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    told: list[str] = []
    brain = tm.open_brain(small_copy)
    simulate_to_store(brain, network, "a", WHOLE, warn=told.append)
    assert sorted(set(seen)) == [2, 4, 8]
    assert len(told) == 2
    assert "2 patches are computed at a time" in told[-1]
    found = brain.simulations["a"]
    assert found.provenance["batch_halved_to"] == 2
    assert np.abs(stored(small_copy)[0].astype(int) - whole).max() <= 1


def test_when_not_even_one_patch_fits_it_is_said(
    small_brain: BrainStore, network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conv2d(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    with pytest.raises(UserError, match="Not even one patch fits into the memory of the CPU"):
        tm.simulate(small_brain, network, (0, 32, 0, 32), (0, 2), steps=1)

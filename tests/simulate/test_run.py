"""Runs into a brain: killed, out of memory or disk, damaged, by several processes."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_teramind as tm
from napari_teramind.brain import BrainStore, result
from napari_teramind.brain.pyramid import mean_halve
from napari_teramind.brain.result import ResultWriter
from napari_teramind.diffusion.samplers import plan_steps, take_step
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind, save_model
from napari_teramind.simulate import Request, lay_out, simulate_to_store
from napari_teramind.simulate.readers import gene_reader, noise_reader
from napari_teramind.simulate.region import OUTSIDE, PatchBox, Settings
from napari_teramind.simulate.roi import GroupRun, to_uint8
from napari_teramind.simulate.run import complete, describe, generate_unit, work_units
from napari_teramind.simulate.wavefront import Wavefront

STEPS = 2
TILE = 64
WHOLE = Request((0, 256, 0, 384), (0, 4), seed=3, steps=STEPS)

# The command line with shards so small that a small brain has many.
COMMAND = f"""
import napari_teramind.brain.result as result
result._SMALL_TILE = {TILE}
from napari_teramind.cli import main
main()
"""


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut results into many shards."""
    monkeypatch.setattr(result, "_SMALL_TILE", TILE)


@pytest.fixture(scope="module")
def network(make_network: Callable[..., TeraMind], tiny_brain: BrainStore) -> TeraMind:
    network = make_network(genes=5, patch=32, channels=2, time_channels=16, prediction="v")
    network.gene_names = tiny_brain.gene_names[2:7]
    return network


@pytest.fixture(scope="module")
def whole(tiny_brain: BrainStore, network: TeraMind) -> np.ndarray:
    """Generate the whole brain, 4 slices of 256 x 384 px."""
    return tm.simulate(tiny_brain, network, WHOLE.roi, WHOLE.slices, seed=3, steps=STEPS)


def stored(path: Path, name: str = "a") -> list[np.ndarray]:
    found = tm.open_brain(path).simulations[name]
    return [np.asarray(level[:]) for level in found.levels]


def shard_files(path: Path) -> dict[str, bytes]:
    """All files of a result's arrays."""
    folder = path / "simulations" / "a"
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.glob("[0-9]*/**/*"))
        if file.is_file()
    }


@pytest.mark.usefixtures("small_shards")
def test_a_result_has_the_values_of_the_array_and_its_pyramid(
    brain_copy: Path, network: TeraMind, whole: np.ndarray
) -> None:
    brain = tm.open_brain(brain_copy)
    path = simulate_to_store(brain, network, "a", WHOLE)
    levels = stored(brain_copy)
    expected = whole
    for level in levels:
        np.testing.assert_array_equal(level, expected)
        expected = mean_halve(expected)
    assert len(levels) >= 3
    array = zarr.open_array(f"{path}/0", mode="r")
    assert array.shards == (2, 1, TILE, TILE)
    assert not (brain_copy / ".runs" / "a").exists()


@pytest.mark.usefixtures("small_shards")
def test_it_grows_as_it_goes_and_is_no_result_before_its_end(
    brain_copy: Path, network: TeraMind, whole: np.ndarray
) -> None:
    brain = tm.open_brain(brain_copy)
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
    assert seen == 4 * 4 * 6
    assert brain.simulations.unfinished() == []


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lane=st.integers(1, 6),
    order=st.randoms(use_true_random=False),
    band=st.sampled_from([None, 1, 3]),
)
def test_any_cut_and_order_gives_the_same_bits(
    tiny_brain: BrainStore,
    network: TeraMind,
    whole: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
    lane: int,
    order: random.Random,
    band: int | None,
) -> None:
    """Units of any lane width, in any order, against the whole in one piece."""
    layout = lay_out(tiny_brain, network.config, WHOLE)
    out = np.zeros_like(whole)
    targets = [
        (first, PatchBox(top, top + 2, left, min(left + lane, 12)))
        for first in layout.groups
        for top in range(0, 8, 2)
        for left in range(0, 12, lane)
    ]
    order.shuffle(targets)
    run = GroupRun(tiny_brain, network, layout)
    for first, target in targets[:6]:
        wave = Wavefront(
            network, target, layout.area, run.steps,
            gene_reader(tiny_brain, network, run.panel, first),
            noise_reader(tiny_brain, network, "philox", 3, first),
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
    area = PatchBox(0, 8, 0, 12)
    x = noise_reader(brain, network, "philox", 3, first)(area).masked_fill(idle, OUTSIDE)
    g = gene_reader(brain, network, panel, first)(PatchBox(0, 9, 0, 13))
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
    tiny_brain: BrainStore, network: TeraMind, sampler: str, band: int | None
) -> None:
    request = Request(WHOLE.roi, (0, 4), seed=3, steps=3, sampler=sampler, where="tissue")
    layout = lay_out(tiny_brain, network.config, request)
    active = np.random.default_rng(0).random((8, 12)) < 0.5
    run = Wavefront(
        network, layout.target, layout.area, plan_steps(sampler, 3),
        gene_reader(tiny_brain, network, network.gene_names or (), 2),
        noise_reader(tiny_brain, network, "philox", 3, 2),
        Settings(band, 8), active,
    )  # fmt: skip
    expected = stepped_with_mask(tiny_brain, network, active, 2, sampler)
    torch.testing.assert_close(run.run(), expected, atol=1e-3, rtol=0)
    assert run.evaluated == run.evaluations == 3 * active.sum()


def test_tissue_is_grown_by_a_patch_and_nothing_else_is_made(
    brain_copy: Path, network: TeraMind
) -> None:
    brain = tm.open_brain(brain_copy)
    request = Request(WHOLE.roi, (0, 2), steps=STEPS, where="tissue")
    layout = lay_out(brain, network.config, request)
    active = layout.active(brain, 0)
    assert active is not None
    # Tissue: bins 2..13 by 2..21, so patches 1..6 by 1..10, and one more on every side.
    assert active.all()
    smaller = Request((0, 32, 0, 384), (0, 2), steps=STEPS, where="tissue")
    part = lay_out(brain, network.config, smaller).active(brain, 0)
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
    assert layout.evaluations(brain) == STEPS * 16


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_found_and_computed_again(
    brain_copy: Path, network: TeraMind, whole: np.ndarray
) -> None:
    brain = tm.open_brain(brain_copy)
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
    np.testing.assert_array_equal(stored(brain_copy)[0], whole)


@pytest.mark.usefixtures("small_shards")
def test_two_runs_never_write_one_result(brain_copy: Path, network: TeraMind) -> None:
    brain = tm.open_brain(brain_copy)
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
    brain_copy: Path, network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    brain = tm.open_brain(brain_copy)
    request = Request((0, 64, 0, 64), (0, 2), steps=1)
    simulate_to_store(brain, network, "a", request)
    before = stored(brain_copy)[0]

    def fail(*_: Any) -> None:
        raise RuntimeError("a fault of the test")

    with monkeypatch.context() as patch:
        patch.setattr(TeraMind, "decode", fail)
        with pytest.raises(RuntimeError, match="of the test"):
            simulate_to_store(brain, network, "a", request, overwrite=True)
    np.testing.assert_array_equal(stored(brain_copy)[0], before)
    other = Request((0, 64, 0, 64), (0, 2), steps=1, seed=9)
    simulate_to_store(brain, network, "a", other, overwrite=True)
    assert (stored(brain_copy)[0] != before).mean() > 0.5
    assert [f.name for f in (brain_copy / "simulations").iterdir() if f.is_dir()] == ["a"]


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_stops_cleanly_and_the_run_goes_on(
    brain_copy: Path, network: TeraMind, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store itself says ENOSPC, in the middle of a shard, as a full disk does."""
    from zarr.storage import LocalStore

    brain = tm.open_brain(brain_copy)
    real, left = LocalStore.set, [40]

    async def full(self: LocalStore, key: str, value: Any, *more: Any) -> None:
        if "/c/" in f"/{key}":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        await real(self, key, value, *more)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "set", full)
        with pytest.raises(UserError, match=r"disk of .* is full; .*resume"):
            simulate_to_store(brain, network, "a", WHOLE)
    assert brain.simulations.unfinished() == ["a"]
    with ResultWriter.resume(brain, "a") as writer:
        assert 0 < len(writer.done) < 4 * 4 * 6
        complete(brain, network, writer, lay_out(brain, network.config, WHOLE))
    np.testing.assert_array_equal(stored(brain_copy)[0], whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MB; skip where mounting is not allowed (the test above runs)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here; the store wrapper above stands in")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_really_full_disk(
    small_disk: Path, tmp_path: Path, brain_copy: Path, checkpoint: Path, expected: list[np.ndarray]
) -> None:
    import shutil

    brain = small_disk / "brain.zarr"
    shutil.copytree(brain_copy, brain)
    filler = small_disk / "filler"
    # The estimate of the plan fits, what others write meanwhile does not.
    free = shutil.disk_usage(small_disk).free
    command = simulate_command(brain, checkpoint)
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    ledger = brain / ".runs" / "a" / "ledger.jsonl"
    wait_until(lambda: ledger.exists() and ledger.stat().st_size > 0, process)
    with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
        file.write(b"x" * free)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "is full" in errors
    assert "Traceback" not in errors
    filler.unlink()
    done = subprocess.run(resume_command(brain), env=environment(), check=False)
    assert done.returncode == 0
    for level, wanted in zip(stored(brain), expected, strict=True):
        np.testing.assert_array_equal(level, wanted)


def test_when_memory_runs_out_the_batch_halves(
    brain_copy: Path, network: TeraMind, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocating call fails for large batches, as it does on a GPU that is short of memory."""
    real = torch.nn.functional.conv2d
    seen: list[int] = []

    def conv2d(x: torch.Tensor, *arguments: Any, **more: Any) -> torch.Tensor:
        seen.append(x.shape[0])
        if x.shape[0] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(x, *arguments, **more)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    told: list[str] = []
    brain = tm.open_brain(brain_copy)
    simulate_to_store(brain, network, "a", WHOLE, warn=told.append)
    assert sorted(set(seen)) == [2, 4, 8]
    assert len(told) == 2
    assert "2 patches are computed at a time" in told[-1]
    found = brain.simulations["a"]
    assert found.provenance["batch_halved_to"] == 2
    assert np.abs(stored(brain_copy)[0].astype(int) - whole).max() <= 1


def test_when_not_even_one_patch_fits_it_is_said(
    tiny_brain: BrainStore, network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conv2d(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    with pytest.raises(UserError, match="Not even one patch fits into the memory of the CPU"):
        tm.simulate(tiny_brain, network, (0, 32, 0, 32), (0, 2), steps=1)


# Processes


@pytest.fixture(scope="module")
def checkpoint(network: TeraMind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "network.safetensors"
    save_model(network, path, {})
    return path


@pytest.fixture(scope="module")
def expected(whole: np.ndarray) -> list[np.ndarray]:
    levels = [whole]
    for _ in range(2):
        levels.append(mean_halve(levels[-1]))
    return levels


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def simulate_command(brain: Path, checkpoint: Path, *more: str) -> list[str]:
    options = ["--seed", "3", "--steps", str(STEPS), "--name", "a", "--where", "all", *more]
    return [
        sys.executable, "-c", COMMAND, "simulate", str(brain), "--checkpoint", str(checkpoint),
        *options,
    ]  # fmt: skip


def resume_command(brain: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, "resume", str(brain), *more]


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_and_resumed_it_is_the_same(
    brain_copy: Path, checkpoint: Path, expected: list[np.ndarray]
) -> None:
    ledger = brain_copy / ".runs" / "a" / "ledger.jsonl"
    command = simulate_command(brain_copy, checkpoint)
    for shards in (1, 30):
        process = subprocess.Popen(command, env=environment(), text=True)
        wait_until(
            lambda n=shards: ledger.exists() and len(ledger.read_bytes().splitlines()) >= n,
            process,
        )
        process.kill()
        process.wait()
        command = resume_command(brain_copy)
    assert tm.open_brain(brain_copy).simulations.unfinished() == ["a"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for level, wanted in zip(stored(brain_copy), expected, strict=True):
        np.testing.assert_array_equal(level, wanted)
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "nothing to resume" in again.stderr


def test_workers_give_the_same_and_may_die(
    brain_copy: Path, checkpoint: Path, expected: list[np.ndarray]
) -> None:
    import psutil

    command = simulate_command(brain_copy, checkpoint, "--workers", "2", "--json")
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    parent = psutil.Process(process.pid)

    def workers() -> list[psutil.Process]:
        return [
            child
            for child in parent.children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]

    wait_until(
        lambda: len(workers()) == 2 and min(w.cpu_times().user for w in workers()) > 2, process
    )
    workers()[0].send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=200)
    events = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, events[-1]
    told = [event["message"] for event in events if event["event"] == "warning"]
    assert told == ["A worker process died; what it was at is done again."]
    for level, wanted in zip(stored(brain_copy), expected, strict=True):
        np.testing.assert_array_equal(level, wanted)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills(tmp_path: Path, make_network: Callable[..., TeraMind]) -> None:
    """A phantom brain, all slice groups, killed at random moments: the same bytes in every file."""
    from napari_teramind.phantom import make_phantom

    brains = [tmp_path / "plain.zarr", tmp_path / "killed.zarr"]
    for brain in brains:
        made = make_phantom(brain, size="XS")
    network = make_network(genes=5, patch=32, channels=2, time_channels=16, prediction="v")
    network.gene_names = made.gene_names[:5]
    path = tmp_path / "network.safetensors"
    save_model(network, path, {})
    plain = simulate_command(brains[0], path, "--steps", "3", "--where", "tissue")
    subprocess.run(plain, env=environment(), check=True)
    command = simulate_command(brains[1], path, "--steps", "3", "--where", "tissue")
    rng = random.Random(0)
    kills, wait = 0, 4.0
    while kills < 20:
        process = subprocess.Popen(command, env=environment())
        try:
            process.wait(timeout=wait + rng.uniform(0, 5))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        unfinished = tm.open_brain(brains[1]).simulations.unfinished()
        command = resume_command(brains[1]) if unfinished else command
    assert kills == 20
    subprocess.run(command, env=environment(), check=True)
    files = [shard_files(brain) for brain in brains]
    assert files[0] == files[1]
    assert len(files[0]) > 100


def test_provenance_says_what_equal_bits_need(tiny_brain: BrainStore, network: TeraMind) -> None:
    said = describe(network, lay_out(tiny_brain, network.config, WHOLE), {"verb": "simulate"})
    assert said["cut"] == {"band": None, "batch": 8}
    assert said["precision"] == "float32"
    assert said["threads"] == torch.get_num_threads()
    assert Request.from_dict(json.loads(json.dumps(said["request"]))) == WHOLE

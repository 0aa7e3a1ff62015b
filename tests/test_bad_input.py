"""Bad checkpoints, brains and requests: one sentence, exit code 2, and nothing is done."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zarr
from safetensors.torch import load_file, save_file

from napari_teramind.brain import BrainWriter
from napari_teramind.model import load_model, save_model
from spoiling import PARITY, Case, Cases, Payload, World, check, refuse

bad = Cases()


# Checkpoints -----------------------------------------------------------------------------------


def convert(source: Path, *more: object) -> list[object]:
    return ["checkpoint", "convert", source, "-o", source.parent / "out.safetensors", *more]


def simulate(world: World, *more: object, checkpoint: Path | None = None) -> list[object]:
    return [
        "simulate", world.brain(), "--checkpoint", checkpoint or world.checkpoint(),
        "--roi", "0,64,0,64", "--slices", "0:2", "--steps", "1", *more,
    ]  # fmt: skip


@bad("contains code")
def malicious_pickle(world: World) -> list[object]:
    return convert(world.file("evil.ckpt", pickle.dumps({"state_dict": Payload(world.mark)})))


@bad("contains code")
def malicious_torch_archive(world: World) -> list[object]:
    path = world.folder / "evil.ckpt"
    torch.save({"state_dict": {"model.x": torch.zeros(2)}, "extra": Payload(world.mark)}, path)
    return convert(path)


@bad("contains code")
def malicious_checkpoint_to_simulate(world: World) -> list[object]:
    path = world.folder / "evil.ckpt"
    torch.save(Payload(world.mark), path)
    return simulate(world, checkpoint=path)


@bad("contains code")
def malicious_checkpoint_to_look_at(world: World) -> list[object]:
    path = world.folder / "evil.ckpt"
    torch.save([Payload(world.mark)], path)
    return ["info", path]


@bad("evil.safetensors")
def malicious_pickle_named_safetensors(world: World) -> list[object]:
    return ["info", world.file("evil.safetensors", pickle.dumps(Payload(world.mark)))]


@bad("cut.ckpt")
def truncated_ckpt(world: World) -> list[object]:
    whole = (PARITY / "tiny.last.ckpt").read_bytes()
    return convert(world.file("cut.ckpt", whole[: len(whole) // 2]))


@bad("cut.safetensors")
def truncated_safetensors(world: World) -> list[object]:
    whole = world.checkpoint().read_bytes()
    return simulate(world, checkpoint=world.file("cut.safetensors", whole[: len(whole) // 2]))


@bad("empty.ckpt")
def empty_ckpt(world: World) -> list[object]:
    return convert(world.file("empty.ckpt"))


@bad("empty.safetensors")
def empty_safetensors(world: World) -> list[object]:
    return simulate(world, checkpoint=world.file("empty.safetensors"))


@bad("text.ckpt")
def text_as_ckpt(world: World) -> list[object]:
    return convert(world.file("text.ckpt", "not found"))


@bad("zip.ckpt")
def other_archive_as_ckpt(world: World) -> list[object]:
    path = world.folder / "zip.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return convert(path)


@bad("state_dict")
def ckpt_without_state_dict(world: World) -> list[object]:
    path = world.folder / "other.ckpt"
    torch.save({"epoch": 3}, path)
    return convert(path)


@bad("no checkpoint")
def missing_checkpoint(world: World) -> list[object]:
    return simulate(world, checkpoint=world.folder / "nowhere.safetensors")


def spoiled(world: World, spoil: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    tensors = load_file(world.checkpoint())
    spoil(tensors)
    path = world.folder / "spoiled.safetensors"
    save_file(tensors, path)
    return path


@bad("spoiled.safetensors")
def wrong_shape(world: World) -> list[object]:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        name = max(tensors, key=lambda key: tensors[key].ndim)
        tensors[name] = tensors[name][:1].clone()

    return simulate(world, checkpoint=spoiled(world, spoil))


@bad("spoiled.safetensors")
def missing_tensor(world: World) -> list[object]:
    return ["info", spoiled(world, lambda tensors: tensors.pop(sorted(tensors)[5]))]


@bad("spoiled.safetensors")
def another_kind_of_network(world: World) -> list[object]:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors.clear()
        tensors["fc.weight"] = torch.zeros(10, 10)

    return ["info", spoiled(world, spoil)]


@bad("lacks")
def checkpoint_of_another_panel(world: World) -> list[object]:
    model = load_model(world.checkpoint(), genes=[f"Other{i}" for i in range(12)])
    path = world.folder / "other.safetensors"
    save_model(model, path)
    return simulate(world, checkpoint=path)


@bad("12")
def panel_that_is_too_short(world: World) -> list[object]:
    return simulate(world, "--genes", world.panel("Th", "Gad1"))


@bad("panel.csv")
def panel_without_genes(world: World) -> list[object]:
    return convert(world.checkpoint(), "--genes", world.panel())


@bad("nowhere.csv")
def missing_panel(world: World) -> list[object]:
    return simulate(world, "--genes", world.folder / "nowhere.csv")


@bad("exists already")
def conversion_onto_an_existing_file(world: World) -> list[object]:
    return convert(world.file("out.safetensors").with_name("x.ckpt"))


@bad(".safetensors")
def conversion_into_another_format(world: World) -> list[object]:
    return ["checkpoint", "convert", world.checkpoint(), "-o", world.folder / "out.pt"]


# Brains ----------------------------------------------------------------------------------------


@bad("nowhere.zarr")
def missing_brain(world: World) -> list[object]:
    return ["info", world.folder / "nowhere.zarr"]


@bad("image.zarr")
def zarr_that_is_no_brain(world: World) -> list[object]:
    return ["info", world.image("image.zarr", (1, 1, 64, 64), 0.108)]


@bad("array.zarr")
def zarr_array_as_brain(world: World) -> list[object]:
    path = world.folder / "array.zarr"
    zarr.create_array(path, shape=(4, 4), dtype="u1")
    return ["info", path]


@bad("empty")
def empty_folder_as_brain(world: World) -> list[object]:
    (world.folder / "empty").mkdir()
    return simulate_with_brain(world.folder / "empty", world)


@bad("brain.txt")
def file_as_brain(world: World) -> list[object]:
    return ["info", world.file("brain.txt", "brain")]


@bad("half.zarr")
def half_made_brain(world: World) -> list[object]:
    path = world.folder / "half.zarr"
    BrainWriter.create(path, name="half", shape=(1, 64, 64), genes=["Th"])
    return simulate_with_brain(path, world)


@bad("brain.zarr")
def brain_with_damaged_metadata(world: World) -> list[object]:
    (world.brain() / "zarr.json").write_text("{")
    return ["info", world.brain()]


def simulate_with_brain(path: Path, world: World) -> list[object]:
    return ["simulate", path, "--checkpoint", world.checkpoint()]


# Requests to generate --------------------------------------------------------------------------


@bad("256 x 384")
def roi_outside_the_brain(world: World) -> list[object]:
    return simulate(world, "--roi", "0,64,400,464")


@bad("256 x 384")
def roi_across_the_border(world: World) -> list[object]:
    return simulate(world, "--roi", "-8,64,0,64")


@bad("empty")
def empty_roi(world: World) -> list[object]:
    return simulate(world, "--roi", "64,64,0,64")


@bad("--roi")
def roi_of_three_numbers(world: World) -> list[object]:
    return simulate(world, "--roi", "0,64,0")


@bad("--roi")
def roi_in_words(world: World) -> list[object]:
    return simulate(world, "--roi", "a,b,c,d")


@bad("4 slices")
def slices_outside_the_brain(world: World) -> list[object]:
    return simulate(world, "--slices", "2:9")


@bad("--slices")
def slices_of_one_number(world: World) -> list[object]:
    return simulate(world, "--slices", "3")


@bad("steps")
def steps_that_no_stride_gives(world: World) -> list[object]:
    return simulate(world, "--steps", "999")


@bad("--steps")
def no_steps(world: World) -> list[object]:
    return simulate(world, "--steps", "0")


@bad("--sampler")
def unknown_sampler(world: World) -> list[object]:
    return simulate(world, "--sampler", "magic")


@bad("halo")
def unknown_halo(world: World) -> list[object]:
    return simulate(world, "--halo", "wide")


@bad("no device 'tpu'")
def unknown_device(world: World) -> list[object]:
    return simulate(world, "--device", "tpu")


@bad("name")
def name_that_leaves_the_brain(world: World) -> list[object]:
    return simulate(world, "--name", "../escape")


def test_there_are_enough_cases() -> None:
    assert len(bad) >= 25


@pytest.mark.parametrize(("words", "case"), list(bad))
def test_bad_input(
    world: World, capsys: pytest.CaptureFixture[str], words: str, case: Case
) -> None:
    refuse(world, case, capsys, words)


@pytest.mark.parametrize(
    ("words", "case"),
    [
        ("contains code", malicious_pickle),
        ("contains code", malicious_checkpoint_to_simulate),
        ("nowhere.zarr", missing_brain),
        ("256 x 384", roi_outside_the_brain),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_input_as_a_program(world: World, words: str, case: Case) -> None:
    argv = [sys.executable, "-m", "napari_teramind", *map(str, case(world))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    check(world, done.returncode, done.stdout, done.stderr, words)


def test_the_payload_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()

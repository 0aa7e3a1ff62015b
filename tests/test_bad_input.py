"""Bad input of every kind: one sentence on standard error, exit code 2, and nothing done."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from safetensors.torch import load_file, save_file

from napari_teramind.brain import BrainStore, BrainWriter
from napari_teramind.cli import run
from napari_teramind.model import load_model, save_model

PARITY = Path(__file__).parent / "data" / "parity"


class Payload:
    """What a malicious file would run when unpickled: it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@dataclass
class World:
    """Good things to spoil, in a folder of the test's own."""

    folder: Path
    original: BrainStore

    @property
    def mark(self) -> Path:
        return self.folder / "payload-was-run"

    @property
    def out(self) -> Path:
        return self.folder / "out.zarr"

    def brain(self) -> Path:
        path = self.folder / "brain.zarr"
        return path if path.exists() else Path(shutil.copytree(self.original.path, path))

    def checkpoint(self) -> Path:
        return PARITY / "tiny.weights.safetensors"

    def file(self, name: str, content: bytes | str = b"") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def panel(self, *genes: str) -> Path:
        return self.file("panel.csv", "\n".join(["gene", *genes]))

    def region(self) -> Path:
        """Make a MERSCOPE region of 64 x 64 px with three transcripts."""
        region = self.folder / "region_0"
        (region / "images").mkdir(parents=True)
        image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
        for stain in ("DAPI", "PolyT"):
            tifffile.imwrite(region / "images" / f"mosaic_{stain}_z0.tif", image)
        (region / "images" / "micron_to_mosaic_pixel_transform.csv").write_text(
            "9.25 0 0\n0 9.25 0\n0 0 1\n"
        )
        rows = ["global_x,global_y,global_z,gene", "1,1,0,Th", "2,3,0,Gad1", "4,4,0,Th"]
        (region / "detected_transcripts.csv").write_text("\n".join(rows))
        return region

    def image(self, name: str, shape: tuple[int, ...], scale: float, **axes: float) -> Path:
        """Make an OME-Zarr image (c z y x) whose pixels are ``scale`` um wide."""
        path = self.folder / name
        names = [f"Gene{i}" for i in range(shape[0])]
        multiscale = {
            "axes": [
                {"name": "c", "type": "channel"},
                *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"),
            ],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1.0, 100.0, scale, scale]},
                        {"type": "translation", "translation": [0, 0, axes.get("y", 0.0), 0]},
                    ],
                }
            ],
        }
        ome = {
            "version": "0.5",
            "multiscales": [multiscale],
            "omero": {"channels": [{"label": gene} for gene in names]},
        }
        group = zarr.open_group(path, mode="w", attributes={"ome": ome})
        group.create_array("0", shape=shape, dtype=np.uint8, chunks=shape)
        return path


Case = Callable[[World], list[object]]
CASES: list[tuple[str, str, Case]] = []


def bad(words: str) -> Callable[[Case], Case]:
    """Register a case: a command line that must fail with a sentence holding some words."""

    def register(case: Case) -> Case:
        CASES.append((case.__name__, words, case))
        return case

    return register


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


# Training --------------------------------------------------------------------------------------


def train(world: World, *more: object) -> list[object]:
    return [
        "train", world.brain(), "-o", world.folder / "run", "--channels", "2", "--batch", "1",
        "--steps", "1", "--crop", "128", *more,
    ]  # fmt: skip


@bad("Nonsense1")
def unknown_gene_in_the_panel(world: World) -> list[object]:
    return train(world, "--genes", world.panel("Th", "Nonsense1"))


@bad("patch")
def unknown_patch(world: World) -> list[object]:
    return train(world, "--patch", "48")


@bad("crop")
def crop_that_is_no_multiple_of_the_patch(world: World) -> list[object]:
    return train(world, "--crop", "100")


@bad("held-out field")
def nothing_left_to_train_on(world: World) -> list[object]:
    return train(world, "--exclude", "0,256,0,384")


@bad("run")
def training_folder_that_holds_a_run(world: World) -> list[object]:
    (world.folder / "run").mkdir()
    world.file("run/config.json", "{}")
    return train(world)


# Imports ---------------------------------------------------------------------------------------


def merscope(world: World, spoil: Callable[[Path], object] = Path.exists) -> list[object]:
    region = world.region()
    spoil(region)
    return ["import", "merscope", region, "-o", world.out]


@bad("nowhere")
def missing_region(world: World) -> list[object]:
    return ["import", "merscope", world.folder / "nowhere", "-o", world.out]


@bad("micron_to_mosaic_pixel_transform.csv")
def missing_transform(world: World) -> list[object]:
    name = "images/micron_to_mosaic_pixel_transform.csv"
    return merscope(world, lambda region: (region / name).unlink())


@bad("micron_to_mosaic_pixel_transform.csv")
def transform_in_words(world: World) -> list[object]:
    name = "images/micron_to_mosaic_pixel_transform.csv"
    return merscope(world, lambda region: (region / name).write_text("a b c"))


@bad("detected_transcripts")
def missing_table(world: World) -> list[object]:
    return merscope(world, lambda region: (region / "detected_transcripts.csv").unlink())


@bad("detected_transcripts.csv")
def empty_table(world: World) -> list[object]:
    return merscope(world, lambda region: (region / "detected_transcripts.csv").write_text(""))


@bad("detected_transcripts.csv")
def table_of_a_header_alone(world: World) -> list[object]:
    header = "global_x,global_y,global_z,gene\n"
    return merscope(world, lambda region: (region / "detected_transcripts.csv").write_text(header))


@bad("gene")
def table_without_genes(world: World) -> list[object]:
    rows = "global_x,global_y,global_z\n1,1,0\n"
    return merscope(world, lambda region: (region / "detected_transcripts.csv").write_text(rows))


@bad("Cellbound9")
def unknown_stain(world: World) -> list[object]:
    return [*merscope(world), "--stain", "PolyT=Cellbound9"]


@bad("--stain")
def stain_without_a_file(world: World) -> list[object]:
    return [*merscope(world), "--stain", "PolyT"]


@bad("mosaic_DAPI_z0.tif")
def damaged_mosaic(world: World) -> list[object]:
    return merscope(world, lambda region: (region / "images/mosaic_DAPI_z0.tif").write_text("x"))


@bad("out.zarr")
def import_onto_something_of_the_user(world: World) -> list[object]:
    world.out.mkdir()
    world.file("out.zarr/thesis.txt", "dear")
    return [*merscope(world), "--overwrite"]


def omezarr(world: World, genes: Path) -> list[object]:
    dapi = world.image("dapi.zarr", (1, 2, 128, 128), 0.108)
    polyt = world.image("polyt.zarr", (1, 2, 128, 128), 0.108)
    stains = ["--stain", f"DAPI={dapi}", "--stain", f"PolyT={polyt}"]
    return ["import", "omezarr", *stains, "--genes", genes, "-o", world.out]


@bad("genes.zarr")
def misaligned_omezarr(world: World) -> list[object]:
    return omezarr(world, world.image("genes.zarr", (3, 2, 8, 8), 16 * 0.108, y=500.0))


@bad("genes.zarr")
def omezarr_with_other_slices(world: World) -> list[object]:
    return omezarr(world, world.image("genes.zarr", (3, 5, 8, 8), 16 * 0.108, y=7.5 * 0.108))


@bad("nowhere.zarr")
def missing_omezarr(world: World) -> list[object]:
    return omezarr(world, world.folder / "nowhere.zarr")


@bad("plain.zarr")
def zarr_that_is_no_omezarr(world: World) -> list[object]:
    zarr.open_group(world.folder / "plain.zarr", mode="w")
    return omezarr(world, world.folder / "plain.zarr")


# Job files and usage ---------------------------------------------------------------------------


@bad("no job file")
def missing_job(world: World) -> list[object]:
    return ["run", world.folder / "job.toml"]


@bad("not valid TOML")
def damaged_job(world: World) -> list[object]:
    return ["run", world.file("job.toml", "verb = ")]


@bad("'verb'")
def job_of_an_unknown_verb(world: World) -> list[object]:
    return ["run", world.file("job.json", '{"verb": "dance"}')]


@bad("'colour'")
def job_with_an_unknown_field(world: World) -> list[object]:
    return ["run", world.file("job.toml", 'verb = "info"\npath = "x"\ncolour = 3')]


@bad("out.zarr")
def phantom_onto_something_of_the_user(world: World) -> list[object]:
    world.out.mkdir()
    world.file("out.zarr/thesis.txt", "dear")
    return ["phantom", "-o", world.out, "--size", "XS"]


@bad("Did you mean 'simulate'?")
def misspelt_verb(world: World) -> list[object]:
    return ["simulat"]


@bad("path")
def missing_argument(world: World) -> list[object]:
    return ["info"]


@pytest.fixture
def world(tmp_path: Path, tiny_brain: BrainStore) -> World:
    return World(tmp_path, tiny_brain)


def check(world: World, code: int, out: str, err: str, words: str) -> None:
    assert code == 2, err
    assert out == ""
    lines = err.strip().splitlines()
    # A warning may come first; the error is one line of words.
    assert all(line.startswith("Warning:") for line in lines[:-1]), err
    assert words in lines[-1]
    assert lines[-1].endswith((".", "?"))
    assert "Traceback" not in err
    assert not world.mark.exists(), "the payload was run"
    thesis = world.out / "thesis.txt"
    assert not world.out.exists() or thesis.read_text() == "dear"


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 25
    assert len({name for name, _, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("words", "case"), [pytest.param(w, c, id=n) for n, w, c in CASES])
def test_bad_input(
    world: World, capsys: pytest.CaptureFixture[str], words: str, case: Case
) -> None:
    argv = [str(argument) for argument in case(world)]
    capsys.readouterr()
    code = run(argv)
    output = capsys.readouterr()
    check(world, code, output.out, output.err, words)


@pytest.mark.parametrize(
    ("words", "case"),
    [
        ("contains code", malicious_pickle),
        ("contains code", malicious_checkpoint_to_simulate),
        ("nowhere.zarr", missing_brain),
        ("256 x 384", roi_outside_the_brain),
        ("not valid TOML", damaged_job),
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

"""Bad training, imports and job files: one sentence, exit code 2, and nothing is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from spoiling import Case, Cases, World, refuse

bad = Cases()


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


@pytest.mark.parametrize(("words", "case"), list(bad))
def test_bad_input(
    world: World, capsys: pytest.CaptureFixture[str], words: str, case: Case
) -> None:
    refuse(world, case, capsys, words)

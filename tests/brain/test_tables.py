"""The importer of plain transcript tables, with images and without."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.brain.importers.tables import import_table
from napari_teramind.errors import UserError

from .regions import write_multiscale

PIXEL = 0.108
BIN = 16 * PIXEL
GENES = ["Aqp4", "Mog", "Th"]


def spots(n: int, height: float, width: float, seed: int = 0) -> pd.DataFrame:
    """Transcripts on a plane and around it, places in micrometers."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "gene": rng.choice(GENES, n),
            "x": rng.uniform(-0.1 * width, 1.1 * width, n),
            "y": rng.uniform(-0.1 * height, 1.1 * height, n),
        }
    )


def counted(table: pd.DataFrame, bins: tuple[int, int], size: float = BIN) -> np.ndarray:
    """Counts (genes, rows, columns) by an independent computation."""
    edges = [np.arange(n + 1) * size for n in bins]
    each = [table[table["gene"] == gene] for gene in GENES]
    return np.stack([np.histogram2d(t["y"], t["x"], bins=edges)[0] for t in each])


def genes_of(brain: BrainStore) -> np.ndarray:
    _, z, b, c = brain.genes.shape
    return brain.read_genes((0, b, 0, c), (0, z))


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (height, width), np.uint8)


def write_tiff(path: Path, pixels: np.ndarray, size: float = PIXEL, **options: object) -> Path:
    axes = options.pop("axes", "YX")
    meta = {"axes": axes, "PhysicalSizeX": size, "PhysicalSizeY": size}
    meta |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    meta |= options.pop("more", {})
    tifffile.imwrite(path, pixels, ome=True, metadata=meta, **options)
    return path


def teramind(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_teramind", "import", "table", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


# Tables


def test_counts_are_those_of_a_histogram(tmp_path):
    table = spots(5000, 40, 60)
    table.to_csv(tmp_path / "t.csv", index=False)
    height, width = 371, 555
    write_tiff(tmp_path / "dapi.ome.tif", image(height, width))
    report = import_table(
        [tmp_path / "t.csv"], tmp_path / "b.zarr", stains={"DAPI": [tmp_path / "dapi.ome.tif"]}
    )
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == (1, height, width)
    assert brain.gene_names == tuple(GENES)
    inside = table[table["x"].between(0, width * PIXEL) & table["y"].between(0, height * PIXEL)]
    assert np.array_equal(genes_of(brain)[:, 0], counted(inside, (24, 35)))
    counts = report.transcripts
    assert (counts.rows, counts.inside, counts.outside) == (
        5000,
        len(inside),
        5000 - len(inside),
    )
    assert np.array_equal(
        brain.read_stains((0, height, 0, width), (0, 1))[0, 0], image(height, width)
    )
    assert brain.source["import"] == json.loads(json.dumps(report.to_dict()))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@settings(max_examples=25, deadline=None)
@given(
    places=st.lists(
        st.tuples(st.integers(-1, 65), st.integers(-1, 65), st.sampled_from([-1e-6, 0, 1e-6])),
        min_size=1,
        max_size=30,
    ),
    unit=st.sampled_from(["px", "um"]),
)
def test_transcripts_on_the_edges_of_bins(tmp_path_factory, places, unit):
    """Pixel i covers [i, i + 1): what lies on an edge belongs to the bin that begins there."""
    folder = tmp_path_factory.mktemp("edges")
    step = 1.0 if unit == "px" else PIXEL
    v, u, off = np.array(places, float).T
    rows = pd.DataFrame({"gene": "Th", "x": (u + off) * 16, "y": (v + off) * 16})
    rows.loc[len(rows)] = ["Mog", 8.0, 8.0]
    written = rows.assign(x=rows["x"] * step, y=rows["y"] * step)
    written.to_parquet(folder / "t.parquet")
    write_tiff(folder / "i.ome.tif", image(1024, 1024))
    import_table(
        [folder / "t.parquet"],
        folder / "b.zarr",
        unit=unit,
        stains={"DAPI": [folder / "i.ome.tif"]},
    )
    found = genes_of(open_brain(folder / "b.zarr"))[:, 0]
    # Micrometers are told back to pixels as the importer's documentation says: x / 0.108.
    pixels = written[["y", "x"]] / step
    wanted = np.zeros((2, 64, 64))
    for gene, (y, x) in zip(written["gene"], pixels.to_numpy(), strict=True):
        if 0 <= y < 1024 and 0 <= x < 1024:
            wanted[["Mog", "Th"].index(gene), int(y // 16), int(x // 16)] += 1
    known = list(open_brain(folder / "b.zarr").gene_names)
    assert np.array_equal(found, wanted[[["Mog", "Th"].index(gene) for gene in known]])


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "semicolons", "parquet", "folder"])
def test_every_kind_of_file_with_odd_columns(tmp_path, kind):
    table = spots(900, 20, 20)
    odd = table.rename(columns={"gene": "Where? what, gene", "x": "X (µm)", "y": "pos y"})
    odd.insert(0, "", range(len(odd)))
    path = tmp_path / f"t.{kind}"
    match kind:
        case "parquet":
            odd.to_parquet(path)
        case "folder":
            path.mkdir()
            for i in range(3):
                odd[i * 300 : (i + 1) * 300].to_parquet(path / f"part.{i}.parquet")
        case "tsv":
            odd.to_csv(path, index=False, sep="\t")
        case "semicolons":
            odd.to_csv(path, index=False, sep=";")
        case _:
            odd.to_csv(path, index=False)
    import_table(
        [path], tmp_path / "b.zarr", gene="Where? what, gene", x="X (µm)", y="pos y",
        stains={"DAPI": [write_tiff(tmp_path / "i.ome.tif", image(176, 176))]},
    )  # fmt: skip
    inside = table[table["x"].between(0, 176 * PIXEL) & table["y"].between(0, 176 * PIXEL)]
    assert np.array_equal(
        genes_of(open_brain(tmp_path / "b.zarr"))[:, 0], counted(inside, (11, 11))
    )


def test_a_packed_table_may_have_several_parts_and_any_name(tmp_path):
    text = spots(100, 10, 10).to_csv(index=False)
    half = text.index("\n", len(text) // 2) + 1
    parts = [gzip.compress(part.encode()) for part in (text[:half], text[half:])]
    (tmp_path / "packed.txt").write_bytes(b"".join(parts))
    report = import_table([tmp_path / "packed.txt"], tmp_path / "b.zarr")
    assert report.transcripts.inside == 100


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_genes_as_bytes_as_in_older_xenium_tables(tmp_path, as_dictionary):
    names = pa.array([b"Th", b"Mog", b"NegControlProbe_00042", b"BLANK_0006", b"antisense_Th"])
    frame = pa.table(
        {
            "transcript_id": pa.array(range(5), pa.uint64()),
            "feature_name": names.dictionary_encode() if as_dictionary else names,
            "x_location": pa.array([1, 2, 3, 3, 3], pa.float32()),
            "y_location": pa.array([1, 2, 3, 3, 3], pa.float32()),
            "qv": pa.array([40.0] * 5),
        }
    )
    pa.parquet.write_table(frame, tmp_path / "t.parquet")
    report = import_table([tmp_path / "t.parquet"], tmp_path / "b.zarr")
    assert open_brain(tmp_path / "b.zarr").gene_names == ("Mog", "Th")
    assert report.blank_genes == dict.fromkeys(
        ["NegControlProbe_00042", "BLANK_0006", "antisense_Th"], 1
    )
    said = " ".join(report.summary())
    for words in ("2 of 5 transcripts", "3 of 3 blank", "genes from feature_name", "x_location"):
        assert words in said


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        (["x", "y", "global_x", "global_y", "gene"], ("global_x", "global_y", "gene")),
        (["X", "Y", "geneName"], ("X", "Y", "geneName")),
        (["x_um", "y_um", "target"], ("x_um", "y_um", "target")),
        (["x_location", "y_location", "cell", "feature_name"], ("x_location", "y_location")),
    ],
)
def test_common_names_are_guessed_and_told(tmp_path, columns, taken):
    genes = {"gene", "geneName", "target", "feature_name"}
    rows = pd.DataFrame({n: ["Th", "Mog"] if n in genes else [1.0, 5.0] for n in columns})
    rows.to_csv(tmp_path / "t.csv", index=False)
    report = import_table([tmp_path / "t.csv"], tmp_path / "b.zarr")
    assert all(name in " ".join(report.choices) for name in taken)
    columns_kept = open_brain(tmp_path / "b.zarr").source["columns"]
    assert (columns_kept["x"], columns_kept["y"]) == taken[:2]


def test_without_images_the_brain_begins_at_a_whole_bin(tmp_path):
    table = spots(2000, 30, 50)
    table["x"] += 7000
    table["y"] -= 400
    table.to_csv(tmp_path / "t.csv", index=False)
    report = import_table([tmp_path / "t.csv"], tmp_path / "b.zarr")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.stain_names == ("DAPI", "PolyT")
    assert not brain.read_stains((0, 64, 0, 64), (0, 1)).any()
    x0, y0 = brain.source["origin_um"]
    assert x0 == np.floor(table["x"].min() / BIN) * BIN
    moved = table.assign(x=table["x"] - x0, y=table["y"] - y0)
    assert np.array_equal(genes_of(brain)[:, 0], counted(moved, brain.genes.shape[-2:]))
    assert report.transcripts.inside == 2000


# Slices


def test_a_column_tells_slices_apart_in_natural_order(tmp_path):
    table = spots(3000, 12, 12)
    table["section"] = np.random.default_rng(1).choice(["s10", "s2", "s1"], len(table))
    table[:1500].to_csv(tmp_path / "a.csv", index=False)
    table[1500:].to_csv(tmp_path / "b.csv", index=False)
    stack = np.stack([image(128, 128, i) for i in range(3)])
    write_tiff(tmp_path / "i.ome.tif", stack, axes="ZYX", bigtiff=True, tile=(64, 64))
    done = teramind(
        "a.csv", "b.csv", "--slice", "section", "--stain", "DAPI=i.ome.tif", "-o", "o.zarr",
        "--slice-spacing", 150, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    brain = open_brain(tmp_path / "o.zarr")
    assert brain.shape == (3, 128, 128)
    assert brain.slice_positions.tolist() == [0, 150, 300]
    assert brain.source["slices"] == ["s1", "s2", "s10"]
    side = 128 * PIXEL
    inside = table[table["x"].between(0, side) & table["y"].between(0, side)]
    for z, name in enumerate(["s1", "s2", "s10"]):
        own = inside[inside["section"] == name]
        assert np.array_equal(genes_of(brain)[:, z], counted(own, (8, 8)))
    assert np.array_equal(brain.read_stains((0, 128, 0, 128), (0, 3))[0], stack)


def test_several_tables_are_a_slice_each_with_an_image_each(tmp_path):
    tables = [spots(500, 12, 12, seed) for seed in range(2)]
    arguments: list[object] = []
    for i, table in enumerate(tables):
        table.to_csv(tmp_path / f"{i}.csv", index=False)
        write_tiff(tmp_path / f"{i}.ome.tif", image(96, 96, i))
        arguments += [f"{i}.csv", "--stain", f"DAPI={i}.ome.tif"]
    assert teramind(*arguments, "-o", "o.zarr", cwd=tmp_path).returncode == 0
    brain = open_brain(tmp_path / "o.zarr")
    for z, table in enumerate(tables):
        side = 96 * PIXEL
        inside = table[table["x"].between(0, side) & table["y"].between(0, side)]
        assert np.array_equal(genes_of(brain)[:, z], counted(inside, (6, 6)))
        assert np.array_equal(brain.read_stains((0, 96, 0, 96), (z, z + 1))[0, 0], image(96, 96, z))


def test_heights_are_slices_where_they_are_named(tmp_path):
    table = spots(900, 10, 10)
    table["height"] = np.random.default_rng(2).choice([0.0, 1.5, 4.5], len(table))
    table.to_csv(tmp_path / "t.csv", index=False)
    import_table([tmp_path / "t.csv"], tmp_path / "b.zarr", z="height")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.slice_positions.tolist() == [0, 1.5, 4.5]
    assert (
        genes_of(brain).sum(axis=(0, 2, 3)).tolist()
        == table["height"].value_counts().sort_index().tolist()
    )


def test_planes_of_a_single_slice_are_projected(tmp_path):
    spots(50, 5, 5).to_csv(tmp_path / "t.csv", index=False)
    stack = np.stack([np.full((64, 64), v, np.uint8) for v in (10, 60, 20)])
    write_tiff(tmp_path / "i.ome.tif", stack, axes="ZYX")
    for project, value in (("max", 60), ("mean", 30)):
        report = import_table(
            [tmp_path / "t.csv"], tmp_path / f"{project}.zarr", project=project,
            stains={"DAPI": [tmp_path / "i.ome.tif"]},
        )  # fmt: skip
        pixels = open_brain(tmp_path / f"{project}.zarr").read_stains((0, 64, 0, 64), (0, 1))
        assert np.unique(pixels).tolist() == [value]
        assert any("3 planes projected" in line for line in report.summary())


# Images


def dots(size: float, height: int, width: int, n: int = 12) -> tuple[np.ndarray, pd.DataFrame]:
    """An image with bright dots of 3 x 3 px far apart, and a transcript in the middle of each."""
    rng = np.random.default_rng(5)
    pixels = np.full((height, width), 1, np.uint16)
    rows = []
    for place in rng.permutation((height // 30) * (width // 30))[:n]:
        row, column = divmod(int(place), width // 30)
        v, u = row * 30 + int(rng.integers(5, 25)), column * 30 + int(rng.integers(5, 25))
        pixels[v - 1 : v + 2, u - 1 : u + 2] = 40_000
        rows.append(("Th", (u + 0.5) * size, (v + 0.5) * size))
    return pixels, pd.DataFrame(rows, columns=["gene", "x", "y"])


@pytest.mark.parametrize("kind", ["ome", "imagej", "resolution", "zarr 0.4", "zarr 0.5", "stated"])
@pytest.mark.parametrize("size", [0.2125, 0.065])
def test_images_of_another_pixel_size_land_where_their_transcripts_are(tmp_path, kind, size):
    pixels, table = dots(size, 240, 300)
    path = tmp_path / "i.tif"
    options = {}
    match kind:
        case "ome":
            write_tiff(path, pixels, size, tile=(64, 64), compression="zlib")
        case "imagej":
            tifffile.imwrite(
                path, pixels, imagej=True, resolution=(1 / size, 1 / size), metadata={"unit": "um"}
            )
        case "resolution":
            tifffile.imwrite(
                path, pixels, resolution=(1e4 / size, 1e4 / size), resolutionunit="CENTIMETER"
            )
        case "stated":
            tifffile.imwrite(path, pixels)
            options = {"pixel_size": size}
        case _:
            path = write_multiscale(
                tmp_path / "i.zarr", pixels, "yx", scale={"y": size, "x": size}, version=kind[-3:]
            )
    table.to_csv(tmp_path / "t.csv", index=False)
    report = import_table(
        [tmp_path / "t.csv"], tmp_path / "b.zarr", stains={"DAPI": [path]}, **options
    )
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.pixel_size == PIXEL
    wanted = [int(np.ceil(n * size / PIXEL - 1e-6)) for n in pixels.shape]
    assert list(brain.shape[1:]) == wanted
    assert any(f"{size:.4f} um to 0.1080 um" in line for line in report.summary())
    found = brain.read_stains((0, wanted[0], 0, wanted[1]), (0, 1))[0, 0]
    bins = genes_of(brain)[0, 0]
    for x, y in table[["x", "y"]].to_numpy():
        v, u = int(y / PIXEL), int(x / PIXEL)
        assert found[v, u] == 255
        assert bins[v // 16, u // 16] >= 1
    # What is bright is at the transcripts and nowhere else: the dots' centres of mass agree.
    around = found.astype(float)
    for x, y in table[["x", "y"]].to_numpy():
        v, u, reach = int(y / PIXEL), int(x / PIXEL), int(2.5 * size / PIXEL) + 1
        part = around[v - reach : v + reach + 1, u - reach : u + reach + 1]
        ys, xs = np.indices(part.shape)
        centre = np.array([(ys * part).sum(), (xs * part).sum()]) / part.sum()
        truth = np.array([y, x]) / PIXEL - 0.5 - [v - reach, u - reach]
        assert np.abs(centre - truth).max() < 0.35
        around[v - reach : v + reach + 1, u - reach : u + reach + 1] = 0
    assert around.max() < 30


def test_an_origin_says_where_the_images_begin(tmp_path):
    pixels, table = dots(0.108, 240, 300)
    table["x"] += 512.5
    table["y"] -= 33.25
    table.to_csv(tmp_path / "t.csv", index=False)
    write_tiff(tmp_path / "i.ome.tif", pixels)
    done = teramind(
        "t.csv", "--stain", "DAPI=i.ome.tif", "--origin", "512.5,-33.25", "-o", "o.zarr",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    brain = open_brain(tmp_path / "o.zarr")
    found = brain.read_stains((0, 240, 0, 300), (0, 1))[0, 0]
    for x, y in table[["x", "y"]].to_numpy():
        assert found[int((y + 33.25) / PIXEL), int((x - 512.5) / PIXEL)] == 255
    assert genes_of(brain).sum() == len(table)


def test_a_translation_of_an_image_is_that_of_its_first_pixels_centre(tmp_path):
    pixels, table = dots(0.108, 240, 300)
    table["x"] += 100
    table["y"] += 50
    table.to_csv(tmp_path / "t.csv", index=False)
    scale = {"y": PIXEL, "x": PIXEL}
    shift = {"y": 50 + PIXEL / 2, "x": 100 + PIXEL / 2}
    path = write_multiscale(tmp_path / "i.zarr", pixels, "yx", scale=scale, translation=shift)
    import_table([tmp_path / "t.csv"], tmp_path / "b.zarr", stains={"DAPI": [path]})
    brain = open_brain(tmp_path / "b.zarr")
    found = brain.read_stains((0, 240, 0, 300), (0, 1))[0, 0]
    for x, y in table[["x", "y"]].to_numpy():
        assert found[int((y - 50) / PIXEL), int((x - 100) / PIXEL)] == 255


def test_a_channel_is_named_numbered_or_the_one_of_the_stain(tmp_path):
    spots(50, 5, 5).to_csv(tmp_path / "t.csv", index=False)
    channels = np.stack([image(64, 64, i) for i in range(3)])
    more = {"Channel": {"Name": ["Boundary", "DAPI", "18S"]}}
    path = write_tiff(tmp_path / "i.ome.tif", channels, axes="CYX", more=more)
    stains = {"DAPI": [path], "PolyT": [f"{path}#18S"], "Cells": [f"{path}#0"]}
    import_table([tmp_path / "t.csv"], tmp_path / "b.zarr", stains=stains)
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.stain_names == ("DAPI", "PolyT", "Cells")
    assert np.array_equal(brain.read_stains((0, 64, 0, 64), (0, 1))[:, 0], channels[[1, 2, 0]])
    with pytest.raises(UserError, match="none is named 'Membrane'"):
        import_table([tmp_path / "t.csv"], tmp_path / "c.zarr", stains={"Membrane": [path]})


def test_images_of_different_pixels_share_a_grid(tmp_path):
    fine, table = dots(0.108, 240, 300)
    write_tiff(tmp_path / "fine.ome.tif", fine)
    coarse = np.full((60, 75), 7, np.uint8)
    write_tiff(tmp_path / "coarse.ome.tif", coarse, 0.432)
    table.to_csv(tmp_path / "t.csv", index=False)
    stains = {"DAPI": [tmp_path / "fine.ome.tif"], "PolyT": [tmp_path / "coarse.ome.tif"]}
    report = import_table([tmp_path / "t.csv"], tmp_path / "b.zarr", stains=stains)
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == (1, 240, 300)
    found = brain.read_stains((0, 240, 0, 300), (0, 1))[:, 0]
    assert np.unique(found[1]).tolist() == [7]
    assert ((found[0] == 255) == (fine == 40_000)).all()
    assert sum("resampled" in line for line in report.choices) == 1


# Round trips


def test_a_phantoms_table_and_stains_make_the_same_brain(tmp_path):
    from napari_teramind.phantom import make_phantom

    phantom = make_phantom(tmp_path / "p.zarr", size="XS", seed=3)
    stains = [f"--stain={name}={tmp_path / 'p.zarr' / 'stains'}" for name in phantom.stain_names]
    genes = tmp_path / "genes.csv"
    genes.write_text("gene\n" + "\n".join(phantom.gene_names) + "\n")
    done = teramind(
        tmp_path / "p.zarr/tables/transcripts.parquet", "--x", "x_um", "--y", "y_um", "--slice",
        "slice", *stains, "--gene-list", genes, "-o", "o.zarr", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    brain = open_brain(tmp_path / "o.zarr")
    assert brain.shape == phantom.shape
    assert brain.gene_names == phantom.gene_names
    assert np.array_equal(genes_of(brain), genes_of(phantom))
    depth, height, width = brain.shape
    box = (0, height, 0, width)
    assert np.array_equal(brain.read_stains(box, (0, depth)), phantom.read_stains(box, (0, depth)))


def test_a_real_table_beside_the_importer_of_its_instrument(teramind_data, tmp_path):
    from napari_teramind.brain.importers.merscope import import_merscope

    region = teramind_data / "merscope_region" / "region_0"
    stains = {"PolyT": "Cellbound2"}
    import_merscope([region], tmp_path / "m.zarr", stains=stains)
    matrix = np.loadtxt(region / "images" / "micron_to_mosaic_pixel_transform.csv")
    size = float(1 / np.sqrt(matrix[0, 0] * matrix[1, 1]))
    table = pd.read_csv(region / "detected_transcripts.csv")
    # In the pixels of the mosaic, where the table's own micrometers are off by the third digit.
    table["u"] = table["global_x"] * matrix[0, 0] + matrix[0, 2]
    table["v"] = table["global_y"] * matrix[1, 1] + matrix[1, 2]
    table.to_csv(tmp_path / "t.csv", index=False)
    planes = [region / "images" / f"mosaic_{{}}_z{z}.tif" for z in range(7)]
    one = {n: [str(planes[3]).format(s)] for n, s in {"DAPI": "DAPI", **stains}.items()}
    report = import_table(
        [tmp_path / "t.csv"], tmp_path / "t.zarr", x="u", y="v", unit="px", pixel_size=size,
        stains=one,
    )  # fmt: skip
    mine, its = open_brain(tmp_path / "t.zarr"), open_brain(tmp_path / "m.zarr")
    assert mine.gene_names == its.gene_names
    assert np.array_equal(genes_of(mine), genes_of(its))
    assert mine.pixel_size == pytest.approx(its.pixel_size)
    assert report.transcripts.rows == 5936

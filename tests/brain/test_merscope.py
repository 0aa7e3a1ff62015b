"""The MERSCOPE importer on made-up region folders, and on the real one where there is one."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_teramind.brain import open_brain
from napari_teramind.brain.importers.merscope import import_merscope

from .regions import good_region, noise, transcripts, write_region


def points(n: int, height: int, width: int, planes: int, seed: int = 1) -> list:
    rng = np.random.default_rng(seed)
    return [
        (str(gene), float(v), float(u), int(z))
        for gene, v, u, z in zip(
            rng.choice(["Th", "Mog", "Aqp4"], n),
            rng.uniform(-20, height + 20, n),
            rng.uniform(-20, width + 20, n),
            rng.integers(0, planes, n),
            strict=True,
        )
    ]


def expected(rows: list, genes: list[str], planes: list[list[int]], height: int, width: int):
    counts = np.zeros((len(genes), len(planes), -(-height // 16), -(-width // 16)))
    for gene, v, u, z in rows:
        if gene in genes and 0 <= v < height and 0 <= u < width:
            for s, members in enumerate(planes):
                if z in members:
                    counts[genes.index(gene), s, int(v) // 16, int(u) // 16] += 1
    return counts


def genes_of(brain):
    _, z, b, c = brain.genes.shape
    return brain.read_genes((0, b, 0, c), (0, z))


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("planes", ["slices", "project"])
def test_transcripts_are_binned_exactly(tmp_path, planes, parquet):
    height, width = 200, 331
    rows = points(3000, height, width, 3)
    images = {s: noise(3, height, width) for s in ("DAPI", "PolyT")}
    region = write_region(tmp_path / "region_0", transcripts(rows), images, parquet=parquet)
    report = import_merscope([region], tmp_path / "b.zarr", planes=planes)
    brain = open_brain(tmp_path / "b.zarr")
    members = [[0], [1], [2]] if planes == "slices" else [[0, 1, 2]]
    assert brain.shape == (len(members), height, width)
    assert brain.gene_names == ("Aqp4", "Mog", "Th")
    assert np.array_equal(
        genes_of(brain), expected(rows, list(brain.gene_names), members, height, width)
    )
    assert report.transcripts.inside == genes_of(brain).sum()
    assert report.transcripts.rows == 3000
    assert report.transcripts.inside + report.transcripts.outside == 3000
    assert brain.pixel_size == pytest.approx(0.108)
    assert brain.source["import"] == json.loads(json.dumps(report.to_dict()))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@settings(max_examples=15)
@given(
    v=st.integers(0, 16 * 32 - 1),
    u=st.integers(0, 16 * 32 - 1),
    dv=st.floats(0.001, 0.999),
    du=st.floats(0.001, 0.999),
)
def test_a_spot_and_its_transcripts_coincide_at_every_level(tmp_path_factory, v, u, dv, du):
    """World positions of a bright pixel and of the transcript in it, within a bin."""
    folder = tmp_path_factory.mktemp("spot")
    image = np.ones((512, 512), np.uint16)
    image[v, u] = 60_000
    rows = [("Th", v + dv, u + du, 0)]
    region = write_region(
        folder / "region_0", transcripts(rows), {"DAPI": [image], "PolyT": [image]}
    )
    import_merscope([region], folder / "b.zarr", percentiles=(0, 100))
    brain = open_brain(folder / "b.zarr")
    assert brain.read_stains((v, v + 1, u, u + 1), (0, 1)).tolist() == [[[[255]]], [[[255]]]]
    truth = np.array([v, u]) * brain.pixel_size
    for level, array in enumerate(brain.genes.levels):
        found = np.argwhere(array[0, 0])[0]
        world = found * brain.genes.scale(level)[2:] + brain.genes.translation(level)[2:]
        # The transcript's bin holds the pixel: half a bin of the level is the most they differ.
        assert (np.abs(world - truth) <= np.array(brain.genes.scale(level)[2:]) / 2).all()
    for level, array in enumerate(brain.stains.levels[:3]):
        plane = np.asarray(array[0, 0])
        found = np.unravel_index(plane.argmax(), plane.shape)
        world = (
            found * np.array(brain.stains.scale(level)[2:]) + brain.stains.translation(level)[2:]
        )
        assert (np.abs(world - truth) <= np.array(brain.stains.scale(level)[2:]) / 2 + 1e-9).all()


def test_counts_do_not_depend_on_batches_and_tiles(tmp_path, monkeypatch):
    from napari_teramind.brain import layout
    from napari_teramind.brain.importers import batches
    from napari_teramind.brain.importers import transcripts as module

    monkeypatch.setattr(batches, "_BATCH_BYTES", 4096)
    monkeypatch.setattr(module, "_READ_BYTES", 4096)
    monkeypatch.setattr(module, "_BUFFER_BYTES", 1000)
    for name in ("GENE_CHUNK", "GENE_TILE"):
        monkeypatch.setattr(layout, name, 16)
    for name in ("STAIN_CHUNK", "STAIN_TILE"):
        monkeypatch.setattr(layout, name, 256)
    rows = points(4000, 700, 600, 2)
    images = {s: noise(2, 700, 600) for s in ("DAPI", "PolyT")}
    region = write_region(tmp_path / "region_0", transcripts(rows), images)
    import_merscope([region], tmp_path / "b.zarr", planes="slices")
    brain = open_brain(tmp_path / "b.zarr")
    assert np.array_equal(
        genes_of(brain), expected(rows, list(brain.gene_names), [[0], [1]], 700, 600)
    )
    low, high = brain.source["import"]["intensities"]["DAPI"]
    image = np.stack(images["DAPI"])
    assert (low, high) == (
        np.percentile(image, 0.1, method="lower"),
        np.percentile(image, 99.9, method="lower"),
    )
    scaled = np.clip(np.rint((image - low) * (255 / (high - low))), 0, 255)
    assert np.abs(brain.read_stains((0, 700, 0, 600), (0, 2))[0] - scaled).max() <= 1


def test_blank_unknown_and_invalid_rows_are_counted(tmp_path):
    rows = [
        *[("Th", 5, 5, 0)] * 4,
        *[("Blank-7", 5, 5, 0)] * 3,
        *[("Xkr4", 5, 5, 0)] * 2,
        ("Th", -5, 5, 0),
        ("Mog", 70, 70, 0),
    ]
    table = transcripts(rows)
    table.loc[0, "global_x"] = np.nan
    table.loc[1, "gene"] = ""
    images = {s: noise(1, 64, 64) for s in ("DAPI", "PolyT")}
    region = write_region(tmp_path / "region_0", table, images)
    report = import_merscope([region], tmp_path / "b.zarr", genes=["Mog", "Th", "Aqp4"])
    counts = report.transcripts
    assert (counts.rows, counts.inside, counts.outside) == (11, 2, 2)
    assert (counts.blank, counts.unknown, counts.invalid) == (3, 2, 2)
    assert report.blank_genes == {"Blank-7": 3}
    assert report.unknown_genes == {"Xkr4": 2}
    assert report.silent_genes == ["Aqp4"]
    text = " ".join(report.summary())
    for words in ("2 of 11 transcripts", "3 of 1 blank", "2 of 1 genes not in", "Aqp4"):
        assert words in text
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.gene_names == ("Mog", "Th", "Aqp4")
    assert brain.read_genes((0, 4, 0, 4), (0, 1)).sum(axis=(1, 2, 3)).tolist() == [0, 2, 0]
    kinds = brain.table("import_genes").set_index("gene")["kind"].to_dict()
    assert kinds == {"Th": "panel", "Mog": "panel", "Blank-7": "blank", "Xkr4": "unknown"}


def test_planes_are_projected_by_maximum_or_mean(tmp_path):
    planes = [np.full((64, 64), v, np.uint8) for v in (10, 20, 60)]
    region = write_region(
        tmp_path / "r", transcripts([("Th", 1, 1, 0)]), {"DAPI": planes, "PolyT": planes}
    )
    for project, value in (("max", 60), ("mean", 30)):
        import_merscope([region], tmp_path / f"{project}.zarr", project=project)
        # 8-bit mosaics are taken as they are.
        image = open_brain(tmp_path / f"{project}.zarr").read_stains((0, 64, 0, 64), (0, 1))
        assert np.unique(image).tolist() == [value]


def test_missing_planes_are_reported_and_left_black(tmp_path):
    images = {"DAPI": noise(3, 64, 64), "PolyT": noise(3, 64, 64)}
    rows = [("Th", 5, 5, z) for z in (0, 1, 1, 2, 5)]
    region = write_region(tmp_path / "region_0", transcripts(rows), images)
    (region / "images" / "mosaic_PolyT_z1.tif").unlink()
    report = import_merscope([region], tmp_path / "b.zarr", planes="slices")
    assert report.missing_planes == [
        "region_0/images/mosaic_PolyT_z1.tif",
        "region_0, plane 5 of the table",
    ]
    assert any("mosaic_PolyT_z1" in line for line in report.summary())
    assert (report.transcripts.inside, report.transcripts.without_plane) == (4, 1)
    stains = open_brain(tmp_path / "b.zarr").read_stains((0, 64, 0, 64), (0, 3))
    assert stains.reshape(2, 3, -1).any(axis=2).tolist() == [[True] * 3, [True, False, True]]


def test_a_plane_that_no_stain_shows_is_left_out_and_reported(tmp_path):
    images = {"DAPI": noise(3, 64, 64), "PolyT": noise(3, 64, 64)}
    rows = [("Th", 5, 5, z) for z in (0, 1, 1, 2)]
    region = write_region(tmp_path / "region_0", transcripts(rows), images)
    for stain in images:
        (region / "images" / f"mosaic_{stain}_z1.tif").unlink()
    report = import_merscope([region], tmp_path / "b.zarr", planes="slices")
    assert len(report.missing_planes) == 3
    assert report.transcripts.without_plane == 2
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.slice_positions.tolist() == [0, 3]
    assert brain.read_genes((0, 1, 0, 1), (0, 2)).ravel().tolist() == [1, 1]


def test_plane_positions_come_from_the_table_where_it_holds_micrometers(tmp_path):
    images = {s: noise(3, 64, 64) for s in ("DAPI", "PolyT")}
    rows = [("Th", 5, 5, z) for z in (1.5, 3.5, 3.5, 5.5)]
    region = write_region(tmp_path / "region_0", transcripts(rows), images)
    import_merscope([region], tmp_path / "b.zarr", planes="slices")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.slice_positions.tolist() == [0, 2, 4]
    assert brain.read_genes((0, 1, 0, 1), (0, 3)).ravel().tolist() == [1, 2, 1]
    import_merscope([region], tmp_path / "c.zarr", planes="slices", slice_spacing=1.0)
    assert open_brain(tmp_path / "c.zarr").slice_positions.tolist() == [0, 1, 2]


def test_several_regions_become_a_stack(tmp_path):
    regions = []
    for i, (height, width) in enumerate([(64, 96), (80, 64)]):
        rows = [("Th", 5, 5, z) for z in range(2)] * (i + 1) + [(f"Gene{i}", 20, 20, 0)]
        images = {s: noise(2, height, width, i) for s in ("DAPI", "PolyT")}
        regions.append(write_region(tmp_path / f"region_{i}", transcripts(rows), images))
    report = import_merscope(regions, tmp_path / "b.zarr", slice_spacing=200)
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == (2, 80, 96)
    assert brain.slice_positions.tolist() == [0, 200]
    assert brain.gene_names == ("Gene0", "Gene1", "Th")
    assert brain.read_genes((0, 1, 0, 1), (0, 2), ["Th"]).ravel().tolist() == [2, 4]
    assert any("differ in size" in line for line in report.summary())
    assert not brain.read_stains((64, 80, 0, 96), (0, 1)).any()
    import_merscope(regions, tmp_path / "c.zarr", planes="slices", region_spacing=50)
    assert open_brain(tmp_path / "c.zarr").slice_positions.tolist() == [0, 1.5, 50, 51.5]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib", "tile": (64, 64)},
        {"compression": "zlib", "rowsperstrip": 10},
        {"rowsperstrip": 7},
        {"bigtiff": True},
    ],
)
def test_mosaics_in_every_tiff_layout(tmp_path, options):
    images = {s: noise(1, 150, 170) for s in ("DAPI", "PolyT")}
    rows = transcripts([("Th", 5, 5, 0)])
    region = write_region(tmp_path / "r", rows, images, **options)
    import_merscope([region], tmp_path / "b.zarr", percentiles=(0, 100))
    image = images["DAPI"][0].astype(float)
    scaled = (image - image.min()) * 255 / (image.max() - image.min())
    stains = open_brain(tmp_path / "b.zarr").read_stains((0, 150, 0, 170), (0, 1))
    assert np.abs(stains[0, 0] - scaled).max() <= 0.51


def test_pixels_of_another_size_are_kept_and_warned_about(tmp_path):
    region = good_region(tmp_path)
    file = region / "images" / "micron_to_mosaic_pixel_transform.csv"
    np.savetxt(file, [[5, 0, 0], [0, 5, 0], [0, 0, 1]], delimiter=",")
    table = pd.DataFrame({"global_x": [1.0], "global_y": [2.0], "gene": ["Th"]})
    table.to_csv(region / "detected_transcripts.csv")
    report = import_merscope([region], tmp_path / "b.zarr")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.pixel_size == pytest.approx(0.2)
    assert any("0.2000 um, not 0.108" in line for line in report.summary())


def test_real_region(tmp_path, teramind_data):
    folder = teramind_data / "merscope_region" / "region_0"
    report = import_merscope(
        [folder], tmp_path / "liver.zarr", stains={"PolyT": "Cellbound2"}, planes="slices"
    )
    brain = open_brain(tmp_path / "liver.zarr")
    assert brain.shape == (7, 512, 512)
    table = pd.read_csv(folder / "detected_transcripts.csv")
    matrix = np.loadtxt(folder / "images" / "micron_to_mosaic_pixel_transform.csv")
    u = matrix[0, 0] * table["global_x"] + matrix[0, 2]
    v = matrix[1, 1] * table["global_y"] + matrix[1, 2]
    inside = table[(u >= 0) & (u < 512) & (v >= 0) & (v < 512)]
    rows = inside["gene"].value_counts()
    totals = brain.table("gene_totals").groupby("gene")["total"].sum()
    counts = genes_of(brain)
    for i, gene in enumerate(brain.gene_names):
        assert counts[i].sum() == rows.get(gene, 0) == totals[gene]
    planes = inside[~inside["gene"].str.startswith("Blank")]["global_z"].value_counts()
    assert counts.sum(axis=(0, 2, 3)).tolist() == planes.sort_index().tolist()
    assert not any(name.startswith("Blank") for name in brain.gene_names)
    assert report.transcripts.rows == len(table) == 5936
    assert report.transcripts.outside + report.transcripts.inside + report.transcripts.blank == 5936

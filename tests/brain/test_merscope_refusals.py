"""What the MERSCOPE importer refuses, in a sentence, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_teramind.brain import open_brain
from napari_teramind.brain.importers.merscope import import_merscope
from napari_teramind.errors import UserError

from .regions import good_region, noise, transcripts, write_region


def _write(name: str, text: str):
    return lambda region: (region / name).write_text(text)


def _image(name: str, image: np.ndarray):
    return lambda region: tifffile.imwrite(region / "images" / name, image)


def _remove(*names: str):
    def change(region: Path) -> None:
        for name in names:
            (region / name).unlink()

    return change


TABLE = "detected_transcripts.csv"
TRANSFORM = "images/micron_to_mosaic_pixel_transform.csv"
DAPI = [f"images/mosaic_DAPI_z{z}.tif" for z in (0, 1)]
POLYT = [f"images/mosaic_PolyT_z{z}.tif" for z in (0, 1)]
HEADER = "fov,global_x,global_y,global_z,gene\n"

BAD_REGIONS = {
    "no table": (_remove(TABLE), "no detected_transcripts.csv or .parquet"),
    "empty table file": (_write(TABLE, ""), "is empty"),
    "table of a header": (_write(TABLE, HEADER), "has no transcripts"),
    "column missing": (_write(TABLE, "global_x,gene\n1,Th\n"), "lacks the column global_y"),
    "letters for numbers": (_write(TABLE, HEADER + "0,here,1,0,Th\n"), "cannot be read"),
    "row cut short": (_write(TABLE, HEADER + "0,1,1,0,Th\n0,1\n"), "cannot be read"),
    "only blanks": (_write(TABLE, HEADER + "0,1,1,0,Blank-1\n"), "blank barcodes only"),
    "not parquet": (_write("detected_transcripts.parquet", "text"), "cannot be read"),
    "no transform": (_remove(TRANSFORM), "transform.csv is missing"),
    "transform of words": (_write(TRANSFORM, "a b c\n"), "not a table of numbers"),
    "empty transform": (_write(TRANSFORM, ""), "not 3 x 3"),
    "2 x 3 transform": (_write(TRANSFORM, "1 0 0\n0 1 0\n"), "not 3 x 3"),
    "singular transform": (_write(TRANSFORM, "1 0 0\n1 0 0\n0 0 1\n"), "can be undone"),
    "not affine": (_write(TRANSFORM, "9 0 0\n0 9 0\n1 0 1\n"), "can be undone"),
    "oblong pixels": (_write(TRANSFORM, "9 0 0\n0 8 0\n0 0 1\n"), "must be square"),
    "transform not finite": (_write(TRANSFORM, "9 0 nan\n0 9 0\n0 0 1\n"), "finite"),
    "no images": (_remove(*DAPI, *POLYT), "no images named mosaic"),
    "no PolyT": (_remove(*POLYT), "no mosaic of 'PolyT' for PolyT, only of DAPI"),
    "not a TIFF": (_write(DAPI[0], "text"), "not a TIFF that can be read"),
    "sizes differ": (
        _image("mosaic_DAPI_z1.tif", np.zeros((64, 65), np.uint16)),
        "must have one size",
    ),
    "types differ": (_image("mosaic_DAPI_z1.tif", np.zeros((64, 64), np.uint8)), "one type"),
    "colour image": (_image("mosaic_DAPI_z0.tif", np.zeros((64, 64, 3), np.uint8)), "grey image"),
}


@pytest.mark.parametrize("case", BAD_REGIONS)
def test_bad_regions_are_a_sentence_and_leave_nothing(tmp_path, case):
    change, message = BAD_REGIONS[case]
    region = good_region(tmp_path)
    change(region)
    with pytest.raises(UserError, match=message) as caught:
        import_merscope([region], tmp_path / "b.zarr")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["region_0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentiles": (99, 1)}, "Percentiles 99 and 1"),
        ({"slice_spacing": 0.0}, "slice spacing 0 um"),
        ({"region_spacing": -1.0}, "region spacing -1 um"),
        ({"planes": "both"}, "'both' make no sense"),
        ({"project": "median"}, "'median' makes no sense"),
        ({"genes": ["Th", "Th"]}, "listed twice"),
        ({"genes": ["Unc5b"]}, "None of the 1 genes in the list"),
        ({"stains": {"DAPI": "", "PolyT": ""}}, "at least one stain"),
        ({"stains": {"GFAP": "Cellbound9"}}, "no mosaic of 'Cellbound9' for GFAP"),
    ],
)
def test_bad_options_are_a_sentence(tmp_path, options, message):
    region = good_region(tmp_path)
    with pytest.raises(UserError, match=message):
        import_merscope([region], tmp_path / "b.zarr", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["region_0"]


def test_regions_that_do_not_fit_together_are_refused(tmp_path):
    one, two = good_region(tmp_path / "a"), good_region(tmp_path / "b")
    np.savetxt(two / TRANSFORM, [[5, 0, 0], [0, 5, 0], [0, 0, 1]])
    with pytest.raises(UserError, match="separate brains"):
        import_merscope([one, two], tmp_path / "b.zarr")
    with pytest.raises(UserError, match="No region folder"):
        import_merscope([], tmp_path / "b.zarr")
    with pytest.raises(UserError, match="choose one of its folders region_0"):
        import_merscope([tmp_path / "a"], tmp_path / "b.zarr")
    with pytest.raises(UserError, match="not a folder"):
        import_merscope([tmp_path / "nowhere"], tmp_path / "b.zarr")
    with pytest.raises(UserError, match="larger region spacing"):
        import_merscope([one, one], tmp_path / "b.zarr", planes="slices", region_spacing=1)


def test_plane_heights_that_fit_no_images_are_refused(tmp_path):
    images = {s: noise(2, 64, 64) for s in ("DAPI", "PolyT")}
    rows = [("Th", 5, 5, z) for z in (0.25, 0.5, 0.75)]
    region = write_region(tmp_path / "region_0", transcripts(rows), images)
    with pytest.raises(UserError, match="3 different global_z"):
        import_merscope([region], tmp_path / "b.zarr", planes="slices")


def test_a_broken_mosaic_leaves_no_brain_behind(tmp_path):
    images = {s: noise(1, 300, 300) for s in ("DAPI", "PolyT")}
    rows = transcripts([("Th", 5, 5, 0)])
    region = write_region(tmp_path / "r", rows, images, compression="zlib", rowsperstrip=20)
    file = region / "images" / "mosaic_PolyT_z0.tif"
    with tifffile.TiffFile(file) as tiff:
        place = tiff.pages[0].dataoffsets[-1]
    data = bytearray(file.read_bytes())
    data[place : place + 200] = b"\xff" * 200
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"mosaic_PolyT_z0\.tif cannot be decoded"):
        import_merscope([region], tmp_path / "b.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_an_existing_brain_is_replaced_only_when_asked(tmp_path):
    region = good_region(tmp_path)
    import_merscope([region], tmp_path / "b.zarr", name="first")
    with pytest.raises(UserError, match="exists already"):
        import_merscope([region], tmp_path / "b.zarr", name="second")
    import_merscope([region], tmp_path / "b.zarr", name="second", overwrite=True)
    assert open_brain(tmp_path / "b.zarr").name == "second"

"""Tables and images that cannot be imported: one sentence, exit code 2, and nothing left behind."""

from __future__ import annotations

import gzip

import pytest
import tifffile

from napari_teramind.brain.importers.tables import import_table
from napari_teramind.cli import run
from napari_teramind.errors import UserError

from .test_tables import image, spots, teramind, write_tiff

GOOD = "gene,x,y\nTh,1,1\nMog,2,2\n"


@pytest.mark.parametrize(
    ("text", "words", "arguments"),
    [
        (GOOD, "lacks the column nonsense: it has gene, x, y", ["--x", "nonsense", "--y", "y"]),
        ("a,b\n1,2\n", "name it, of a, b", []),
        ("gene,x,y\nTh,here,1\n", "cannot be read as a transcript table", []),
        ("gene,x,y\nTh,nan,1\nTh,,1\n", "no row with a finite x and y", []),
        ("gene,x,y\nTh,inf,1\nTh,-inf,1\n", "no row with a finite x and y", []),
        ("gene,x,y\nTh,1e300,1\nTh,1,1\n", "more than any slide", []),
        ("gene,x,y\nTh,1e308,1\nTh,-1e308,1\n", "more than any slide", []),
        ("gene,x,y\nTh,-1e300,1e300\n", "None of the", ["--stain", "DAPI=i.ome.tif"]),
        ("gene,x,y\nTh,-5,-7\n", "None of the 1 rows", ["--stain", "DAPI=i.ome.tif"]),
        ("gene,x,y\n", "has no transcripts", []),
        ("", "is empty", []),
        ("gene,x,y\nBlank-1,1,1\n", "blank barcodes only", []),
        ("gene,x,y\nTh,1\n", "cannot be read as a transcript table", []),
        ("gene,x,x,y\nTh,1,1,1\n", "two columns x", []),
        (GOOD, "does not state the size of its pixels", ["--stain", "DAPI=plain.tif"]),
        (GOOD, "which no microscope has", ["--stain", "DAPI=plain.tif", "--pixel-size", "300"]),
        (GOOD, "one image of 1 planes", ["--slice", "gene", "--stain", "DAPI=i.ome.tif"]),
        (GOOD, "'origin' has too few", ["--origin", "1"]),
        (GOOD, "--origin", ["--origin", "a,b"]),
        (GOOD, "origin", ["--origin", "nan,1"]),
        (GOOD, "There is no image", ["--stain", "DAPI=nowhere.tif"]),
        (GOOD, "is not a TIFF", ["--stain", "DAPI=t.tif"]),
        (GOOD, "give one", ["--z", "x", "--slice", "gene"]),
        ("gene,x,y,h\nTh,1,1,1e9\n", "no micrometers", ["--z", "h"]),
        (GOOD, "'pixel_size' cannot be", ["--pixel-size", "-1"]),
        (GOOD, "none of the 1 genes", ["--gene-list", "other.csv"]),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_told_in_a_sentence(
    tmp_path, monkeypatch, capsys, text, words, arguments
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "t.tif").write_text("no image")
    (tmp_path / "other.csv").write_text("gene\nXkr4\n")
    write_tiff(tmp_path / "i.ome.tif", image(64, 64))
    tifffile.imwrite(tmp_path / "plain.tif", image(64, 64))
    before = sorted(path.name for path in tmp_path.iterdir())
    code = run(["import", "table", "t.csv", *arguments, "-o", "o.zarr"])
    said = capsys.readouterr()
    assert code == 2, said.err
    assert words.casefold() in said.err.casefold()
    assert "Traceback" not in said.err
    assert said.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_damaged_files_leave_nothing_behind(tmp_path):
    packed = gzip.compress(spots(20_000, 10, 10).to_csv(index=False).encode())
    (tmp_path / "t.csv.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    for name in ("t.csv.gz", "t.parquet", "empty", "nowhere.csv"):
        with pytest.raises(UserError, match=name):
            import_table([tmp_path / name], tmp_path / "b.zarr")
    assert sorted(tmp_path.iterdir()) == before


def test_single_bad_rows_are_counted_and_left_out(tmp_path):
    (tmp_path / "t.csv").write_text(
        "gene,x,y\nTh,1,1\nTh,nan,1\nTh,inf,1\n,1,1\nTh,-1e300,1\nTh,1e300,1e300\nMog,-2,1\n"
    )
    write_tiff(tmp_path / "i.ome.tif", image(64, 64))
    report = import_table(
        [tmp_path / "t.csv"], tmp_path / "b.zarr", stains={"DAPI": [tmp_path / "i.ome.tif"]}
    )
    counts = report.transcripts
    assert (counts.rows, counts.inside, counts.invalid, counts.outside) == (7, 1, 3, 3)


def test_nothing_of_the_users_is_overwritten(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    (tmp_path / "o.zarr").mkdir()
    (tmp_path / "o.zarr" / "thesis.txt").write_text("dear")
    for more in ([], ["--overwrite"]):
        done = teramind("t.csv", "-o", "o.zarr", *more, cwd=tmp_path)
        assert done.returncode == 2
    assert (tmp_path / "o.zarr" / "thesis.txt").read_text() == "dear"


def test_images_that_show_no_stain_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    pixels = image(64, 64)
    tifffile.imwrite(tmp_path / "whole.tif", pixels)
    whole = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    lying = bytearray(whole)
    with tifffile.TiffFile(tmp_path / "whole.tif") as tiff:
        for name in ("ImageLength", "ImageWidth"):
            place = tiff.pages[0].tags[name].valueoffset
            lying[place : place + 2] = (65_000).to_bytes(2, "little")
    (tmp_path / "lying.tif").write_bytes(lying)
    tifffile.imwrite(tmp_path / "complex.tif", pixels.astype("complex64"))
    tifffile.imwrite(
        tmp_path / "time.tif", pixels[None].repeat(2, 0), imagej=True, metadata={"axes": "TYX"}
    )
    before = sorted(tmp_path.iterdir())
    for name, words in (
        ("cut.tif", "not a TIFF that can be read"),
        ("lying.tif", "not a TIFF that can be read|cannot be decoded"),
        ("complex.tif", "pixels of complex64"),
        ("time.tif", "axes TYX"),
    ):
        with pytest.raises(UserError, match=words):
            import_table(
                [tmp_path / "t.csv"], tmp_path / "b.zarr", pixel_size=0.108,
                stains={"DAPI": [tmp_path / name]},
            )  # fmt: skip
    assert sorted(tmp_path.iterdir()) == before


def test_pixels_that_are_not_square_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    path = write_tiff(tmp_path / "i.ome.tif", image(64, 64), more={"PhysicalSizeX": 0.3})
    with pytest.raises(UserError, match="must be square"):
        import_table([tmp_path / "t.csv"], tmp_path / "b.zarr", stains={"DAPI": [path]})

"""The OME-Zarr importer on images as other software writes them."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_teramind.brain import open_brain
from napari_teramind.brain.importers.omezarr import import_omezarr
from napari_teramind.errors import UserError

from .regions import write_multiscale

PX = 0.108
GRID = {"z": 100.0, "y": PX, "x": PX}
BINS = {"z": 100.0, "y": 16 * PX, "x": 16 * PX}
HALF = {"y": 7.5 * PX, "x": 7.5 * PX}
GENES = ["Th", "Mog", "Aqp4"]


def arrays(z: int = 2, y: int = 200, x: int = 330, seed: int = 0):
    rng = np.random.default_rng(seed)
    dapi = rng.integers(0, 256, (z, y, x), dtype=np.uint8)
    polyt = rng.integers(1, 60_000, (z, y, x), dtype=np.uint16)
    genes = rng.poisson(2.0, (len(GENES), z, -(-y // 16), -(-x // 16))).astype(np.uint16)
    return dapi, polyt, genes


def write_inputs(folder, **changes):
    dapi, polyt, genes = arrays()
    write_multiscale(folder / "dapi.zarr", dapi, "zyx", scale=GRID)
    write_multiscale(folder / "polyt.zarr", polyt[None], "czyx", scale=GRID, version="0.4")
    options = {"scale": BINS, "translation": HALF, "labels": GENES, **changes}
    write_multiscale(folder / "genes.zarr", genes, "czyx", **options)
    return {
        "stains": {"DAPI": folder / "dapi.zarr", "PolyT": folder / "polyt.zarr"},
        "genes": folder / "genes.zarr",
    }


def genes_of(brain):
    _, z, b, c = brain.genes.shape
    return brain.read_genes((0, b, 0, c), (0, z))


def test_a_brain_from_images_of_both_versions(tmp_path):
    dapi, polyt, genes = arrays()
    report = import_omezarr(tmp_path / "b.zarr", **write_inputs(tmp_path))
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == dapi.shape
    assert brain.pixel_size == pytest.approx(PX)
    assert brain.gene_names == tuple(GENES)
    assert brain.stain_names == ("DAPI", "PolyT")
    assert brain.slice_positions.tolist() == [0, 100]
    stains = brain.read_stains((0, 200, 0, 330), (0, 2))
    assert np.array_equal(stains[0], dapi)
    low, high = np.percentile(polyt, (0.1, 99.9), method="lower")
    assert report.intensities == {"PolyT": [low, high]}
    scaled = np.clip((polyt - float(low)) * (255 / (float(high) - low)), 0, 255)
    assert np.abs(stains[1] - scaled).max() <= 0.51
    assert np.array_equal(genes_of(brain), genes)
    assert brain.source["import"] == report.to_dict() | {"shape": [2, 200, 330]} | {
        "percentiles": [0.1, 99.9]
    }


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("stain_axes", "gene_axes"),
    [("tczyx", "tczyx"), ("yx", "cyx"), ("cyx", "czyx"), ("zyx", "cyx")],
)
def test_axis_layouts(tmp_path, stain_axes, gene_axes, version):
    dapi, _, genes = arrays(z=1)
    image = dapi.reshape([1] * (len(stain_axes) - 2) + [200, 330])
    counts = genes[:, 0] if "z" not in gene_axes else genes
    counts = counts[None] if "t" in gene_axes else counts
    place = {"version": version, "levels": 1 + (version == "0.4")}
    write_multiscale(tmp_path / "d.zarr", image, stain_axes, scale=GRID, **place)
    write_multiscale(
        tmp_path / "g.zarr",
        counts.astype(float),
        gene_axes,
        scale=BINS,
        translation=HALF,
        labels=GENES,
        **place,
    )
    import_omezarr(
        tmp_path / "b.zarr", stains={"DAPI": tmp_path / "d.zarr"}, genes=tmp_path / "g.zarr"
    )
    brain = open_brain(tmp_path / "b.zarr")
    assert np.array_equal(brain.read_stains((0, 200, 0, 330), (0, 1))[0], dapi)
    assert np.array_equal(genes_of(brain), genes)


def test_channels_are_found_by_name_or_chosen(tmp_path):
    dapi, _, _ = arrays()
    both = np.stack([255 - dapi, dapi])
    inputs = write_inputs(tmp_path)
    path = write_multiscale(
        tmp_path / "both.zarr", both, "czyx", scale=GRID, labels=["polyT", "dapi"]
    )
    for target, location in (("DAPI", path), ("Nuclei", f"{path}#1"), ("Nuclei", f"{path}#dapi")):
        import_omezarr(
            tmp_path / "b.zarr", stains={target: location}, genes=inputs["genes"], overwrite=True
        )
        brain = open_brain(tmp_path / "b.zarr")
        assert np.array_equal(brain.read_stains((0, 200, 0, 330), (0, 2))[0], dapi)
    with pytest.raises(UserError, match=r"2 channels \(polyT, dapi\) and none is named 'GFAP'"):
        import_omezarr(tmp_path / "c.zarr", stains={"GFAP": path}, genes=inputs["genes"])


def test_the_level_that_fits_the_bins_is_taken(tmp_path):
    """One stain is scanned twice as finely as the other, and in nanometers."""
    dapi, _, _ = arrays()
    inputs = write_inputs(tmp_path)
    fine = dapi.repeat(2, axis=1).repeat(2, axis=2)
    write_multiscale(
        tmp_path / "fine.zarr",
        fine,
        "zyx",
        scale={"z": 100e3, "y": PX * 500, "x": PX * 500},
        unit="nanometer",
        levels=3,
    )
    stains = inputs["stains"] | {"DAPI": tmp_path / "fine.zarr"}
    import_omezarr(tmp_path / "b.zarr", stains=stains, genes=inputs["genes"])
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == dapi.shape
    assert np.array_equal(brain.read_stains((0, 200, 0, 330), (0, 2))[0], dapi)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint32])
def test_other_pixel_types(tmp_path, dtype):
    rng = np.random.default_rng(1)
    inputs = write_inputs(tmp_path)
    image = rng.integers(-100 if dtype == np.int16 else 1, 30_000, (2, 200, 330)).astype(dtype)
    write_multiscale(tmp_path / "d.zarr", image, "zyx", scale=GRID)
    import_omezarr(
        tmp_path / "b.zarr",
        stains={"DAPI": tmp_path / "d.zarr"},
        genes=inputs["genes"],
        percentiles=(0, 100),
    )
    stains = open_brain(tmp_path / "b.zarr").read_stains((0, 200, 0, 330), (0, 2))
    low, high = float(image.min()), float(image.max())
    assert np.abs(stains[0] - (image - low) * 255 / (high - low)).max() <= 0.52


def test_a_spot_and_its_transcripts_coincide_at_every_level(tmp_path):
    rng = np.random.default_rng(2)
    for i in range(4):
        v, u = rng.integers(0, 512, 2)
        image = np.zeros((1, 512, 512), np.uint8)
        image[0, v, u] = 255
        counts = np.zeros((1, 1, 32, 32), np.uint8)
        counts[0, 0, v // 16, u // 16] = 1
        folder = tmp_path / str(i)
        # Half of the files say where a bin's centre lies; the others start everything at zero.
        shift = HALF if i % 2 else None
        write_multiscale(folder / "d.zarr", image, "zyx", scale=GRID)
        write_multiscale(
            folder / "g.zarr", counts, "czyx", scale=BINS, translation=shift, labels=["Th"]
        )
        report = import_omezarr(
            folder / "b.zarr", stains={"DAPI": folder / "d.zarr"}, genes=folder / "g.zarr"
        )
        assert len(report.warnings) == (0 if i % 2 else 1)
        brain = open_brain(folder / "b.zarr")
        for multiscale in (brain.genes, brain.stains):
            for level, array in enumerate(multiscale.levels):
                plane = np.asarray(array[0, 0])
                found = np.unravel_index(plane.argmax(), plane.shape)
                side = np.array(multiscale.scale(level)[2:])
                world = found * side + multiscale.translation(level)[2:]
                assert (np.abs(world - np.array([v, u]) * PX) <= side / 2 + 1e-9).all()


def test_structures_come_with_their_table(tmp_path):
    inputs = write_inputs(tmp_path)
    labels = np.zeros((2, 13, 21), np.uint16)
    labels[:, 3:9, 4:12] = 672
    path = write_multiscale(tmp_path / "s.zarr", labels, "zyx", scale=BINS, translation=HALF)
    group = zarr.open_group(path)
    block = {
        "colors": [{"label-value": 672, "rgba": [152, 214, 249, 255]}],
        "properties": [{"label-value": 672, "acronym": "CP", "name": "Caudoputamen"}],
    }
    group.attrs["ome"] = {**group.attrs["ome"], "image-label": block}
    import_omezarr(tmp_path / "b.zarr", structures=path, **inputs)
    brain = open_brain(tmp_path / "b.zarr")
    assert np.array_equal(brain.structures.levels[0][:], labels)
    row = brain.structure_table.iloc[0]
    assert (row["id"], row["acronym"], row["color_hex"]) == (672, "CP", "98D6F9")


def test_genes_named_by_a_list(tmp_path):
    inputs = write_inputs(tmp_path, labels=None)
    with pytest.raises(UserError, match="does not name its channels"):
        import_omezarr(tmp_path / "b.zarr", **inputs)
    with pytest.raises(UserError, match="3 channels but 2 genes"):
        import_omezarr(tmp_path / "b.zarr", gene_names=["a", "b"], **inputs)
    import_omezarr(tmp_path / "b.zarr", gene_names=["a", "b", "c"], **inputs)
    assert open_brain(tmp_path / "b.zarr").gene_names == ("a", "b", "c")


def test_fractions_are_kept_and_warned_about(tmp_path):
    inputs = write_inputs(tmp_path)
    _, _, genes = arrays()
    halves = genes / 3
    write_multiscale(
        tmp_path / "h.zarr", halves, "czyx", scale=BINS, translation=HALF, labels=GENES
    )
    report = import_omezarr(tmp_path / "b.zarr", stains=inputs["stains"], genes=tmp_path / "h.zarr")
    assert any("not whole numbers" in line for line in report.summary())
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.source["import"]["warnings"] == report.warnings
    assert np.array_equal(genes_of(brain), halves.astype(np.float32))


def _genes(**options):
    def change(folder):
        _, _, genes = arrays()
        settings = {"scale": BINS, "translation": HALF, "labels": GENES, **options}
        image = settings.pop("image", genes)
        return {
            "genes": write_multiscale(
                folder / "bad.zarr", image, settings.pop("axes", "czyx"), **settings
            )
        }

    return change


def _dapi(image=None, **options):
    def change(folder):
        dapi = arrays()[0] if image is None else image
        settings = {"scale": GRID, "axes": "zyx", **options}
        path = write_multiscale(folder / "bad.zarr", dapi, settings.pop("axes"), **settings)
        return {"stains": {"PolyT": folder / "polyt.zarr", "DAPI": path}}

    return change


def _structures(image, **options):
    def change(folder):
        settings = {"scale": BINS, "translation": HALF, **options}
        return {"structures": write_multiscale(folder / "bad.zarr", image, "zyx", **settings)}

    return change


def _not_ngff(folder):
    zarr.create_group(str(folder / "bad.zarr"))
    return {"genes": folder / "bad.zarr"}


def _file(folder):
    (folder / "bad.zarr").write_text("text")
    return {"genes": folder / "bad.zarr"}


def _level_missing(folder):
    path = _genes()(folder)["genes"]
    document = zarr.open_group(path)
    del document["0"]
    return {"genes": path}


def _truncated(folder):
    path = _genes(levels=1)(folder)["genes"]
    for file in (path / "0" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:20])
    return {"genes": path}


NEGATIVE = -np.ones((3, 2, 13, 21))
LABELS = np.ones((2, 13, 21), np.uint16)

BAD = {
    "shifted genes": (_genes(translation={"y": 0, "x": 16 * PX}), r"-0\.81 um in y and \+0\.92 um"),
    "genes of another field": (_genes(image=np.ones((3, 2, 13, 30))), r"51\.84 um long in x"),
    "genes of other slices": (_genes(image=np.ones((3, 5, 13, 21))), "5 slices but"),
    "genes at another height": (_genes(translation=HALF | {"z": 60.0}), "slices from 60 um"),
    "bins of another size": (_genes(scale={"y": 2.0, "x": 2.0}), "needs pixels of 0.125 um"),
    "oblong bins": (_genes(scale={"y": 2.0, "x": 1.0}), "must be square"),
    "negative counts": (_genes(image=NEGATIVE), "negative or undefined values in .* 'Th'"),
    "undefined counts": (_genes(image=NEGATIVE * np.nan), "negative or undefined"),
    "genes listed twice": (_genes(labels=["Th", "Th", "Mog"]), "'Th' is listed twice"),
    "two times": (_genes(image=np.ones((2, 3, 2, 13, 21)), axes="tczyx"), "2 time points"),
    "unknown axis": (_genes(image=np.ones((3, 2, 13, 21)), axes="qzyx"), "has the axes q, z"),
    "unknown unit": (_genes(unit="parsec"), "not a multiscale image"),
    "a shifted stain": (_dapi(translation={"y": 0.1, "x": 0.0}), r"\+0\.10 um in y"),
    "a cropped stain": (_dapi(image=np.ones((2, 200, 300), np.uint8)), r"32\.40 um long in x"),
    "complex pixels": (_dapi(image=np.ones((2, 200, 330), complex)), "type complex128"),
    "a stain of other slices": (_dapi(image=np.ones((3, 200, 330), np.uint8)), "3 slices but"),
    "structures of fractions": (_structures(LABELS * 0.5), "label image of integers"),
    "structures below zero": (_structures(-LABELS.astype(np.int16)), "negative labels"),
    "structures of odd pixels": (
        _structures(LABELS, scale={"y": 15.5 * PX, "x": 15.5 * PX}),
        "must be a whole number",
    ),
    "zarr without metadata": (_not_ngff, "not a multiscale image"),
    "a file": (_file, "not a Zarr group"),
    "nothing there": (lambda folder: {"genes": folder / "bad.zarr"}, "no image at"),
    "a level missing": (_level_missing, "lacks the level '0'"),
    "damaged data": (_truncated, "cannot be decoded"),
    "no stains": (lambda folder: {"stains": {}}, "at least one stain"),
    "percentiles": (lambda folder: {"percentiles": (5.0, 5.0)}, "make no sense"),
    "positions": (lambda folder: {"slice_positions": [3.0]}, "1 slice positions"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_images_are_a_sentence_and_leave_nothing(tmp_path, case):
    change, message = BAD[case]
    inputs = write_inputs(tmp_path) | change(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        import_omezarr(tmp_path / "b.zarr", **inputs)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.zarr").exists()


def test_a_brain_is_no_image_but_its_images_are(tmp_path, tiny_brain, tiny_arrays):
    path = tiny_brain.path
    with pytest.raises(UserError, match="is a brain already"):
        import_omezarr(tmp_path / "b.zarr", stains={"DAPI": path}, genes=f"{path}/genes")
    import_omezarr(
        tmp_path / "b.zarr",
        stains=dict.fromkeys(tiny_brain.stain_names, f"{path}/stains"),
        genes=f"{path}/genes",
        structures=f"{path}/stains/labels/structures",
        tissue=f"{path}/stains/labels/tissue",
        slice_positions=tiny_brain.slice_positions,
    )
    copy = open_brain(tmp_path / "b.zarr")
    stains, genes, structures = tiny_arrays
    assert np.array_equal(copy.read_stains((0, 256, 0, 384), (0, 4)), stains)
    assert np.array_equal(genes_of(copy), genes)
    assert np.array_equal(copy.structures.levels[0][:], structures)
    assert copy.structure_table.equals(tiny_brain.structure_table)
    assert copy.slice_positions.tolist() == [0, 100, 200, 320]
    for mine, its in ((copy.stains, tiny_brain.stains), (copy.genes, tiny_brain.genes)):
        for level in range(len(its.levels)):
            assert mine.translation(level) == pytest.approx(its.translation(level))

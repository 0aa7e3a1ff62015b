"""The importer of SpatialData stores: one that the library wrote, and others of its format."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.brain.importers.spatialdata import import_spatialdata
from napari_teramind.cli import run
from napari_teramind.errors import UserError

from .test_tables import PIXEL, counted, dots, genes_of, spots

DATA = Path(__file__).parents[1] / "data"
Step = dict[str, Any]


def axes_of(names: str, unit: str) -> list[dict[str, str]]:
    kinds = {"c": "channel"}
    return [
        {"name": name, "type": kinds.get(name, "space")} | ({} if name == "c" else {"unit": unit})
        for name in names
    ]


def leading(step: Step, axes: str, system: str = "global", unit: str = "unit") -> Step:
    """Say from where to where a transformation leads, as SpatialData does."""
    named = dict(step)
    if "transformations" in named:
        parts = named["transformations"]
        named["transformations"] = [leading(part, axes, system, unit) for part in parts]
    named["input"] = {"name": axes, "axes": axes_of(axes, "unit")}
    named["output"] = {"name": system, "axes": axes_of(axes, unit)}
    return named


IDENTITY: Step = {"type": "identity"}


def scaled(*factors: float) -> Step:
    return {"type": "scale", "scale": list(factors)}


def moved(*shift: float) -> Step:
    return {"type": "translation", "translation": list(shift)}


def in_turn(*steps: Step) -> Step:
    return {"type": "sequence", "transformations": list(steps)}


def write_store(
    path: Path,
    table: pd.DataFrame,
    channels: dict[str, np.ndarray] | None = None,
    *,
    image: Step = IDENTITY,
    points: Step = IDENTITY,
    unit: str = "unit",
    system: str = "global",
    levels: int = 1,
) -> Path:
    """Write points named spots in two parts, and an image named stains, as SpatialData 0.7 does."""
    version = {"spatialdata_attrs": {"version": "0.2"}}
    root = zarr.create_group(str(path), zarr_format=3, attributes=version)
    root.create_group("points").create_group(
        "spots",
        attributes={
            "encoding-type": "ngff:points",
            "axes": ["x", "y"],
            "coordinateTransformations": [leading(points, "xy", system, unit)],
            "spatialdata_attrs": {"version": "0.2", "feature_key": "what"},
        },
    )
    folder = path / "points" / "spots" / "points.parquet"
    folder.mkdir()
    named = table.rename(columns={"gene": "what"}).astype({"what": "category"})
    named.assign(gene=1).iloc[::2].to_parquet(folder / "part.0.parquet")
    named.assign(gene=1).iloc[1::2].to_parquet(folder / "part.1.parquet")
    if channels is None:
        return path
    multiscale = {
        "name": "stains",
        "axes": [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")],
        "datasets": [
            {"path": f"s{k}", "coordinateTransformations": [scaled(1, 2**k, 2**k)]}
            for k in range(levels)
        ],
        "coordinateTransformations": [leading(image, "cyx", system, unit)],
    }
    ome = {
        "version": "0.5-dev-spatialdata",
        "omero": {"channels": [{"label": name} for name in channels]},
        "multiscales": [multiscale],
    }
    attributes = {"ome": ome, "spatialdata_attrs": {"version": "0.2"}}
    group = root.create_group("images").create_group("stains", attributes=attributes)
    for k in range(levels):
        pixels = np.stack([each[:: 2**k, :: 2**k] for each in channels.values()])
        group.create_array(f"s{k}", data=pixels)
    return path


def check_dots(brain: BrainStore, table: pd.DataFrame, origin: Sequence[float], n: int) -> None:
    """Check that pixels are bright, and bins counted, where transcripts (micrometers) are."""
    height, width = brain.shape[1:]
    found = brain.read_stains((0, height, 0, width), (0, 1))[0, 0]
    assert genes_of(brain).sum() == n
    for x, y in table[["x", "y"]].to_numpy() - origin:
        v, u = int(y / PIXEL), int(x / PIXEL)
        assert found[v, u] > 200
        assert genes_of(brain)[0, 0, v // 16, u // 16] >= 1
    assert (found > 128).mean() < 0.05


def test_a_store_that_the_library_wrote(tmp_path):
    with zipfile.ZipFile(DATA / "spatialdata.zip") as packed:
        packed.extractall(tmp_path / "s.zarr")
    lies = json.loads((DATA / "spatialdata.json").read_text())["lies"]
    rng = np.random.default_rng(1)
    places = rng.uniform([1, 1], [90, 60], (400, 2))
    for name, stain in (("stain", "stain"), ("turned", "turned#0")):
        # Pixel coordinates of the image, taken to the world by the library's own matrix.
        matrix = np.asarray(lies[name])
        world = places[:, ::-1] @ matrix[:-1, :-1].T + matrix[:-1, -1]
        table = pd.DataFrame({"x": world[:, 1], "y": world[:, 0], "gene": "Th"})
        part = tmp_path / "s.zarr/points/transcripts/points.parquet/part.0.parquet"
        table.to_parquet(part)
        out = tmp_path / f"{name}.zarr"
        command = [sys.executable, "-m", "napari_teramind", "import", "spatialdata", "s.zarr"]
        more = ["--stain", f"DAPI={stain}", "-o", str(out)]
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "taken as micrometers" in done.stdout
        brain = open_brain(out)
        assert genes_of(brain).sum() == 400
        # The stain as it was made, seen by the nearest pixel at every transcript.
        pixels = zarr.open_array(str(tmp_path / f"s.zarr/images/{name}/s0"), mode="r")[0]
        wanted = pixels[places[:, 1].astype(int), places[:, 0].astype(int)].astype(float)
        origin = np.array(brain.source["origin_um"])
        v, u = np.floor((table[["y", "x"]].to_numpy() - origin[::-1]) / PIXEL).astype(int).T
        found = brain.read_stains((0, brain.shape[1], 0, brain.shape[2]), (0, 1))[0, 0][v, u]
        assert np.corrcoef(wanted, found)[0, 1] > 0.75
        swapped = np.corrcoef(wanted, found[rng.permutation(len(found))])[0, 1]
        assert abs(swapped) < 0.3


def test_images_of_the_brains_own_pixels_are_taken_as_they_are(tmp_path):
    table = spots(3000, 25, 40)
    image = np.random.default_rng(3).integers(1, 255, (2, 200, 333), np.uint8)
    # The whole store is turned to micrometers from elsewhere: the image lies at (100, 50).
    store = write_store(
        tmp_path / "s.zarr",
        table.assign(x=table["x"] + 100, y=table["y"] + 50),
        {"PolyT": image[0], "dapi": image[1]},
        image=in_turn(scaled(1, PIXEL, PIXEL), moved(0, 50, 100)),
    )
    report = import_spatialdata(store, tmp_path / "b.zarr")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.stain_names == ("DAPI", "PolyT")
    assert brain.shape == (1, 200, 333)
    assert np.array_equal(brain.read_stains((0, 200, 0, 333), (0, 1))[:, 0], image[::-1])
    bins = brain.genes.shape[-2:]
    inside = table[table["x"].between(0, 333 * PIXEL) & table["y"].between(0, 200 * PIXEL)]
    assert np.array_equal(genes_of(brain)[:, 0], counted(inside, bins))
    assert report.transcripts.rows == 3000
    said = " ".join(report.summary())
    assert "DAPI from the image stains" in said
    assert "resampled" not in said


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize(
    ("size", "image", "points", "unit_um", "unit"),
    [
        # As spatialdata-io reads Xenium: global counts pixels, points are scaled to them.
        (0.2125, IDENTITY, scaled(1 / 0.2125, 1 / 0.2125), None, "unit"),
        (0.2125, scaled(1, 0.2125, 0.2125), IDENTITY, None, "unit"),
        (0.05, scaled(1, 0.05, 0.05), IDENTITY, None, "unit"),
        (0.5, scaled(1, 5, 5), scaled(10, 10), 0.1, "unit"),
        (0.5, scaled(1, 5e-4, 5e-4), scaled(1e-3, 1e-3), None, "millimeter"),
        (
            0.3,
            {"type": "affine", "affine": [[1, 0, 0, 0], [0, 0, 0.3, 7], [0, 0.3, 0, -4]]},
            {"type": "affine", "affine": [[0, 1, -4], [1, 0, 7]]},
            1.0,
            "unit",
        ),
    ],
    ids=["xenium", "scaled", "fine", "unit given", "millimetres", "turned"],
)
def test_images_lie_where_their_transcripts_are(
    tmp_path, size, image, points, unit_um, unit, levels
):
    pixels, table = dots(size, 240, 300)
    store = write_store(
        tmp_path / "s.zarr", table, {"DAPI": pixels}, image=image, points=points, unit=unit,
        levels=levels,
    )  # fmt: skip
    import_spatialdata(store, tmp_path / "b.zarr", unit_um=unit_um)
    brain = open_brain(tmp_path / "b.zarr")
    matrix = np.array(brain.source["table_to_um"])
    world = table[["x", "y"]].to_numpy() @ matrix[:2, :2].T + matrix[:2, 2]
    if not (size == 0.05 and levels == 3):
        # (Half as many pixels, of which each is every other one, need not show a dot's centre.)
        moved_table = pd.DataFrame(world, columns=["x", "y"])
        check_dots(brain, moved_table, brain.source["origin_um"], len(table))
    lengths = np.array(brain.shape[1:]) * PIXEL
    sides = [240 * size, 300 * size]
    wanted = sides[::-1] if isinstance(image.get("affine"), list) else sides
    assert np.abs(lengths - wanted).max() < PIXEL


def test_another_coordinate_system_and_no_image(tmp_path):
    table = spots(500, 10, 10)
    store = write_store(
        tmp_path / "s.zarr", table, points=scaled(2, 2), system="aligned", unit="micrometer"
    )
    out = tmp_path / "b.zarr"
    assert (
        run(["import", "spatialdata", str(store), "--coordinate-system", "aligned", "-o", str(out)])
        == 0
    )
    brain = open_brain(out)
    assert brain.source["coordinate_system"] == "aligned"
    origin = np.array(brain.source["origin_um"])
    moved_table = table.assign(x=table["x"] * 2 - origin[0], y=table["y"] * 2 - origin[1])
    assert np.array_equal(genes_of(brain)[:, 0], counted(moved_table, brain.genes.shape[-2:]))
    with pytest.raises(UserError, match="'global': it has aligned"):
        import_spatialdata(store, tmp_path / "c.zarr")


def edit(store: Path, element: str, change: Any) -> None:
    file = store / element / "zarr.json"
    values = json.loads(file.read_text())
    change(values["attributes"])
    file.write_text(json.dumps(values))


def set_points(step: Any) -> Any:
    def change(attributes: dict[str, Any]) -> None:
        attributes["coordinateTransformations"] = [step]

    return change


def add_points(store: Path) -> None:
    shutil.copytree(store / "points" / "spots", store / "points" / "others")


UNIT = ["--unit-um", "0.108"]
BAD = {
    "mapAxis": leading({"type": "mapAxis"}, "xy"),
    "other axes": leading(IDENTITY, "yx"),
    "short": leading(scaled(1), "xy"),
    "words": leading({"type": "scale", "scale": ["a", "b"]}, "xy"),
    "no scale": leading({"type": "scale"}, "xy"),
    "flat": leading(scaled(0, 1), "xy"),
    "infinite": leading(scaled(float("inf"), 1), "xy"),
    "unknown part": leading(in_turn({"type": "bspline"}), "xy"),
}


@pytest.mark.parametrize(
    ("spoil", "words", "arguments"),
    [
        (lambda s: edit(s, "points/spots", set_points(BAD["mapAxis"])), "'mapAxis'", []),
        (lambda s: edit(s, "points/spots", set_points(BAD["other axes"])), "axes y, x", []),
        (lambda s: edit(s, "points/spots", set_points(BAD["short"])), "damaged", []),
        (lambda s: edit(s, "points/spots", set_points(BAD["words"])), "damaged", []),
        (lambda s: edit(s, "points/spots", set_points(BAD["no scale"])), "damaged", []),
        (lambda s: edit(s, "points/spots", set_points(BAD["flat"])), "plane to a plane", []),
        (lambda s: edit(s, "points/spots", set_points(BAD["infinite"])), "plane to a plane", []),
        (lambda s: edit(s, "points/spots", set_points(BAD["unknown part"])), "'bspline'", []),
        (lambda s: edit(s, "points/spots", set_points("text")), "it has none", []),
        (lambda s: edit(s, "points/spots", set_points({"type": "identity"})), "global", []),
        (add_points, "points others, spots: say which", []),
        (lambda s: shutil.rmtree(s / "points"), "has no points", []),
        (lambda s: shutil.rmtree(s / "points/spots/points.parquet"), "not there", UNIT),
        (lambda s: edit(s, "images/stains", lambda a: a.pop("ome")), "not a multiscale", []),
        (lambda s: edit(s, ".", lambda a: a.clear()), "does not say", []),
        (lambda s: (s / "zarr.json").write_text("{"), "damaged", []),
        (lambda s: None, "no points named 'x'", ["--points", "x"]),
        (lambda s: None, "no images named 'x'", ["--stain", "DAPI=x"]),
        (lambda s: None, "none is named 'y'", ["--stain", "DAPI=stains#y"]),
        (lambda s: None, "'local': it has global", ["--coordinate-system", "local"]),
        (lambda s: None, "counts pixels", []),
        (lambda s: None, "lacks the column nothing", ["--gene", "nothing", "--unit-um", "1"]),
        (lambda s: None, "no microscope", ["--unit-um", "1000"]),
        (lambda s: None, "'unit_um' cannot be", ["--unit-um", "0"]),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_told_in_a_sentence(tmp_path, capsys, spoil, words, arguments):
    channels = {"DAPI": np.ones((64, 64), np.uint8), "PolyT": np.ones((64, 64), np.uint8)}
    store = write_store(tmp_path / "s.zarr", spots(50, 30, 30), channels)
    spoil(store)
    code = run(["import", "spatialdata", str(store), *arguments, "-o", str(tmp_path / "o.zarr")])
    said = capsys.readouterr()
    assert code == 2, said.err
    assert words in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_what_is_no_store_is_told(tmp_path):
    zarr.create_group(str(tmp_path / "plain.zarr"))
    for name, words in (("nowhere.zarr", "not a folder"), ("plain.zarr", "does not say")):
        with pytest.raises(UserError, match=words):
            import_spatialdata(tmp_path / name, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()

"""Slices registered by affine maps and landmarks: pixels and transcripts go to one place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize
from skimage import transform as skt

from napari_teramind.brain import open_brain
from napari_teramind.brain.importers import placing, resampling
from napari_teramind.brain.importers.manifest import draft_manifest, read_manifest
from napari_teramind.brain.importers.merscope import import_merscope
from napari_teramind.brain.importers.region import open_region
from napari_teramind.brain.importers.warps import LandmarkWarp, read_warp
from napari_teramind.errors import UserError

from .regions import OFFSET, PIXEL, good_region, noise, transcripts, write_region

ToCommon = Callable[[np.ndarray], np.ndarray]

SHAPE = (300, 260)
STAINS = {"DAPI": "DAPI", "PolyT": "PolyT"}


def smooth(seed: int) -> list[np.ndarray]:
    """One plane of blobs, so that interpolation hardly matters."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random(SHAPE), 3)
    image = (image - image.min()) / np.ptp(image)
    return [(1 + image * 60_000).astype(np.uint16)]


def made_region(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    rows = [
        (str(gene), float(v), float(u), 0)
        for gene, v, u in zip(
            rng.choice(["Th", "Mog", "Aqp4"], 600),
            rng.uniform(0, SHAPE[0], 600),
            rng.uniform(0, SHAPE[1], 600),
            strict=True,
        )
    ]
    images = {"DAPI": smooth(1), "PolyT": smooth(2)}
    return write_region(folder / "region_0", transcripts(rows), images)


@pytest.fixture(params=["made", "real"])
def region(request, tmp_path) -> tuple[Path, dict[str, str]]:
    """A region folder, and which of its stains stand for ours."""
    if request.param == "made":
        return made_region(tmp_path), STAINS
    data = request.getfixturevalue("teramind_data")
    folder = shutil.copytree(data / "merscope_region" / "region_0", tmp_path / "region_0")
    return folder, STAINS | {"PolyT": "Cellbound2"}


def turned(folder: Path) -> tuple[dict, ToCommon, Callable[[np.ndarray], np.ndarray]]:
    """Register a region by an affine map; return its manifest entry, and both ways."""
    angle = np.deg2rad(7)
    matrix = np.array(
        [
            [1.03 * np.cos(angle), -np.sin(angle), 40.0],
            [np.sin(angle), 0.98 * np.cos(angle), -15.0],
            [0, 0, 1],
        ]
    )
    (folder / "affine.json").write_text(json.dumps({"matrix": matrix.tolist()}))
    forth = skt.AffineTransform(matrix=matrix)
    return {"transform": "region_0/affine.json"}, forth, forth.inverse


def bent(folder: Path) -> tuple[dict, ToCommon, Callable[[np.ndarray], np.ndarray]]:
    """Register a region by landmarks, as BigWarp saves them; the inverse by another library."""
    height, width = open_region(folder, {"DAPI": "DAPI"}).shape
    matrix = np.loadtxt(folder / "images" / "micron_to_mosaic_pixel_transform.csv")
    offset, size = -matrix[:2, 2] / matrix[0, 0], 1 / matrix[0, 0]
    rng = np.random.default_rng(5)
    y, x = np.meshgrid(np.linspace(0, height, 4), np.linspace(0, width, 4))
    own = np.stack([x.ravel(), y.ravel()], axis=1) * size + offset
    common = own + rng.normal(0, 0.02 * width * size, own.shape) + (3.0, 11.0)
    rows = [
        f'"Pt-{i}","true",{a[0]!r},{a[1]!r},{b[0]!r},{b[1]!r}'
        for i, (a, b) in enumerate(zip(own.tolist(), common.tolist(), strict=True))
    ]
    rows.append('"Pt-99","false",0.0,0.0,999.0,-999.0')
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    spline = skt.ThinPlateSplineTransform.from_estimate(common, own)

    def forth(points: np.ndarray) -> np.ndarray:
        return np.array(
            [optimize.fsolve(lambda q, p=p: spline(q[None])[0] - p, p, xtol=1e-12) for p in points]
        )

    return {"transform": "region_0/landmarks.csv"}, forth, spline


def write_manifest(folder: Path, *entries: dict, more: str = "") -> Path:
    lines = []
    for entry in entries:
        lines.append("[[slice]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    path = folder / "slices.toml"
    path.write_text("\n".join(lines) + "\n" + more)
    return path


@pytest.mark.parametrize("register", [turned, bent])
def test_pixels_and_transcripts_are_warped_as_others_warp_them(region, register, tmp_path):
    folder, stains = region
    entry, forth, back = register(folder)
    manifest = write_manifest(tmp_path, {"region": "region_0", **entry})
    report = import_merscope([manifest], tmp_path / "b.zarr", stains=stains, planes="project")
    brain = open_brain(tmp_path / "b.zarr")
    grid = brain.source["registrations"][0]["grid"]
    origin, size, (height, width) = np.array(grid["origin_um"]), brain.pixel_size, brain.shape[1:]

    table = pd.read_csv(folder / "detected_transcripts.csv")
    table = table[~table["gene"].str.startswith("Blank")]
    points = forth(table[["global_x", "global_y"]].to_numpy())
    u, v = ((points - origin) / size).T
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    assert report.transcripts.inside == inside.sum() > 0
    b, c = brain.genes.shape[-2:]
    counts = brain.read_genes((0, b, 0, c), (0, 1))
    for i, gene in enumerate(brain.gene_names):
        of = inside & (table["gene"] == gene).to_numpy()
        expected = np.zeros((b, c))
        np.add.at(expected, (v[of].astype(int) // 16, u[of].astype(int) // 16), 1)
        assert np.array_equal(counts[i, 0], expected)

    source = open_region(folder, stains)
    matrix = source.transform

    def to_source(pixels: np.ndarray) -> np.ndarray:
        """Centres of the grid's pixels (x, y) to those of the mosaic's."""
        own = np.concatenate(
            [back(part) for part in np.array_split((pixels + 0.5) * size + origin, 16)]
        )
        return own @ matrix[:2, :2].T + matrix[:2, 2] - 0.5

    read = brain.read_stains((0, height, 0, width), (0, 1))
    for s, target in enumerate(brain.stain_names):
        whole = (0, source.shape[0], 0, source.shape[1])
        image = source.read(stains[target], source.planes, "max", whole)
        warped = skt.warp(image.astype(float), to_source, output_shape=(height, width), order=1)
        low, high = report.intensities[target]
        expected = np.clip(np.rint((warped - low) * 255 / (high - low)), 0, 255)
        # The mosaic's outermost half pixel, which others leave out, is seen here.
        seen = skt.warp(np.ones(source.shape), to_source, output_shape=(height, width), order=1) > 0
        seen = ndimage.binary_erosion(seen, iterations=2)
        difference = np.abs(read[s, 0].astype(float) - expected)[seen]
        steepest = np.abs(np.gradient(expected)).max()
        assert difference.max() <= 1 + 2 * resampling._TOLERANCE * steepest
        assert difference.mean() < 0.2
        assert seen.mean() > 0.5


def test_a_bright_spot_and_its_transcripts_stay_together(tmp_path):
    rng = np.random.default_rng(0)
    spots = rng.uniform(40, np.array(SHAPE) - 40, (12, 2))
    image = np.full(SHAPE, 1.0)
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    for v, u in spots:
        image += 60_000 * np.exp(-((yy - v) ** 2 + (xx - u) ** 2) / (2 * 2.0**2))
    images = {s: [np.minimum(image, 65_535).astype(np.uint16)] for s in STAINS}
    rows = [(f"Gene{i}", v, u, 0) for i, (v, u) in enumerate(spots.tolist())]
    folder = write_region(tmp_path / "region_0", transcripts(rows), images)
    entry, _, _ = bent(folder)
    manifest = write_manifest(tmp_path, {"region": "region_0", "flip": "x", **entry})
    import_merscope([manifest], tmp_path / "b.zarr", percentiles=(0, 100))
    opened, kept = open_region(folder, STAINS), read_manifest(manifest)
    (placed,) = placing.place_regions([opened], kept)
    pixels = placed.pixels(spots[:, ::-1] * PIXEL + np.array(OFFSET))
    brain = open_brain(tmp_path / "b.zarr")
    height, width = brain.shape[1:]
    plane = brain.read_stains((0, height, 0, width), (0, 1))[0, 0].astype(float)
    for u, v in pixels:
        y, x = int(v), int(u)
        part = plane[y - 5 : y + 6, x - 5 : x + 6]
        middle = np.array(ndimage.center_of_mass(part)) + (y - 5, x - 5) + 0.5
        assert np.hypot(*(middle - (v, u))) < 0.6


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 30), bend=st.floats(0, 0.04))
def test_landmarks_go_there_and_back(seed, n, bend):
    rng = np.random.default_rng(seed)
    own = rng.uniform(0, 1000, (n, 2))
    near = np.hypot(*(own[:, None] - own[None]).transpose(2, 0, 1))[~np.eye(n, dtype=bool)].min()
    if near < 60 or np.linalg.svd(own - own.mean(0))[1][1] < 100:
        return
    warp = LandmarkWarp(own, own + rng.normal(0, bend * 300, (n, 2)) + 50, "it")
    np.testing.assert_allclose(warp.to_own(warp.common), own, atol=1e-6)
    points = rng.uniform(0, 1000, (200, 2))
    np.testing.assert_allclose(warp.to_own(warp.to_common(points)), points, atol=1e-3)


def test_registrations_are_read_in_all_their_forms(tmp_path):
    matrix = np.array([[0.9, 0.1, 5], [-0.2, 1.1, 7], [0, 0, 1]])
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    forms = {
        "a.json": json.dumps(matrix.tolist()),
        "b.json": json.dumps({"matrix": matrix[:2].tolist()}),
        "c.csv": "\n".join(",".join(map(repr, row)) for row in matrix.tolist()),
        "d.csv": "\n".join(",".join(map(repr, row)) for row in matrix[:2].tolist()),
        "e.csv": "\n".join(
            f"Pt-{i},TRUE,{','.join(map(repr, [*a, *b]))}"
            for i, (a, b) in enumerate(zip(points.tolist(), moved.tolist(), strict=True))
        ),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        warp = read_warp(tmp_path / name)
        np.testing.assert_allclose(warp.to_common(points), moved, atol=1e-3)
        np.testing.assert_allclose(warp.to_own(moved), points, atol=1e-3)
        undone = read_warp(tmp_path / name, inverse=True)
        np.testing.assert_allclose(undone.to_common(moved), points, atol=1e-3)
        scaled = read_warp(tmp_path / name, units_um=(0.5, 25.0))
        np.testing.assert_allclose(scaled.to_common(points * 0.5), moved * 25, atol=1e-2)


BAD = {
    "word.csv": ("hello\n", "is neither an affine map"),
    "flat.csv": ("1,0,0\n0,0,0\n", "cannot be undone|can be undone"),
    "text.json": ("{", "is not JSON"),
    "short.json": ("[[1, 2]]", "can be undone"),
    "nan.json": ("[[1, 0, NaN], [0, 1, 0]]", "can be undone"),
    "two.csv": ("a,true,0,0,1,1\nb,true,5,5,6,6\n", "needs at least three"),
    "line.csv": ("a,true,0,0,0,0\nb,true,5,5,5,5\nc,true,9,9,9,9\n", "on one line"),
    "twice.csv": (
        "a,true,0,0,0,0\nb,true,0,0,5,5\nc,true,9,0,9,1\nd,true,3,7,3,7\n",
        "two landmarks at one place",
    ),
    "deep.csv": ("a,true,0,0,0,1,1,1\n", "3D"),
    "none.json": (None, "cannot be read"),
    "far.json": ("[[900, 0, 0], [0, 900, 0]]", "units_um"),
}


@pytest.mark.parametrize("name", BAD)
def test_registrations_that_make_no_sense_are_refused(name, tmp_path):
    good_region(tmp_path)
    text, words = BAD[name]
    if text is not None:
        (tmp_path / name).write_text(text)
    manifest = write_manifest(tmp_path, {"region": "region_0", "transform": name})
    with pytest.raises(UserError, match=words):
        import_merscope([manifest], tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()


def test_landmarks_that_fold_a_slice_are_refused(tmp_path):
    folder = made_region(tmp_path)
    rows = [("0", 0, 0), ("1", 28, 0), ("2", 0, 32), ("3", 28, 32), ("4", 12, 16), ("5", 16, 16)]
    common = {"4": (18, 16), "5": (8, 16)}  # swapped
    text = "\n".join(
        f"Pt-{n},true,{x + OFFSET[0]},{y + OFFSET[1]},{common.get(n, (x, y))[0] + OFFSET[0]},"
        f"{common.get(n, (x, y))[1] + OFFSET[1]}"
        for n, x, y in rows
    )
    (folder / "landmarks.csv").write_text(text)
    entry = {"region": "region_0", "transform": "region_0/landmarks.csv"}
    with pytest.raises(UserError, match="fold the slice"):
        import_merscope([write_manifest(tmp_path, entry)], tmp_path / "b.zarr")


def two_regions(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    planes = [noise(1, 64, 64, seed)[0] for seed in (1, 2)]
    for i, plane in enumerate(planes):
        made = write_region(
            folder / f"part{i}", transcripts([("Th", 5, 5, 0)]), {s: [plane] for s in STAINS}
        )
        made.rename(folder / f"region_{(2, 10)[i]}")
    return planes[0], planes[1]


def eight_bit(image: np.ndarray, ramp: list[float]) -> np.ndarray:
    return np.clip(np.rint((image.astype(float) - ramp[0]) * 255 / (ramp[1] - ramp[0])), 0, 255)


def test_slices_are_ordered_turned_over_placed_and_left_out(tmp_path):
    first, second = two_regions(tmp_path)
    good_region(tmp_path)
    manifest = write_manifest(
        tmp_path,
        {"region": "region_10", "flip": "x", "position_um": 40.0},
        {"region": "region_0", "exclude": True},
        {"region": "region_2", "flip": "xy", "position_um": 140.0},
    )
    report = import_merscope([manifest], tmp_path / "b.zarr")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == (2, 64, 64)
    assert brain.slice_positions.tolist() == [40.0, 140.0]
    read = brain.read_stains((0, 64, 0, 64), (0, 2))[0]
    ramp = report.intensities["DAPI"]
    assert np.abs(read[0] - eight_bit(second[:, ::-1], ramp)).max() <= 1
    assert np.abs(read[1] - eight_bit(first[::-1, ::-1], ramp)).max() <= 1
    counts = brain.read_genes((0, 4, 0, 4), (0, 2))[0]
    assert counts[0, 0, 3] == counts[1, 3, 3] == counts.sum() / 2 == 1


def test_a_grid_that_is_given_is_taken(tmp_path):
    two_regions(tmp_path)
    more = f"[grid]\norigin_um = [{OFFSET[0] - 16 * PIXEL}, {OFFSET[1]}]\nsize_um = [8.64, 3.456]\n"
    manifest = write_manifest(tmp_path, {"region": "region_2"}, more=more)
    import_merscope([manifest], tmp_path / "b.zarr")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == (1, 32, 80)
    read = brain.read_stains((0, 32, 0, 80), (0, 1))[0, 0]
    assert not read[:, :16].any()
    assert (read[:, 17:] > 0).mean() > 0.9
    assert brain.read_genes((0, 2, 0, 5), (0, 1))[0, 0, 0, 1] == 1


def test_a_mosaic_is_resampled_in_parts_where_memory_is_short(tmp_path, monkeypatch):
    folder = made_region(tmp_path)
    entry, _, _ = turned(folder)
    manifest = read_manifest(write_manifest(tmp_path, {"region": "region_0", **entry}))
    opened = open_region(folder, STAINS)
    (placed,) = placing.place_regions([opened], manifest)
    box = (0, placed.shape[0], 0, placed.shape[1])
    whole = placed.read("DAPI", [0], "max", box)
    asked = []
    read = type(opened).read

    def counted(self, stain, planes, project, window):
        asked.append((window[1] - window[0]) * (window[3] - window[2]))
        return read(self, stain, planes, project, window)

    monkeypatch.setattr(resampling, "_MOST_PIXELS", 4096)
    monkeypatch.setattr(type(opened), "read", counted)
    np.testing.assert_allclose(placed.read("DAPI", [0], "max", box), whole, atol=1)
    assert max(asked) <= 4096
    assert len(asked) > 10


def test_a_draft_is_ordered_and_finds_registrations(tmp_path):
    two_regions(tmp_path)
    entry = tmp_path / "region_2" / "landmarks.csv"
    entry.write_text("a,true,30,-20,31,-20\nb,true,36,-20,37,-20\nc,true,30,-14,31,-14\n")
    found = draft_manifest(
        [tmp_path / "region_10", tmp_path / "region_2"], tmp_path / "slices.toml"
    )
    assert found == ["region_2: landmarks.csv.", "region_10: no registration found."]
    manifest = read_manifest(tmp_path / "slices.toml")
    assert [entry.region.name for entry in manifest.slices] == ["region_2", "region_10"]
    assert manifest.slices[0].transform == tmp_path / "region_2" / "landmarks.csv"
    import_merscope([tmp_path / "slices.toml"], tmp_path / "b.zarr")
    brain = open_brain(tmp_path / "b.zarr")
    assert brain.shape == (2, 64, 74)  # one micrometer apart: ten pixels
    with pytest.raises(UserError, match="exists already"):
        draft_manifest([tmp_path / "region_2"], tmp_path / "slices.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[slice]]\nregion = 'region_0'\nflop = 'x'\n", "flop"),
        ("[[slice]]\nregion = 'region_0'\nflip = 'z'\n", "flip"),
        ("[[slice]]\nregion = 'region_0'\nunits_um = [0, 1]\n", "units_um"),
        ("[[slice]]\nregion = 'region_0'\nexclude = true\n", "excludes every slice"),
        ("slice = []\n", "slice"),
        ("[[slice\n", "cannot be read|can be read"),
        (
            "[[slice]]\nregion = 'region_0'\nposition_um = 5\n[[slice]]\nregion = 'region_0'\n",
            "for some slices only",
        ),
        (
            "[[slice]]\nregion = 'region_0'\nposition_um = 5\n" * 2,
            "do not ascend",
        ),
    ],
)
def test_manifests_that_make_no_sense_are_refused(text, words, tmp_path):
    good_region(tmp_path)
    (tmp_path / "slices.toml").write_text(text)
    with pytest.raises(UserError, match=words):
        import_merscope([tmp_path / "slices.toml"], tmp_path / "b.zarr")


def test_planes_that_reach_into_the_next_slice_are_refused(tmp_path):
    good_region(tmp_path)
    entries = [{"region": "region_0", "position_um": z} for z in (0.0, 1.0)]
    with pytest.raises(UserError, match="further apart"):
        import_merscope([write_manifest(tmp_path, *entries)], tmp_path / "b.zarr", planes="slices")

"""Atlases laid over slices, searched, and opened without a network."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_teramind.atlas import (
    AffineTransform,
    Atlas,
    LandmarkTransform,
    PlacedAtlas,
    allen_structures,
    ids_at,
    load_brainglobe,
    open_atlas,
    read_annotation,
    read_transforms,
)
from napari_teramind.errors import UserError

# A tilted, turned and stretched slice: (y, x, 1) to (ap, dv, ml), micrometers.
MATRIX = np.array([[0.2, 0.1, 5200.0], [1.1, -0.15, 900.0], [0.12, 0.95, 1500.0]])


@pytest.fixture(scope="module")
def ccf(teramind_data: Path) -> Atlas:
    return read_annotation(teramind_data / "allen_ccf")


def test_the_allen_atlas_opens_whole(ccf: Atlas) -> None:
    assert len(ccf.table) == 1327
    assert ccf.table.find("CA1").id == 382
    assert ccf.annotation.shape == (528, 320, 456)
    lineage = [structure.acronym for structure in ccf.table.lineage(382)]
    assert lineage == ["CA1", "CA", "HIP", "HPF", "CTXpl", "CTX", "CH", "grey", "root"]
    assert len(ccf.table.within("root")) == 1327
    assert sum(len(ccf.table.children(i)) for i in ccf.table) == 1326


def test_the_allen_atlas_is_searched(ccf: Atlas) -> None:
    assert ccf.table.search("VTA")[0].name == "Ventral tegmental area"
    assert ccf.table.search("vta")[0].acronym == "VTA"
    assert ccf.table.search("ca1")[0].id == 382
    assert ccf.table.search("caudoputamen")[0].acronym == "CP"
    names = {structure.acronym for structure in ccf.table.search("olfactory bulb glomerular")}
    assert "MOBgl" in names
    assert ccf.table.search("") == ()
    assert ccf.table.search("no such place") == ()
    assert len(ccf.table.search("layer", limit=7)) == 7


def test_resampling_agrees_with_direct_indexing(ccf: Atlas) -> None:
    placed = PlacedAtlas(ccf, {3: AffineTransform(MATRIX)})
    rng = np.random.default_rng(0)
    y, x = np.sort(rng.uniform(-500, 6000, 1000)), np.sort(rng.uniform(-500, 9000, 1000))
    labels = placed.labels(3, y, x)
    rows, columns = rng.integers(0, 1000, (2, 1000))
    hits = 0
    for row, column in zip(rows, columns, strict=True):
        voxel = np.floor(MATRIX @ [y[row], x[column], 1] / 25).astype(int)
        inside = (voxel >= 0).all() and (voxel < ccf.annotation.shape).all()
        expected = ccf.annotation[tuple(voxel)] if inside else 0
        assert labels[row, column] == expected
        hits += expected > 0
    assert hits > 300


@given(
    y=st.floats(-1e4, 1e4), x=st.floats(-1e4, 1e4), turn=st.floats(-1, 1), scale=st.floats(0.5, 2)
)
def test_landmarks_of_an_affine_give_the_affine(
    y: float, x: float, turn: float, scale: float
) -> None:
    matrix = MATRIX * scale
    matrix[1, 1] += turn
    affine = AffineTransform(matrix)
    marks = np.array([[0.0, 0.0], [4000, 0], [0, 5000], [4000, 5000], [2000, 1000]])
    spline = LandmarkTransform(marks, affine(marks))
    point = np.array([[y, x]])
    np.testing.assert_allclose(spline(point), affine(point), atol=1e-3)


def test_landmarks_are_met_and_bend_between() -> None:
    marks = np.array([[0.0, 0.0], [100, 0], [0, 100], [100, 100], [50, 50]])
    targets = np.column_stack([np.full(5, 10.0), marks])
    targets[4, 1] += 8
    spline = LandmarkTransform(marks, targets)
    np.testing.assert_allclose(spline(marks), targets, atol=1e-6)
    shift = spline(np.array([[50.0, 40.0]]))[0, 1] - 50
    assert 2 < shift < 8


def test_transforms_are_read(tmp_path: Path) -> None:
    marks = [{"slice": [y, x], "atlas": [7, y, x]} for y, x in ((0, 0), (9, 0), (0, 9))]
    values = {"0": {"affine": MATRIX.tolist()}, "4": {"landmarks": marks}}
    (tmp_path / "t.json").write_text(json.dumps(values))
    transforms = read_transforms(tmp_path / "t.json")
    point = np.array([[3.0, 4.0]])
    np.testing.assert_allclose(transforms[0](point)[0], MATRIX @ [3, 4, 1])
    np.testing.assert_allclose(transforms[4](point)[0], [7, 3, 4], atol=1e-6)
    flat = Atlas("flat", np.full((1, 2, 2), 672, np.uint32), (10, 10, 10), allen_structures())
    placed = PlacedAtlas(flat, transforms)
    assert (
        placed.labels(4, np.array([0.0, 25]), np.array([0.0, 12])) == [[672, 672], [0, 0]]
    ).all()
    with pytest.raises(UserError, match="Slice 1 has no transform"):
        placed.labels(1, np.array([0.0]), np.array([0.0]))
    assert ids_at(flat, np.array([[-1e-9, 0, 0]])) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "does not hold transforms"),
        ('{"0": {}}', "does not hold transforms"),
        ('{"a": {"affine": [[1]]}}', "does not hold transforms"),
        ('{"0": {"affine": [[1, 2], [3, 4]]}}', "3 x 3"),
        ('{"0": {"landmarks": [{"slice": [0, 0], "atlas": [0, 0, 0]}]}}', "one line"),
        ('{"0": {"landmarks": [{"slice": [0], "atlas": [0, 0, 0]}]}}', "pairs of a place"),
    ],
)
def test_bad_transforms(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=words):
        read_transforms(tmp_path / "t.json")
    with pytest.raises(UserError, match="no transforms at"):
        read_transforms(tmp_path / "none.json")


# BrainGlobe -------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the network is disabled")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_multiscale(path: Path, volume: np.ndarray, resolution: float) -> None:
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    scale = {"type": "scale", "scale": [resolution / 1000] * 3}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    block = {"version": "0.5", "multiscales": [{"name": "m", "axes": axes, "datasets": datasets}]}
    group = zarr.create_group(str(path), zarr_format=3, attributes={"ome": block})
    array = group.create_array(
        "0",
        shape=volume.shape,
        chunks=volume.shape,
        dtype=volume.dtype,
        dimension_names=["z", "y", "x"],
    )
    array[:] = volume


def write_brainglobe(folder: Path, name: str, annotation: np.ndarray) -> None:
    """Write an atlas of version 1.2 as brainglobe-atlasapi 3 keeps it, axes front, top, right."""
    root = folder / "brainglobe-atlasapi"
    parts = {
        part: f"/{part}/{name}/1_2" for part in ("terminologies", "annotation-sets", "templates")
    }
    for location in parts.values():
        (root / location[1:]).mkdir(parents=True)
    table = allen_structures().subset([672, 549])
    lines = [
        "identifier,parent_identifier,annotation_value,name,abbreviation,color_hex_triplet,root_identifier_path"
    ]
    for structure in table.values():
        path = ",".join(str(s.id) for s in reversed(table.lineage(structure.id)))
        parent = "" if structure.parent_id is None else structure.parent_id
        lines.append(
            f'{structure.id},{parent},{structure.id},"{structure.name}",{structure.acronym},'
            f'#{structure.color_hex},"[{path}]"'
        )
    (root / parts["terminologies"][1:] / "terminology.csv").write_text("\n".join(lines))
    folder_of = {
        "annotation-sets": ("annotations_compressed.ome.zarr", annotation),
        "templates": ("template.ome.zarr", (annotation > 0).astype(np.uint16)),
    }
    for part, (file, volume) in folder_of.items():
        write_multiscale(root / parts[part][1:] / file, volume, 100.0)
    manifest = {
        "name": name,
        "version": "1.2",
        "resolution": [100.0, 100.0, 100.0],
        "shape": list(annotation.shape),
        "orientation": "asr",
        "symmetric": False,
        "additional_references": [],
        "terminology": {"location": parts["terminologies"]},
        "annotation_set": {
            "location": parts["annotation-sets"],
            "template": {"location": parts["templates"]},
        },
    }
    place = root / "atlases" / name / "1_2"
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps(manifest))


def test_a_brainglobe_atlas_opens_without_a_network(
    tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation = np.zeros((4, 5, 6), np.uint32)
    annotation[1, 2, 3:], annotation[2, 3, :2] = 672, 549
    write_brainglobe(tmp_path, "test_mouse_100um", annotation)
    atlas = load_brainglobe("test_mouse_100um", tmp_path)
    assert atlas.resolution_um == (100, 100, 100)
    # BrainGlobe keeps right to left, we keep left to right.
    np.testing.assert_array_equal(atlas.annotation, annotation[:, :, ::-1])
    assert atlas.table.find("CP") == allen_structures().find("CP")
    assert [s.acronym for s in atlas.table.lineage(549)][-1] == "root"
    assert capsys.readouterr().out == ""


def test_an_atlas_that_cannot_be_fetched(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match="could not provide the atlas 'allen_mouse_100um'"):
        load_brainglobe("allen_mouse_100um", tmp_path)


def test_paths_and_names_are_told_apart(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match="no annotation volume at"):
        open_atlas(tmp_path / "nowhere.tif")
    with pytest.raises(UserError, match="holds 0"):
        open_atlas(tmp_path)

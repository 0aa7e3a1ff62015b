"""Annotation volumes from files, in whatever orientation they come."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import tifffile

from napari_teramind.atlas import (
    Atlas,
    allen_structures,
    from_brainglobe,
    load_brainglobe,
    read_annotation,
)
from napari_teramind.errors import UserError

TH, CP = 549, 672


@pytest.fixture
def annotation() -> np.ndarray:
    """Thalamus in the upper left front corner of caudoputamen, with air around."""
    volume = np.zeros((6, 8, 10), np.uint32)
    volume[1:5, 1:7, 1:9] = CP
    volume[1:3, 1:3, 1:4] = TH
    return volume


@pytest.fixture
def folder(tmp_path: Path, annotation: np.ndarray) -> Path:
    tifffile.imwrite(tmp_path / "annotation_50um.tif", annotation)
    allen_structures().frame().to_csv(tmp_path / "structures.csv", index=False)
    return tmp_path


def test_a_folder_is_an_atlas(folder: Path, annotation: np.ndarray) -> None:
    atlas = read_annotation(folder)
    assert atlas.resolution_um == (50.0, 50.0, 50.0)
    assert atlas.extent_um == (300.0, 400.0, 500.0)
    assert np.array_equal(atlas.annotation, annotation)
    assert atlas.table.find("TH").id == TH


def test_points_find_their_voxels(folder: Path) -> None:
    atlas = read_annotation(folder)
    found = atlas.at(
        75.0, np.array([75.0, 75.0, 225.0, -1.0]), np.array([75.0, 475.0, 225.0, 75.0])
    )
    assert found.tolist() == [TH, 0, CP, 0]
    assert not atlas.at(-10.0, np.array([75.0]), np.array([75.0])).any()


def test_nifti_is_turned_as_its_header_says(
    folder: Path, annotation: np.ndarray, tmp_path: Path
) -> None:
    # Stored right to left, bottom to top, front to back, 0.05 mm.
    stored = annotation.transpose(2, 1, 0)[:, ::-1].astype(np.int32)
    affine = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = 0.05, 0.05, -0.05, 1
    path = tmp_path / "atlas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(stored, affine), path)
    atlas = read_annotation(path, structures=folder / "structures.csv")
    assert atlas.resolution_um == pytest.approx((50, 50, 50))
    assert np.array_equal(atlas.annotation, annotation)


def _brainglobe(volume: np.ndarray, orientation: str) -> SimpleNamespace:
    table = allen_structures()
    structures = {
        i: {
            "id": i,
            "acronym": s.acronym,
            "name": s.name,
            "rgb_triplet": [int(s.color_hex[k : k + 2], 16) for k in (0, 2, 4)],
            "structure_id_path": [p.id for p in reversed(table.lineage(i))],
        }
        for i, s in table.items()
    }
    return SimpleNamespace(
        atlas_name="test_50um",
        annotation=volume,
        orientation=orientation,
        resolution=(50.0, 60.0, 70.0),
        structures=structures,
    )


def test_a_brainglobe_atlas_is_turned_and_keeps_its_structures(annotation: np.ndarray) -> None:
    same = from_brainglobe(_brainglobe(annotation, "asl"))
    assert np.array_equal(same.annotation, annotation)
    assert list(same.table.values()) == list(allen_structures().values())
    # Axes: right to left, bottom to top, back to front.
    other = from_brainglobe(_brainglobe(annotation.transpose(2, 1, 0)[::-1, ::-1, ::-1], "rip"))
    assert np.array_equal(other.annotation, annotation)
    assert other.resolution_um == (70.0, 60.0, 50.0)


def test_without_brainglobe_the_user_learns_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "brainglobe_atlasapi", None)
    with pytest.raises(UserError, match="pip install 'brainglobe-atlasapi"):
        load_brainglobe("allen_mouse_25um")


def test_ids_without_a_structure_are_refused(annotation: np.ndarray) -> None:
    annotation[2, 2, 2] = 4242
    with pytest.raises(UserError, match="4242"):
        Atlas("odd", annotation, (50, 50, 50), allen_structures())


def test_a_flat_annotation_is_refused(annotation: np.ndarray) -> None:
    with pytest.raises(UserError, match="2 axes"):
        Atlas("flat", annotation[0], (50, 50, 50), allen_structures())


def test_bad_files_are_refused(folder: Path, tmp_path: Path) -> None:
    structures = folder / "structures.csv"
    (tmp_path / "text.tif").write_text("no image")
    tifffile.imwrite(
        tmp_path / "nosize.tif", np.zeros((4, 5, 6), np.uint32), photometric="minisblack"
    )
    tifffile.imwrite(
        tmp_path / "mri_25um.tif", np.full((4, 5, 6), 0.5, np.float32), photometric="minisblack"
    )
    cases = {
        "none.tif": "no annotation volume",
        "structures.csv": "neither TIFF nor NIfTI",
        "text.tif": "cannot be read",
        "nosize.tif": "state the resolution",
        "mri_25um.tif": "fractions",
    }
    for name, words in cases.items():
        with pytest.raises(UserError, match=words):
            read_annotation(tmp_path / name, structures)
    with pytest.raises(UserError, match="positive"):
        read_annotation(folder / "annotation_50um.tif", resolution_um=(25, 25))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds 0"):
        read_annotation(empty)


def test_the_allen_volume_opens(teramind_data: Path) -> None:
    atlas = read_annotation(teramind_data / "allen_ccf")
    assert atlas.extent_um == (13200.0, 8000.0, 11400.0)
    # Caudoputamen, 2.2 mm to the right of the midline.
    assert (
        atlas.table[int(atlas.at(5000.0, np.array([4000.0]), np.array([7900.0]))[0])].acronym
        == "CP"
    )

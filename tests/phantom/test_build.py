"""Phantom stores as a user gets them: ground truth that adds up, and the same bytes every time."""

from __future__ import annotations

import filecmp
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_teramind.atlas import allen_structures
from napari_teramind.brain import open_brain
from napari_teramind.errors import UserError
from napari_teramind.phantom import make_phantom, panel

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

BIN, PIXEL = 16, 0.108


def _same_bytes(one: Path, two: Path) -> bool:
    """Whether two stores hold the same, but for the order in which tiles were noted down."""
    comparison = filecmp.dircmp(one, two, ignore=["ledger.jsonl"])

    def same(c: filecmp.dircmp[str]) -> bool:
        _, different, odd = filecmp.cmpfiles(c.left, c.right, c.common_files, shallow=False)
        alone = c.left_only + c.right_only + c.funny_files
        return not (different + odd + alone) and all(same(sub) for sub in c.subdirs.values())

    return same(comparison)


def test_transcripts_of_the_table_fill_the_gene_volume(phantom: BrainStore) -> None:
    table = phantom.table("transcripts")
    volume = np.asarray(phantom.genes.levels[0])
    expected = np.zeros(volume.shape, int)
    rows = ((table["y_um"] / PIXEL + 0.5) // BIN).astype(int)
    columns = ((table["x_um"] / PIXEL + 0.5) // BIN).astype(int)
    gene = table["gene"].map({g: i for i, g in enumerate(phantom.gene_names)}).astype(int)
    np.add.at(expected, (gene, table["slice"].astype(int), rows, columns), 1)
    assert expected.sum() > 10_000
    assert np.array_equal(volume, expected)


def test_every_nucleus_of_the_table_is_in_the_mask_and_no_other(phantom: BrainStore) -> None:
    cells = phantom.table("cells")
    masks = np.asarray(phantom.labels["nuclei"].levels[0])
    assert set(np.unique(masks)) - {0} == set(cells["id"])
    assert cells["id"].is_unique
    y = (cells["y_um"] / PIXEL).round().astype(int)
    x = (cells["x_um"] / PIXEL).round().astype(int)
    at_centre = masks[cells["slice"].astype(int), y, x]
    # Here and there a nucleus lies over the centre of its neighbour, as it does in tissue.
    assert (at_centre == cells["id"]).mean() > 0.97
    assert cells["nucleus_diameter_um"].between(5, 12).all()


def test_cells_lie_in_the_structure_that_the_table_says(phantom: BrainStore) -> None:
    cells = phantom.table("cells")
    assert phantom.structures is not None
    structures = np.asarray(phantom.structures.levels[0])
    y = (cells["y_um"] / PIXEL / BIN).astype(int)
    x = (cells["x_um"] / PIXEL / BIN).astype(int)
    assert np.array_equal(structures[cells["slice"].astype(int), y, x], cells["structure"])
    names = allen_structures()
    assert all(
        names[i].acronym == a for i, a in zip(cells["structure"], cells["acronym"], strict=True)
    )


def test_transcripts_lie_in_and_around_their_cell(phantom: BrainStore) -> None:
    transcripts = phantom.table("transcripts")
    owned = transcripts[transcripts["cell"] != 0]
    assert len(owned) > 0.9 * len(transcripts)
    cells = phantom.table("cells").set_index("id").loc[owned["cell"]]
    distance = np.hypot(
        owned["y_um"].to_numpy() - cells["y_um"], owned["x_um"].to_numpy() - cells["x_um"]
    )
    body, nucleus = cells["body_diameter_um"] / 2, cells["nucleus_diameter_um"] / 2
    # Elongated cells reach further than the circle of their area.
    assert (distance < 1.25 * body).mean() > 0.9
    assert distance.max() < 3.5 * body.max()
    nuclear = owned["nuclear"].to_numpy()
    assert (distance[nuclear] < 1.3 * nucleus[nuclear]).mean() > 0.9
    assert 0.2 < nuclear.mean() < 0.5


def test_nuclei_are_bright_in_dapi_and_bodies_in_polyt(phantom: BrainStore) -> None:
    _, height, width = phantom.shape
    stains = phantom.read_stains((0, height, 0, width), (1, 2))[:, 0]
    nuclei = np.asarray(phantom.labels["nuclei"].levels[0][1]) > 0
    assert phantom.tissue is not None
    tissue = np.asarray(phantom.tissue.levels[0][1]).repeat(BIN, 0).repeat(BIN, 1) > 0
    for stain, image in enumerate(stains):
        in_nuclei, between = image[nuclei].mean(), image[tissue & ~nuclei].mean()
        glass = image[~tissue].mean()
        assert in_nuclei > 1.5 * between > 1.5 * glass, phantom.stain_names[stain]


def test_the_stack_is_as_long_as_a_brain_is(phantom: BrainStore) -> None:
    _, _, width = phantom.shape
    length = phantom.slice_positions[-1] - phantom.slice_positions[0]
    assert 0.7 < length / (width * PIXEL) < 1.3
    assert len(set(np.diff(phantom.slice_positions).round(3))) > 1


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    make_tiny: Callable[..., BrainStore],
) -> None:
    one, two = make_tiny("one.zarr", seed=5), make_tiny("two.zarr", seed=5)
    assert _same_bytes(Path(one.path), Path(two.path))
    other = make_tiny("other.zarr", seed=6)
    assert not np.array_equal(one.stains.levels[0][:], other.stains.levels[0][:])
    assert not np.array_equal(one.structures.levels[0][:], other.structures.levels[0][:])


def test_the_animals_differ_in_panel_anatomy_and_cells(
    make_tiny: Callable[..., BrainStore],
) -> None:
    brains = {animal: make_tiny(f"{animal}.zarr", animal=animal) for animal in
              ("main", "supp_m", "supp_f")}  # fmt: skip
    main, male, female = brains.values()
    assert len(main.gene_names) >= 60
    assert male.gene_names == female.gene_names
    assert male.gene_names[: len(main.gene_names)] == main.gene_names
    assert len(male.gene_names) > len(main.gene_names)
    assert not np.array_equal(male.structures.levels[0][:], female.structures.levels[0][:])
    assert len(male.table("cells")) != len(female.table("cells"))
    bulb = allen_structures().within("MOB")
    assert bulb & set(main.table("cells")["structure"])
    for brain in (male, female):
        assert not bulb & set(np.unique(brain.structures.levels[0][:]))


def test_a_killed_run_goes_on_where_it_stopped(phantom: BrainStore, tmp_path: Path) -> None:
    out = tmp_path / "killed.zarr"
    code = (
        "import sys; from napari_teramind.phantom import make_phantom; "
        "make_phantom(sys.argv[1], size='XS', report=lambda *a: print(a, flush=True))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    lines = [run.stdout.readline() for _ in range(2)]
    time.sleep(0.1)
    run.kill()
    run.communicate()
    assert "Section 2" in lines[-1]
    with pytest.raises(UserError):
        open_brain(out)
    messages: list[tuple[str, int, int]] = []
    make_phantom(out, size="XS", report=lambda *m: messages.append(m))
    assert _same_bytes(Path(phantom.path), out)
    assert messages[-1][1] == messages[-1][2]


def test_what_the_user_has_is_not_overwritten(
    make_tiny: Callable[..., BrainStore], tmp_path: Path
) -> None:
    make_tiny("mine.zarr")
    with pytest.raises(UserError, match=r"mine\.zarr"):
        make_tiny("mine.zarr", seed=1)
    assert make_tiny("mine.zarr", seed=1, overwrite=True).shape[0] == 2
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="notes"):
        make_tiny("notes", overwrite=True)
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear diary"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"animal": "rat"}, "'rat'.*supp_m"),
        ({"size": "XXL"}, "'XXL'.*XS"),
        ({"seed": -1}, "seed"),
        ({"atlas": "no/such/atlas.tif"}, r"no/such/atlas\.tif"),
    ],
)
def test_impossible_wishes_are_refused(
    settings: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        make_phantom(tmp_path / "p.zarr", **{"size": "XS", **settings})
    assert not (tmp_path / "p.zarr").exists()


def test_a_phantom_can_be_built_on_an_annotation_volume(
    make_tiny: Callable[..., BrainStore], tmp_path: Path
) -> None:
    table = allen_structures()
    volume = np.zeros((20, 16, 22), np.uint32)
    volume[2:18, 2:14, 2:20] = table.find("TH").id
    volume[2:18, 2:6, 2:20] = table.find("DG-sg").id
    folder = tmp_path / "atlas"
    folder.mkdir()
    tifffile.imwrite(folder / "annotation_500um.tif", volume)
    table.frame().to_csv(folder / "structures.csv", index=False)
    brain = make_tiny(atlas=folder)
    cells = brain.table("cells")
    assert set(cells["acronym"]) == {"TH", "DG-sg"}
    granule = cells["acronym"] == "DG-sg"
    area = (brain.structures.levels[0][:] == table.find("DG-sg").id).mean()
    assert granule.mean() > 2 * area
    assert cells[granule]["type"].eq("DG granule").mean() > 0.7
    assert cells[~granule]["type"].eq("TH").mean() > 0.35


def test_a_phantom_can_be_built_on_the_allen_volume(
    make_tiny: Callable[..., BrainStore], teramind_data: Path
) -> None:
    brain = make_tiny(atlas=teramind_data / "allen_ccf")
    assert len(brain.structure_table) == 1327
    found = set(brain.table("cells")["acronym"])
    assert len(found) > 10
    assert brain.gene_names == panel("main")

"""Published training tiles, written from a brain in exactly their format and imported again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from napari_teramind.brain import open_brain
from napari_teramind.brain.importers.tiles import import_tiles
from napari_teramind.errors import UserError

SIDE = 256
GENES = ("Th", "Nr4a2", "Slc17a7")
SLICES = 4


def save_sparse(path: Path, dense: np.ndarray, **more: object) -> None:
    """Write what ``sparse.save_npz(path, sparse.COO.from_numpy(dense))`` writes."""
    coords = np.stack(np.nonzero(dense))
    parts = {
        "data": dense[tuple(coords)],
        "shape": dense.shape,
        "fill_value": dense.dtype.type(0),
        "coords": coords,
    }
    np.savez_compressed(path, **{**parts, **more})


@pytest.fixture(params=["inside", "outside"])
def study(request, tmp_path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Tiles of a plane of 2 x 3 of them, the counts of its bins, and its stains.

    The padding counts either the tile's neighbours ("inside": t to b are the tile's own 256 px), or
    only what lies beyond the plane ("outside": t to b are all pixels that there are).
    """
    rng = np.random.default_rng(0)
    shape = (2 * SIDE, 3 * SIDE)
    pixels = rng.poisson(0.002, (*shape, SLICES * len(GENES))).astype(np.uint8)
    images = rng.integers(0, 255, (2 * SLICES, *shape), np.uint8)
    half = SIDE // 2
    wide = np.pad(pixels, ((half, half), (half, half), (0, 0)))
    pictures = np.pad(images, ((0, 0), (half, half), (half, half)))
    for folder in ("gene_1", "img_1"):
        (tmp_path / folder).mkdir()
    for y in range(0, shape[0], SIDE):
        for x in range(0, shape[1], SIDE):
            part = (slice(y, y + 2 * SIDE), slice(x, x + 2 * SIDE))
            if request.param == "inside":
                name = f"{y}_{y + SIDE}_{x}_{x + SIDE}_{half}_{half}_{half}_{half}"
            else:
                low = (max(0, y - half), max(0, x - half))
                high = (min(shape[0], y + SIDE + half), min(shape[1], x + SIDE + half))
                pads = (
                    low[0] - (y - half),
                    y + SIDE + half - high[0],
                    low[1] - (x - half),
                    x + SIDE + half - high[1],
                )
                edges = (low[0], high[0], low[1], high[1])
                name = "_".join(map(str, (*edges, *pads)))
            save_sparse(tmp_path / "gene_1" / f"{name}.npz", wide[part])
            with ZipStore(tmp_path / "img_1" / f"{name}.zip", mode="w") as store:
                zarr.create_array(store, data=pictures[(slice(None), *part)], zarr_format=2)
    (tmp_path / "list.csv").write_text("gene\n" + "\n".join(GENES) + "\n")
    counts = pixels.reshape(shape[0] // 16, 16, shape[1] // 16, 16, SLICES, len(GENES))
    counts = counts.sum(axis=(1, 3)).transpose(3, 2, 0, 1)
    return tmp_path, counts, images.reshape(2, SLICES, *shape)


def teramind(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_teramind", "import", "tiles", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    brain = open_brain(path)
    _, z, b, c = brain.genes.shape
    height, width = brain.shape[1:]
    return brain.read_genes((0, b, 0, c), (0, z)), brain.read_stains((0, height, 0, width), (0, z))


def test_tiles_become_the_brain_that_they_were_cut_from(study):
    folder, counts, stains = study
    done = teramind(
        "gene_1", "--images", "img_1", "--genes", "list.csv", "-o", "b.zarr", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    found, images = read(folder / "b.zarr")
    assert np.array_equal(found, counts)
    assert np.array_equal(images, stains)
    brain = open_brain(folder / "b.zarr")
    assert brain.gene_names == GENES
    assert brain.stain_names == ("DAPI", "PolyT")
    assert list(folder.glob(".b.zarr*")) == []
    again = teramind("gene_1", "--genes", "list.csv", "-o", "b.zarr", cwd=folder)
    assert again.returncode == 2
    assert "exists already" in again.stderr


class Evil:
    """What runs where a file is unpickled."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("unpickled"),)


def pickled(path: Path) -> None:
    np.savez(path, coords=np.array([Evil()], object), data=np.zeros(1), shape=(512, 512, 12))


SPOILS = {
    "cut off": lambda p: p.write_bytes(p.read_bytes()[:2000]),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("gene"),
    "pickled": pickled,
    "other size": lambda p: save_sparse(p, np.ones((64, 64, 12), np.uint8)),
    "other channels": lambda p: save_sparse(p, np.ones((512, 512, 1), np.uint8)),
    "negative": lambda p: save_sparse(
        p, np.zeros((512, 512, 12)), coords=[[-1], [0], [0]], data=[1]
    ),
    "beyond": lambda p: save_sparse(p, np.zeros((512, 512, 12)), coords=[[0], [0], [12]], data=[1]),
    "not finite": lambda p: save_sparse(
        p, np.zeros((512, 512, 12)), coords=[[200], [200], [0]], data=[np.nan]
    ),
    "filled": lambda p: save_sparse(p, np.zeros((512, 512, 12)), fill_value=7),
    "unlike": lambda p: save_sparse(p, np.zeros((512, 512, 12)), data=np.ones(5)),
}


@pytest.mark.parametrize("study", ["inside"], indirect=True)
@pytest.mark.parametrize("spoil", SPOILS)
def test_a_tile_that_cannot_be_read_is_named_and_the_rest_imported(study, spoil, monkeypatch):
    folder, counts, stains = study
    monkeypatch.chdir(folder)
    spoiled = folder / "gene_1" / "256_512_256_512_128_128_128_128.npz"
    SPOILS[spoil](spoiled)
    report = import_tiles(
        folder / "gene_1", folder / "b.zarr", genes=GENES, images=folder / "img_1"
    )
    assert list(report.corrupt_tiles) == [spoiled.name]
    assert any(spoiled.name in line for line in report.summary())
    found, images = read(folder / "b.zarr")
    expected = counts.copy()
    expected[:, :, 16:32, 16:32] = 0
    assert np.array_equal(found, expected)
    assert np.array_equal(images, stains)
    assert not Path("unpickled").exists()
    assert open_brain(folder / "b.zarr").source["import"]["corrupt_tiles"] == report.corrupt_tiles


@pytest.mark.parametrize("study", ["inside"], indirect=True)
def test_missing_and_spoiled_images_are_named(study):
    folder, counts, stains = study
    names = sorted(path.name for path in (folder / "img_1").iterdir())
    (folder / "img_1" / names[0]).unlink()
    (folder / "img_1" / names[1]).write_bytes(b"PK")
    (folder / "gene_1" / names[2].replace("zip", "npz")).unlink()
    for kind in ("gene_1", "img_1"):
        for path in (folder / kind).glob(f"{names[3].removesuffix('.zip')}.*"):
            path.unlink()
    report = import_tiles(
        folder / "gene_1", folder / "b.zarr", genes=GENES, images=folder / "img_1"
    )
    assert report.missing_tiles == [
        f"genes of {names[2]}",
        f"image of {names[0].replace('zip', 'npz')}",
    ]
    assert list(report.corrupt_tiles) == [names[1]]
    told = " ".join(report.summary())
    assert "Missing tiles" in told
    assert "1 of the places within these tiles have none" in told
    found, images = read(folder / "b.zarr")
    assert not images[:, :, :256, :512].any()
    assert np.array_equal(images[:, :, :256, 512:], stains[:, :, :256, 512:])
    assert np.array_equal(found[:, :, :16, :32], counts[:, :, :16, :32])
    assert not found[:, :, :16, 32:].any()


@pytest.mark.parametrize("study", ["inside"], indirect=True)
def test_what_is_no_folder_of_tiles_is_refused(study):
    folder, _, _ = study
    genes = ["A", "B", "C", "D", "E"]
    with pytest.raises(UserError, match="no multiple of the 5 genes"):
        import_tiles(folder / "gene_1", folder / "b.zarr", genes=genes)
    with pytest.raises(UserError, match="has no tiles named"):
        import_tiles(folder / "img_1", folder / "b.zarr", genes=GENES)
    with pytest.raises(UserError, match="is not a folder"):
        import_tiles(folder / "nothing", folder / "b.zarr", genes=GENES)
    (folder / "gene_1" / "0_300_0_256_0_0_0_0.npz").touch()
    with pytest.raises(UserError, match="300 x 256 px"):
        import_tiles(folder / "gene_1", folder / "b.zarr", genes=GENES)
    assert not (folder / "b.zarr").exists()

"""The reader opens our stores and claims nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from npe2 import PluginManager, PluginManifest

from napari_teramind.brain import BrainStore, BrainWriter
from napari_teramind.errors import UserError
from napari_teramind.plugin.reader import get_reader


def test_a_brain_is_read(tiny_brain: BrainStore):
    reader = get_reader(tiny_brain.path)
    assert reader is not None
    assert get_reader([tiny_brain.path]) is not None
    layers = reader(tiny_brain.path)
    assert [kind for _, _, kind in layers] == ["image"] * 2 + ["labels"]
    assert [meta["name"] for _, meta, _ in layers][:2] == ["DAPI", "PolyT"]


def foreign(folder: Path) -> list[Path]:
    """Make things that are not brains."""
    zarr.create_group(folder / "group.zarr")
    zarr.create_array(folder / "array.zarr", shape=(4, 4), dtype="uint8")
    zarr.create_group(folder / "marked.zarr", attributes={"teramind": "a word"})
    zarr.create_group(folder / "old.zarr", zarr_format=2, attributes={"multiscales": []})
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / "zarr.json").write_text('{"attributes": ')
    (folder / "list.zarr").mkdir()
    (folder / "list.zarr" / "zarr.json").write_text("[1, 2]")
    (folder / "empty").mkdir()
    tifffile.imwrite(folder / "image.tif", np.zeros((4, 4), np.uint8))
    return [*folder.iterdir(), folder / "missing.zarr"]


def test_nothing_else_is_claimed(tmp_path: Path, tiny_brain: BrainStore):
    paths = foreign(tmp_path)
    assert len(paths) == 9
    assert [path for path in paths if get_reader(str(path)) is not None] == []
    # Parts of a brain are images of their own, for other readers.
    assert get_reader(f"{tiny_brain.path}/stains") is None
    assert get_reader([tiny_brain.path, tiny_brain.path]) is None


def test_looking_at_a_foreign_file_imports_no_zarr_and_no_torch(tmp_path: Path):
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": {"ome": {}}}))
    code = (
        "import sys; from napari_teramind.plugin.reader import get_reader;"
        f"assert get_reader({str(tmp_path)!r}) is None;"
        "print([m for m in ('zarr', 'torch', 'napari', 'dask') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_unfinished_brain_is_refused_in_a_sentence(tmp_path: Path):
    BrainWriter.create(tmp_path / "half.zarr", name="half", shape=(1, 64, 64), genes=["Th"])
    reader = get_reader(str(tmp_path / "half.zarr"))
    assert reader is not None
    with pytest.raises(UserError, match="half made"):
        reader(str(tmp_path / "half.zarr"))


def test_the_manifest_offers_readers_samples_and_panels():
    manifest = PluginManifest.from_distribution("napari-teramind")
    manifest.validate_imports()
    pm = PluginManager()
    pm.register(manifest)
    assert [r.command for r in pm.iter_compatible_readers(["a.zarr"])] == [
        "napari-teramind.read_brain"
    ]
    assert [r.command for r in pm.iter_compatible_readers(["teramind://phantom/main"])] == [
        "napari-teramind.read_phantom"
    ]
    samples = manifest.contributions.sample_data
    assert [s.key for s in samples] == ["main", "supp_m", "supp_f"]
    assert [w.display_name for w in manifest.contributions.widgets] == [
        "Brain",
        "Simulate",
        "Attention",
        "Atlas",
        "Train",
        "Jobs",
    ]
    forms = {e for w in manifest.contributions.writers for e in w.filename_extensions}
    assert forms == {".ome.tif", ".ome.tiff", ".nii", ".nii.gz"}

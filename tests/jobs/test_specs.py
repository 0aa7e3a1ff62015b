from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from napari_teramind.errors import UserError
from napari_teramind.jobs import SimulateSpec, TrainSpec, build_spec, load_spec
from napari_teramind.jobs.specs import VERBS, dump_spec

SIMULATE = {"verb": "simulate", "brain": "b.zarr", "checkpoint": "c.safetensors"}
MINIMAL: dict[str, dict[str, Any]] = {
    "import-merscope": {"regions": ["r"], "out": "o.zarr"},
    "import-omezarr": {"stains": {"DAPI": "a.zarr"}, "genes": "g.zarr", "out": "o.zarr"},
    "import-tiles": {"gene_folder": "gene_1", "genes": "list.csv", "out": "o.zarr"},
    "import-table": {"tables": ["t.csv"], "stains": {"DAPI": ["a.tif#1"]}, "out": "o.zarr"},
    "import-spatialdata": {"store": "s.zarr", "stains": {"DAPI": "i#0"}, "out": "o.zarr"},
    "import-draft": {"regions": ["r"], "out": "o.toml"},
    "quality": {"brain": "b.zarr", "out": "o.html"},
    "evaluate": {"brain": "b.zarr"},
    "reproduce": {"study": "study.toml"},
    "batch": {"batch": "jobs.toml", "workers": 2},
    "phantom": {"out": "o.zarr"},
    "info": {"path": "b.zarr"},
    "train": {"brains": ["b.zarr"], "out": "run"},
    "simulate": {"brain": "b.zarr", "checkpoint": "c.safetensors"},
    "resume": {"brain": "b.zarr"},
    "attention": {"brain": "b.zarr", "checkpoint": "c.safetensors", "pairs": ["DOPA", ("a", "b")]},
    "structures": {"brain": "b.zarr", "atlas": "allen_mouse_25um"},
    "atlas": {"source": "allen_mouse_25um"},
    "export": {"brain": "b.zarr", "image": "stains", "out": "o.ome.tif"},
    "checkpoint-list": {"folder": "networks"},
    "checkpoint-get": {"name": "main", "folder": "networks", "genes": "list.csv"},
    "jobs": {"job": "3fa2c1", "action": "cancel"},
    "checkpoint-convert": {"source": "last.ckpt", "out": "c.safetensors"},
}


def test_every_verb_is_tried_here() -> None:
    assert set(MINIMAL) == set(VERBS)


@pytest.mark.parametrize("verb", MINIMAL)
def test_a_spec_survives_the_way_into_another_process(verb: str, tmp_path: Path) -> None:
    spec = build_spec({"verb": verb, **MINIMAL[verb]}, "test")
    file = tmp_path / "elsewhere" / "job.json"
    file.parent.mkdir()
    file.write_text(dump_spec(spec))
    loaded = load_spec(file)
    assert loaded == build_spec({"verb": verb, **MINIMAL[verb]}, "test", base=Path.cwd())


def test_toml_paths_count_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(
        'verb = "simulate"\nbrain = "b.zarr"\ncheckpoint = "/models/c.safetensors"\n'
        "roi = [0, 64, 0, 128]\nslices = [0, 2]\nhalo = 3\n"
    )
    spec = load_spec(file)
    assert isinstance(spec, SimulateSpec)
    assert spec.brain == str(tmp_path / "b.zarr")
    assert spec.checkpoint == Path("/models/c.safetensors")
    assert spec.roi == (0, 64, 0, 128)
    assert spec.halo == 3


def test_remote_brains_keep_their_address(tmp_path: Path) -> None:
    spec = build_spec({"verb": "info", "path": "s3://bucket/b.zarr"}, "test", base=tmp_path)
    assert spec.path == "s3://bucket/b.zarr"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "names no known verb"),
        ({"verb": "dance"}, "names no known verb"),
        ({"verb": "info"}, "lacks the field 'path'"),
        ({**SIMULATE, "stepz": 3}, "unknown field 'stepz'"),
        ({**SIMULATE, "steps": 0}, "'steps' cannot be 0"),
        ({**SIMULATE, "steps": "many"}, "'steps' cannot be 'many'"),
        ({**SIMULATE, "sampler": "magic"}, "'sampler' cannot be 'magic'"),
        ({**SIMULATE, "halo": "wide"}, "'halo' cannot be 'wide'"),
        ({**SIMULATE, "halo": -1}, "'halo' cannot be -1"),
        ({**SIMULATE, "roi": [0, 1, 2]}, "'roi' has too few values"),
        ({**SIMULATE, "roi": [0, 1, 2, 3, 4]}, "'roi' cannot be"),
        ({**SIMULATE, "brain": 3}, "'brain' cannot be 3"),
        ({"verb": "import-merscope", "regions": [], "out": "x"}, "'regions' cannot be"),
        ({"verb": "phantom", "out": "x", "size": "XXL"}, "'size' cannot be 'XXL'"),
    ],
)
def test_errors_name_the_source_and_the_field(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        build_spec(values, "job.toml")
    sentence = str(error.value)
    assert sentence.startswith("job.toml")
    assert words in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("job.toml", b"verb = ", "not valid TOML"),
        ("job.json", b"{", "not valid JSON"),
        ("job.json", b"[1, 2]", "must hold one table"),
        ("job.toml", b"\xff\xfe\x00", "cannot be read"),
        ("job.toml", None, "There is no job file"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=words):
        load_spec(file)


def test_training_fields_and_defaults_are_those_of_the_training_room() -> None:
    from napari_teramind.training import TrainConfig

    spec = TrainSpec(brains=["b.zarr"], out=Path("run"))
    assert TrainConfig(**spec.settings()) == TrainConfig()
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert fields == {*spec.settings(), "genes"}

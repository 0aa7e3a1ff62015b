"""``teramind checkpoint get`` and ``list`` as programs, against a stand-in for Zenodo."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import PARITY, TINY_GENES

from napari_teramind.cli import run
from napari_teramind.errors import UserError
from napari_teramind.published import download, get_networks
from zenodo import DOI, NETWORK, Zenodo, serving, zipped

LONG = 120
Teramind = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def zenodo() -> Iterator[Zenodo]:
    with serving() as server:
        yield server


@pytest.fixture
def environment(tmp_path: Path, zenodo: Zenodo) -> dict[str, str]:
    """Let the server be Zenodo, and the user's folder be the test's own."""
    own = {name: str(tmp_path / "home") for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME")}
    return {**os.environ, **own, "TERAMIND_ZENODO": zenodo.api}


@pytest.fixture
def teramind(environment: dict[str, str]) -> Teramind:
    def run_program(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=LONG, env=environment
        )

    return run_program


@pytest.fixture
def here(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Teramind:
    """Run the command line in this process, which is faster to start."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        argv = ["checkpoint", *map(str, arguments)]
        code = run(argv)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(argv, code, told.out, told.err)

    return run_here


@pytest.fixture
def panel(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["gene", *TINY_GENES, "Surplus"]))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "napari_teramind", "checkpoint", *map(str, arguments)]


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["result"]
    return result


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Check that a program ended with one clear sentence, after words of progress."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    *progress, sentence = done.stderr.strip().splitlines()
    assert len(progress) <= 1
    assert words in sentence
    assert sentence.endswith(".")


def files(folder: Path) -> list[str]:
    """Names of the files of a folder, without the locks, which stay."""
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock")


def check_network(path: Path) -> None:
    original = load_file(PARITY / "tiny.weights.safetensors")
    for name, value in load_file(path).items():
        assert torch.equal(value, original[name].float()), name


# A good download ------------------------------------------------------------------------------


def test_get_gives_a_network_that_says_where_it_comes_from(
    zenodo: Zenodo, teramind: Teramind, tmp_path: Path, panel: Path
) -> None:
    folder = tmp_path / "networks"
    done = teramind("get", "main", "--folder", folder, "--genes", panel)
    assert done.returncode == 0, done.stderr
    assert f"{folder / NETWORK}.safetensors: network of" in done.stdout
    assert f"doi:{DOI}" in done.stdout
    assert "not named" not in done.stdout
    assert files(folder) == [f"{NETWORK}.json", f"{NETWORK}.safetensors"]
    check_network(folder / f"{NETWORK}.safetensors")
    readable = json.loads((folder / f"{NETWORK}.json").read_text())
    assert readable["genes"] == list(TINY_GENES)
    md5 = hashlib.md5(zenodo.files["main.zip"]).hexdigest()
    assert readable["provenance"]["published"] == {
        "doi": DOI, "file": "main.zip", "md5": md5, "member": f"main/{NETWORK}/last.ckpt",
        "networks": [NETWORK],
    }  # fmt: skip
    (whole,) = zenodo.downloads()
    assert whole.range is None
    # Once more, it is here already.
    again = result_of(teramind("get", "main", "--folder", folder, "--json"))
    assert not again["fetched"]
    assert again["path"] == str(folder / f"{NETWORK}.safetensors")
    assert len(zenodo.downloads()) == 1


def test_progress_counts_bytes(zenodo: Zenodo, here: Teramind, tmp_path: Path) -> None:
    zenodo.pause = 0.01
    done = here("get", "main", "--folder", tmp_path / "networks", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    told = [e for e in events if e.get("message", "").startswith("Downloading main.zip: ")]
    assert len(told) > 2
    assert told[-1]["message"].endswith("5.72 of 5.72 MB")
    assert [e["done"] for e in told] == sorted(e["done"] for e in told)
    assert told[-1]["done"] == told[-1]["total"] == len(zenodo.files["main.zip"])


def test_without_genes_the_summary_says_so_and_the_users_folder_is_used(
    zenodo: Zenodo, here: Teramind, tmp_path: Path
) -> None:
    zenodo.files["gene_638850.zip"] = zipped({"tile.npy": b"0" * 5000})
    online = here("list", "--online")
    assert "main  5.7" in online.stdout
    assert "gene_638850  " in online.stdout
    assert online.stdout.count("not here") == 2
    done = here("get", "main")
    assert "the genes are not named" in done.stdout
    (path,) = tmp_path.joinpath("home").rglob("*.safetensors")
    assert path.parent.name == "checkpoints"
    listed_here = here("list").stdout
    assert "packaged: network of" in listed_here
    assert f"{path}: network of" in listed_here
    online = here("list", "--online")
    assert f"here: {path}" in online.stdout
    assert online.stdout.count("not here") == 1
    listed = result_of(here("list", "--online", "--json"))["online"]
    assert [entry["name"] for entry in listed] == ["main", "gene_638850"]
    assert listed[0]["size"] == len(zenodo.files["main.zip"])
    assert listed[0]["here"] == [str(path)]


def test_genes_for_networks_that_are_here_without_need_overwriting(
    here: Teramind, tmp_path: Path, panel: Path
) -> None:
    folder = tmp_path / "networks"
    path = folder / f"{NETWORK}.safetensors"
    assert here("get", "main", "--folder", folder).returncode == 0
    refused(here("get", "main", "--folder", folder, "--genes", panel), "without names")
    again = ["get", "main", "--folder", folder, "--genes", panel, "--overwrite", "--json"]
    (network,) = result_of(here(*again))["checkpoints"]
    assert network["path"] == str(path)
    assert network["genes"] == list(TINY_GENES)


def test_the_zip_file_can_be_kept_and_is_used_again(
    zenodo: Zenodo, here: Teramind, tmp_path: Path
) -> None:
    folder = tmp_path / "networks"
    assert result_of(here("get", "main.zip", "--folder", folder, "--keep", "--json"))["fetched"]
    assert (folder / "main.zip").read_bytes() == zenodo.files["main.zip"]
    assert here("get", "main", "--folder", folder, "--overwrite").returncode == 0
    assert (folder / "main.zip").exists()
    assert len(zenodo.downloads()) == 1
    (folder / "main.zip").write_bytes(b"something else")
    again = here("get", "main", "--folder", folder, "--overwrite")
    refused(again, "is not the file that was published")
    assert (folder / "main.zip").read_bytes() == b"something else"


def test_several_networks_of_one_file(zenodo: Zenodo, here: Teramind, tmp_path: Path) -> None:
    tiny = (PARITY / "tiny.last.ckpt").read_bytes()
    zenodo.files["main.zip"] = zipped(
        {"a/run/last.ckpt": tiny, "b/run/last.ckpt": tiny, "last.ckpt": tiny}
    )
    folder = tmp_path / "networks"
    assert here("get", "main", "--folder", folder).returncode == 0
    names = [name for name in files(folder) if name.endswith(".safetensors")]
    assert names == ["b-run.safetensors", "main.safetensors", "run.safetensors"]
    (folder / "run.safetensors").unlink()
    assert "partly here" in here("list", "--online", "--folder", folder).stdout


# Gene lists on the web ------------------------------------------------------------------------


def test_a_gene_list_can_be_an_address(zenodo: Zenodo, here: Teramind, tmp_path: Path) -> None:
    rows = "\n".join(["number,gene", *(f"{i},{gene}" for i, gene in enumerate(TINY_GENES))])
    zenodo.others["/lists/60988_gnm.csv"] = rows.encode()
    zenodo.others["/blob/60988_gnm.csv"] = b"<!DOCTYPE html>\n<html>gene, of a page</html>\n"
    folder = tmp_path / "networks"
    for path, words in (
        ("/blob/60988_gnm.csv", "is not a CSV with a column 'gene'"),
        ("/nowhere.csv", "404"),
    ):
        refused(here("get", "main", "--folder", folder, "--genes", zenodo.root + path), words)
    assert not zenodo.downloads()
    address = f"{zenodo.root}/lists/60988_gnm.csv"
    done = here("get", "main", "--folder", folder, "--genes", address, "--json")
    assert result_of(done)["checkpoints"][0]["genes"] == list(TINY_GENES)


# Cuts -----------------------------------------------------------------------------------------


def test_a_connection_that_is_cut_is_gone_on_with(
    zenodo: Zenodo, teramind: Teramind, tmp_path: Path
) -> None:
    zenodo.cuts = [1_000_000, 2_000_000]
    whole = len(zenodo.files["main.zip"])
    folder = tmp_path / "networks"
    assert teramind("get", "main", "--folder", folder).returncode == 0
    check_network(folder / f"{NETWORK}.safetensors")
    asked = zenodo.downloads()
    assert [one.range for one in asked] == [None, "bytes=1000000-", "bytes=3000000-"]
    assert [one.sent for one in asked] == [1_000_000, 2_000_000, whole - 3_000_000]


def test_a_connection_that_stays_cut_leaves_a_part_for_the_next_time(
    zenodo: Zenodo, here: Teramind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.01,) * 3)
    zenodo.cuts = [1_000_000, 0, 0, 0]
    folder = tmp_path / "networks"
    done = here("get", "main", "--folder", folder)
    assert done.returncode == 2
    assert "broke off after 1 MB of 5.7" in done.stderr
    assert "run the same again" in done.stderr
    (part,) = folder.glob("*.part")
    assert part.stat().st_size == 1_000_000
    zenodo.asked.clear()
    assert here("get", "main", "--folder", folder).returncode == 0
    (rest,) = zenodo.downloads()
    assert rest.range == "bytes=1000000-"
    assert rest.sent == len(zenodo.files["main.zip"]) - 1_000_000
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGTERM"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_download_that_is_ended_goes_on(
    zenodo: Zenodo, teramind: Teramind, environment: dict[str, str], tmp_path: Path, ending: str
) -> None:
    zenodo.pause = 0.1
    folder = tmp_path / "networks"
    process = subprocess.Popen(
        command("get", "main", "--folder", folder),
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + LONG
    while not any(part.stat().st_size > 1_000_000 for part in folder.glob("*.part")):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(getattr(signal, ending))
    asked_to_end = time.monotonic()
    _, errors = process.communicate(timeout=LONG)
    if ending == "SIGTERM":
        assert process.returncode == 130
        assert "what has arrived is kept" in errors
        assert time.monotonic() - asked_to_end < 5
    (part,) = folder.glob("*.part")
    there = part.stat().st_size
    assert 0 < there < len(zenodo.files["main.zip"])
    zenodo.pause = 0
    zenodo.asked.clear()
    assert teramind("get", "main", "--folder", folder).returncode == 0
    assert zenodo.downloads()[-1].range == f"bytes={there}-"
    assert zenodo.downloads()[-1].sent == len(zenodo.files["main.zip"]) - there
    assert files(folder) == [f"{NETWORK}.json", f"{NETWORK}.safetensors"]


def test_what_a_killed_conversion_left_is_used(
    zenodo: Zenodo, here: Teramind, tmp_path: Path
) -> None:
    folder = tmp_path / "networks"
    content = zenodo.files["main.zip"]
    left = folder / ".main.zip.unpacked" / "half.ckpt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    part = folder / f"main.zip.{hashlib.md5(content).hexdigest()[:8]}.part"
    part.write_bytes(content)
    assert here("get", "main", "--folder", folder).returncode == 0
    assert not zenodo.downloads()
    assert files(folder) == [f"{NETWORK}.json", f"{NETWORK}.safetensors"]


def test_a_server_that_sends_only_whole_files(
    zenodo: Zenodo, teramind: Teramind, tmp_path: Path
) -> None:
    zenodo.ranges = False
    zenodo.cuts = [10, 1_000_000]  # the look into the zip file is one too
    folder = tmp_path / "networks"
    assert teramind("get", "main", "--folder", folder).returncode == 0
    check_network(folder / f"{NETWORK}.safetensors")
    last = zenodo.downloads()[-1]
    assert last.range == "bytes=1000000-"
    assert last.sent == len(zenodo.files["main.zip"])


def test_a_busy_server_is_waited_for(zenodo: Zenodo, tmp_path: Path) -> None:
    zenodo.busy = 2
    got = get_networks("main", tmp_path, api=zenodo.api)
    check_network(got.paths[0])


# What is refused ------------------------------------------------------------------------------


def test_a_wrong_hash_removes_the_file(zenodo: Zenodo, teramind: Teramind, tmp_path: Path) -> None:
    zenodo.md5["main.zip"] = "0" * 32
    folder = tmp_path / "networks"
    refused(teramind("get", "main", "--folder", folder), "arrived damaged")
    assert files(folder) == []


def test_a_damaged_part_is_found_out(zenodo: Zenodo, here: Teramind, tmp_path: Path) -> None:
    folder = tmp_path / "networks"
    folder.mkdir()
    md5 = hashlib.md5(zenodo.files["main.zip"]).hexdigest()
    (folder / f"main.zip.{md5[:8]}.part").write_bytes(b"x" * 1000)
    refused(here("get", "main", "--folder", folder), "arrived damaged")
    assert files(folder) == []


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"readme.txt": b"hello"}, "holds no checkpoint"),
        ({"../evil/last.ckpt": b"x"}, "leads out of it"),
        ({"a/../../evil/last.ckpt": b"x"}, "leads out of it"),
        ({"/evil/last.ckpt": b"x"}, "leads out of it"),
        ({"C:\\evil\\last.ckpt": b"x"}, "leads out of it"),
    ],
)
def test_zip_files_without_or_with_an_evil_checkpoint(
    zenodo: Zenodo, tmp_path: Path, members: dict[str, bytes], words: str, ranges: bool
) -> None:
    zenodo.ranges = ranges
    zenodo.files["main.zip"] = zipped(members)
    folder = tmp_path / "outer" / "networks"
    with pytest.raises(UserError, match=words):
        get_networks("main", folder, api=zenodo.api)
    assert files(tmp_path) == ["networks", "outer"]
    # Where the server lets us look, nothing is fetched in vain.
    assert bool(zenodo.downloads()) != ranges


def test_an_evil_zip_file_as_a_program_sees_it(
    zenodo: Zenodo, teramind: Teramind, tmp_path: Path
) -> None:
    zenodo.files["main.zip"] = zipped({"../evil/last.ckpt": b"x"})
    folder = tmp_path / "outer" / "networks"
    refused(teramind("get", "main", "--folder", folder), "leads out of it")
    assert files(tmp_path / "outer") == ["networks"]


def test_other_evil_members_are_never_written(zenodo: Zenodo, tmp_path: Path) -> None:
    tiny = (PARITY / "tiny.last.ckpt").read_bytes()
    zenodo.files["main.zip"] = zipped(
        {"../evil.txt": b"x", "../../evil": b"x", "n/last.ckpt": tiny}
    )
    folder = tmp_path / "outer" / "networks"
    get_networks("main", folder, api=zenodo.api)
    assert files(tmp_path) == ["n.json", "n.safetensors", "networks", "outer"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no zip file at all", "no zip file"), (zipped({"n/last.ckpt": b"no"}), "not a whole")],
)
def test_a_file_of_the_right_hash_that_is_of_no_use(
    zenodo: Zenodo, tmp_path: Path, content: bytes, words: str
) -> None:
    zenodo.files["main.zip"] = content
    with pytest.raises(UserError, match=words):
        get_networks("main", tmp_path, api=zenodo.api)
    assert not list(tmp_path.glob("*.safetensors"))
    assert not list(tmp_path.glob(".main.zip.unpacked"))


def test_a_disk_without_room_is_told_before(
    zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=8_000_000))
    with pytest.raises(UserError, match="room for 8 MB"):
        get_networks("main", tmp_path, api=zenodo.api)
    assert not zenodo.downloads()


def test_a_file_of_another_origin_is_never_replaced(zenodo: Zenodo, tmp_path: Path) -> None:
    path = tmp_path / f"{NETWORK}.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"is not of main\.zip"):
        get_networks("main", tmp_path, api=zenodo.api)
    assert path.read_bytes() == b"mine"
    assert not zenodo.downloads()


def test_unknown_names_and_a_server_that_is_not_there(
    zenodo: Zenodo, teramind: Teramind, environment: dict[str, str], tmp_path: Path
) -> None:
    refused(teramind("get", "mian", "--folder", tmp_path), "there is main.")
    environment["TERAMIND_ZENODO"] = "http://127.0.0.1:9/api"
    refused(teramind("get", "main", "--folder", tmp_path), "127.0.0.1:9 cannot be reached")
    refused(teramind("list", "--online"), "127.0.0.1:9 cannot be reached")
    environment["TERAMIND_ZENODO"] = "file:///etc"
    refused(teramind("list", "--online"), "no address of the web")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"<html>", "does not answer as Zenodo does"),
        (b'{"doi": "x", "files": [{"key": "../a.zip"}]}', "no plain file name"),
        (b'{"doi": "x"}', "files"),
        (b"x" * 5_000_000, "larger than"),
    ],
)
def test_answers_that_are_no_records(
    zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: bytes, words: str
) -> None:
    monkeypatch.setattr(zenodo, "record", lambda: record)
    with pytest.raises(UserError, match=words) as caught:
        get_networks("main", tmp_path, api=zenodo.api)
    assert "\n" not in str(caught.value)

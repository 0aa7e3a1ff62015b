"""Jobs are noted whoever starts them, and can be ended and resumed from another process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_teramind.brain import open_brain
from napari_teramind.errors import UserError
from napari_teramind.jobs import history, noting
from napari_teramind.jobs.events import Failed, Finished, Progress
from napari_teramind.jobs.noting import noted
from napari_teramind.jobs.specs import build_spec
from napari_teramind.training.record import process_facts

LONG = 120.0


@pytest.fixture(autouse=True)
def own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "jobs"
    monkeypatch.setenv(history.FOLDER_VARIABLE, str(folder))
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "napari_teramind", *map(str, arguments)]


def teramind(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=LONG)


def listed() -> list[dict[str, Any]]:
    done = teramind("jobs", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["result"]["jobs"]


def wait_for(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def start_phantom(tmp_path: Path):
    """Start phantoms in terminals of their own; return the process and the path of one."""
    started = []

    def start(size: str) -> tuple[subprocess.Popen[bytes], Path]:
        out = tmp_path / "phantom.zarr"
        process = subprocess.Popen(
            command("phantom", "-o", out, "--size", size), stderr=subprocess.DEVNULL
        )
        started.append(process)
        wait_for(lambda: any(job.progress and job.progress.done for job in history.read_jobs()))
        return process, out

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_job_is_listed_when_it_is_done(tmp_path):
    out = tmp_path / "small.zarr"
    assert teramind("phantom", "-o", out, "--size", "XS").returncode == 0
    (job,) = listed()
    assert (job["state"], job["verb"], job["title"]) == (
        "done", "phantom", "Make the phantom small",
    )  # fmt: skip
    told = teramind("jobs", job["name"])
    assert "Make the phantom small: done" in told.stdout
    again = subprocess.run(
        [sys.executable, "-m", "napari_teramind", *job["command"][1:]],
        capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    assert again.returncode == 2  # the same job: it does not write over what is there
    assert "small.zarr" in again.stderr
    assert [job["state"] for job in listed()] == ["failed", "done"]


def test_simulations_of_one_brain_are_told_apart():
    fields = {"verb": "simulate", "brain": "/data/main.zarr"}
    assert history._title(fields) == "Generate main, seed 0"
    more = {"slices": [4, 6], "seed": 7, "edits": ["Th=0@VTA"], "structures": ["SNc", "VTA"]}
    told = history._title({**fields, **more})
    assert told == "Generate main, slices 4-5, SNc, VTA, seed 7, Th=0@VTA"
    assert history._title({**fields, "slices": [4, 5]}) == "Generate main, slice 4, seed 0"


def test_what_only_looks_is_not_listed(tiny_brain):
    assert teramind("info", tiny_brain.path).returncode == 0
    assert teramind("simulate", tiny_brain.path, "--dry-run").returncode in (0, 2)
    told = teramind("jobs")
    assert told.stdout.startswith("No jobs yet")


def test_a_job_is_cancelled_from_elsewhere(start_phantom):
    process, _ = start_phantom("S")
    (job,) = listed()
    assert job["state"] == "running"
    assert job["total"] > job["done"] > 0
    done = teramind("jobs", job["name"], "--cancel")
    assert (done.returncode, done.stdout.strip()) == (0, "Cancelled.")
    assert process.wait(LONG) == 130
    assert listed()[0]["state"] == "cancelled"
    done = teramind("jobs", job["name"], "--cancel")
    assert done.returncode == 2
    assert "does not run any more" in done.stderr


def test_a_killed_job_is_told_and_resumed(start_phantom):
    process, out = start_phantom("XS")
    process.send_signal(signal.SIGKILL)
    process.wait()
    (killed,) = history.read_jobs()
    assert killed.state == "failed"
    assert "ended unexpectedly" in killed.message
    assert killed.resumable
    done = teramind("jobs", killed.name, "--resume")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(history.read_jobs()) == 2)
    wait_for(lambda: history.read_jobs()[0].state != "running")
    assert history.read_jobs()[0].state == "done", history.read_jobs()[0].message
    assert open_brain(out).shape[0] == 4
    with pytest.raises(UserError, match="is done"):
        history.resume_job(history.read_jobs()[0])


def test_unknown_jobs_and_contradictions_are_one_sentence(tmp_path):
    for arguments, words in (
        (("jobs", "abc"), "There is no job 'abc'"),
        (("jobs", "--cancel"), "name the job"),
        (("jobs", "abc", "--cancel", "--resume"), "choose one of them"),
    ):
        done = teramind(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_history_that_cannot_be_written_stops_no_job(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv(history.FOLDER_VARIABLE, str(blocked / "jobs"))
    done = teramind("phantom", "-o", tmp_path / "small.zarr", "--size", "XS")
    assert done.returncode == 0
    assert "will not be listed" in done.stderr


def note(name: str, event: Failed | Finished | None, host: str | None = None) -> Path:
    """Write a job down as if it had run."""
    spec = build_spec({"verb": "phantom", "out": f"/data/{name}.zarr"}, "This test")
    said: list[Any] = []
    with noted(spec, said.append) as emit:
        emit(Progress(message="Section 1 of 2", done=1, total=2))
        if event is not None:
            emit(event)
    (folder,) = [
        path for path in history.history_folder().iterdir()
        if f"{name}.zarr" in (path / "job.json").read_text()
    ]  # fmt: skip
    facts = process_facts() | {"started": time.time()} | ({"host": host} if host else {})
    (folder / history.PROCESS_FILE).write_text(json.dumps(facts))
    return folder


def test_a_job_of_another_computer_is_shown_and_left_alone(own_history):
    note("there", None, host="node17")
    (job,) = history.read_jobs()
    assert (job.state, job.elsewhere) == ("running", True)
    assert "running, 50 %, on node17" in teramind("jobs").stdout
    with pytest.raises(UserError, match="runs on node17"):
        history.cancel_job(job)


def test_old_jobs_go_and_running_ones_stay(own_history, monkeypatch):
    monkeypatch.setattr(noting, "KEPT", 3)
    going = note("going", None)
    going.rename(own_history / "20200101-000000-aaaaaa")
    for i in range(5):
        note(f"n{i}", Finished(result={"summary": ["Made it."]}))
        time.sleep(1.01)  # names sort by the second
    titles = [job.title for job in history.read_jobs()]
    assert titles[0] == "Make the phantom n4"
    assert titles[-1] == "Make the phantom going"
    assert "Make the phantom n0" not in titles


def test_half_written_notes_are_passed_over(own_history):
    folder = note("torn", Finished(result={}))
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"event": "warn')
    assert [job.state for job in history.read_jobs()] == ["done"]
    (own_history / "20990101-000000-bbbbbb").mkdir()
    (own_history / "20990101-000000-bbbbbb" / "job.json").write_text("{")
    assert len(history.read_jobs()) == 1

"""Jobs that outlive their parent and are found again by their folder."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from napari_teramind.jobs import Failed, Finished, InfoSpec, SimulateSpec
from napari_teramind.jobs.detached import kill, outcome, process_of, start_detached
from napari_teramind.training.record import is_alive, process_facts

pytestmark = pytest.mark.timeout(120)

PARENT = """
import sys
from pathlib import Path
from napari_teramind.jobs import load_spec
from napari_teramind.jobs.detached import start_detached
start_detached(load_spec(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_job_is_found_again_after_its_parent_has_gone(
    brain_copy: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    spec = SimulateSpec(
        brain=str(brain_copy), checkpoint=tiny_checkpoint, slices=(0, 2), steps=500, name="long"
    )
    job, folder = tmp_path / "long.json", tmp_path / "job"
    job.write_text(spec.model_dump_json())
    subprocess.run([sys.executable, "-c", PARENT, str(job), str(folder)], check=True)
    process = process_of(folder)
    assert is_alive(process)
    assert outcome(folder) is None
    kill({**process, "created": 1.0})  # another process of the same number is left alone
    assert is_alive(process)
    kill(process)
    wait_until(lambda: outcome(folder) is not None)
    ended = outcome(folder)
    assert isinstance(ended, Failed)
    assert ended.message.startswith("The job ended unexpectedly: it was killed, ")
    assert ended.log == str(folder / "log.txt")
    kill(process)  # nothing happens


def test_how_a_job_ended_is_read_off_its_folder(brain_copy: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    jobs = [
        start_detached(InfoSpec(path=str(brain_copy)), good),
        start_detached(InfoSpec(path=str(tmp_path / "nowhere.zarr")), bad),
    ]
    for job in jobs:
        job.wait(60)
    assert isinstance(outcome(good), Finished)
    ended = outcome(bad)
    assert isinstance(ended, Failed)
    assert "nowhere.zarr" in ended.message


def test_processes_are_told_apart() -> None:
    me = process_facts()
    assert is_alive(me)
    assert not is_alive({**me, "created": 1.0})
    assert not is_alive({"pid": 2**22 + 1, "created": 1.0, "host": me["host"]})
    assert not is_alive({"host": me["host"]})
    assert is_alive({**me, "host": "another computer"})
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    created = psutil.Process(child.pid).create_time()
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not is_alive({"pid": child.pid, "created": created, "host": me["host"]})
    child.wait()

"""Jobs as real processes: events, cancelling, killing, outliving."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from napari_teramind.brain import open_brain
from napari_teramind.jobs import (
    Failed,
    Finished,
    InfoSpec,
    JobProcess,
    Planned,
    Progress,
    SimulateSpec,
    Warned,
)
from napari_teramind.jobs.priority import NICENESS

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def long_job(brain_copy: Path, tiny_checkpoint: Path) -> SimulateSpec:
    """A job that takes minutes."""
    return SimulateSpec(
        brain=str(brain_copy), checkpoint=tiny_checkpoint, slices=(0, 2), steps=500, name="long"
    )


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def wait_for_work(job: JobProcess) -> None:
    for event in job.events():
        assert not isinstance(event, Failed | Finished), event
        if isinstance(event, Progress) and event.done > 0:
            return


def test_a_job_tells_its_events_and_its_result(
    brain_copy: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    spec = SimulateSpec(
        brain=str(brain_copy),
        checkpoint=tiny_checkpoint,
        roi=(0, 64, 0, 64),
        slices=(0, 2),
        steps=2,
        halo=0,
        name="first",
    )
    with JobProcess(spec, tmp_path / "job") as job:
        events = list(job.events())
        assert job.wait() == 0
    kinds = {type(event) for event in events}
    assert {Planned, Progress, Warned, Finished} <= kinds
    assert isinstance(events[-1], Finished)
    assert (brain_copy / "simulations" / "first" / "zarr.json").exists()
    assert job.read() == []
    job.remove_folder()
    assert not (tmp_path / "job").exists()


def test_bad_input_is_told_in_one_sentence(tmp_path: Path) -> None:
    with JobProcess(InfoSpec(path=str(tmp_path / "nowhere.zarr"))) as job:
        events = list(job.events())
        assert job.wait() == 2
    (failed,) = events
    assert isinstance(failed, Failed)
    assert failed.exit_code == 2
    assert "nowhere.zarr" in failed.message
    assert "Traceback" not in job.log_path.read_text()


def test_relative_paths_count_from_here(brain_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(brain_copy.parent)
    with JobProcess(InfoSpec(path=brain_copy.name)) as job:
        assert isinstance(list(job.events())[-1], Finished)


def test_a_cancelled_job_ends_soon_and_leaves_no_result(
    long_job: SimulateSpec, brain_copy: Path
) -> None:
    with JobProcess(long_job) as job:
        wait_for_work(job)
        asked = time.monotonic()
        job.cancel()
        assert time.monotonic() - asked < 0.5, "cancel must not wait"
        last = list(job.events())[-1]
        job.wait()
        assert time.monotonic() - asked < 10
    assert last == Failed(message="The job was cancelled.", exit_code=130)
    assert not (brain_copy / "simulations" / "long").exists()


def test_a_killed_job_is_told_as_failed(long_job: SimulateSpec, brain_copy: Path) -> None:
    with JobProcess(long_job) as job:
        wait_for_work(job)
        psutil.Process(job.pid).kill()
        last = list(job.events())[-1]
    assert isinstance(last, Failed)
    assert last.exit_code == 1
    assert str(job.log_path) in last.message
    simulations = open_brain(brain_copy).simulations
    assert "long" not in simulations
    assert simulations.unfinished() == ["long"]


def test_garbage_on_standard_output_is_told_not_swallowed(tmp_path: Path) -> None:
    with JobProcess(InfoSpec(path=str(tmp_path / "nowhere.zarr")), tmp_path / "job") as job:
        with (tmp_path / "job" / "events.jsonl").open("ab") as events:
            events.write(b"a library speaks\n")
        job.wait()
        told = list(job.events())
    assert Warned(message="The job said: a library speaks") in told


PARENT = """
    import sys, time
    from napari_teramind.jobs import JobProcess, load_spec, Progress
    from pathlib import Path
    job = JobProcess(load_spec(Path(sys.argv[1])), dies_with_parent=sys.argv[2] == "yes")
    for event in job.events():
        if isinstance(event, Progress) and event.done > 0:
            break
    print(job.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_job_dies_with_its_parent_only_when_asked_to(
    long_job: SimulateSpec, tmp_path: Path, asked_for: bool
) -> None:
    spec = tmp_path / "long.json"
    spec.write_text(long_job.model_dump_json())
    arguments = [textwrap.dedent(PARENT), str(spec), "yes" if asked_for else "no"]
    parent = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    job = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        if asked_for:
            wait_until(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE, 15)
        else:
            time.sleep(3)
            assert job.status() != psutil.STATUS_ZOMBIE
    finally:
        if job.is_running():
            job.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="has classes of priority instead")
def test_a_job_lets_the_window_go_first(long_job: SimulateSpec) -> None:
    here = psutil.Process().nice()
    with JobProcess(long_job) as job:
        wait_for_work(job)
        assert psutil.Process(job.pid).nice() == min(19, max(here, NICENESS))
    assert psutil.Process().nice() == here

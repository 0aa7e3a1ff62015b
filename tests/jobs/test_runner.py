from __future__ import annotations

import signal
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from napari_teramind.errors import UserError
from napari_teramind.jobs import (
    Event,
    Failed,
    Finished,
    InfoSpec,
    Preview,
    Progress,
    SimulateSpec,
    Warned,
    run_job,
)
from napari_teramind.jobs.runner import JobContext


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress_of(reports: list[tuple[float, str, int, int]]) -> list[Progress]:
    events: list[Event] = []
    clock = Clock()
    job = JobContext(events.append, clock)
    for clock.now, message, done, total in reports:
        job.report(message, done, total)
    return [event for event in events if isinstance(event, Progress)]


def test_time_left_grows_out_of_the_phase_alone() -> None:
    events = progress_of(
        [
            (0, "Reading", 0, 2),
            (100, "Reading", 2, 2),
            (100, "Writing slice 0", 0, 10),
            (110, "Writing slice 1", 1, 10),
            (140, "Writing slice 4", 4, 10),
        ]
    )
    assert [event.seconds_left for event in events] == [None, 0, None, 90, 60]


def test_a_resumed_phase_does_not_count_what_was_done_before() -> None:
    events = progress_of([(0, "Training", 900, 1000), (50, "Training", 950, 1000)])
    assert events[-1].seconds_left == 50


def test_time_left_is_no_more_than_the_time_limit() -> None:
    events: list[Event] = []
    clock = Clock()
    job = JobContext(events.append, clock)
    job.ends_within(60)
    job.report("Training", 0, 1000)
    clock.now = 10
    job.report("Training", 1, 1000)
    assert isinstance(events[-1], Progress)
    assert events[-1].seconds_left == 50


def test_many_reports_become_few_events_and_the_last_is_kept() -> None:
    events = progress_of([(i / 1000, "Counting", i, 1000) for i in range(1001)])
    assert len(events) <= 12
    assert (events[0].done, events[-1].done) == (0, 1000)


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: Any) -> tuple[int, list[Event]]:
    """Run a job whose verb is a function of the test's own."""
    monkeypatch.setattr("napari_teramind.jobs.verbs.execute", verb)
    events: list[Event] = []
    return run_job(InfoSpec(path="x"), events.append, tmp_path / "logs"), events


def test_a_result_is_the_last_event(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, events = run(monkeypatch, tmp_path, lambda spec, job: {"path": spec.path})
    assert code == 0
    assert events == [Finished(result={"path": "x"})]


def test_a_user_error_is_exit_code_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verb(spec: object, job: JobContext) -> dict[str, Any]:
        raise UserError("The panel lacks Th.")

    code, events = run(monkeypatch, tmp_path, verb)
    assert code == 2
    assert events == [Failed(message="The panel lacks Th.", exit_code=2)]
    assert not (tmp_path / "logs").exists()


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verb(spec: object, job: JobContext) -> dict[str, Any]:
        raise KeyboardInterrupt

    code, events = run(monkeypatch, tmp_path, verb)
    assert code == 130
    assert events == [Failed(message="The job was cancelled.", exit_code=130)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_ends_the_job_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Deaf:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0)

    def verb(spec: object, job: JobContext) -> dict[str, Any]:
        job.report("Working", 0, 2)
        Deaf()
        job.report("Working", 1, 2)
        raise AssertionError("went on")

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the program does
    try:
        code, events = run(monkeypatch, tmp_path, verb)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 130
    assert [event.event for event in events] == ["progress", "failed"]


def test_the_unforeseen_leaves_its_traceback_in_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def verb(spec: object, job: JobContext) -> dict[str, Any]:
        raise ZeroDivisionError("division by zero\nsecond line")

    code, events = run(monkeypatch, tmp_path, verb)
    (failed,) = events
    assert code == 1
    assert isinstance(failed, Failed)
    assert "ZeroDivisionError: division by zero" in failed.message
    assert "\n" not in failed.message
    assert failed.log is not None
    log = Path(failed.log)
    assert log.parent == tmp_path / "logs"
    assert "Traceback" in log.read_text()
    assert "second line" in log.read_text()


def test_a_folder_without_access_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    def write(spec: Any, job: JobContext) -> Any:
        (tmp_path / "file" / "temporary.7f3a").write_text("")

    code, events = run(monkeypatch, tmp_path, write)
    assert code == 2
    (failed,) = events
    assert isinstance(failed, Failed)
    assert failed.message.startswith(f"The folder {tmp_path / 'file'} cannot be used")
    assert failed.log is None


def test_a_log_folder_that_cannot_be_made_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    code, events = run(monkeypatch, tmp_path, lambda spec, job: {}["absent"])
    assert code == 1
    (failed,) = events
    assert isinstance(failed, Failed)
    assert failed.log is not None
    assert "KeyError" in Path(failed.log).read_text()


def test_warnings_for_people_become_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verb(spec: object, job: JobContext) -> dict[str, Any]:
        warnings.warn("Genes are taken in their order.", stacklevel=1)
        return {}

    _, events = run(monkeypatch, tmp_path, verb)
    assert events[0] == Warned(message="Genes are taken in their order.")


def test_previews_of_every_step_lie_in_the_chosen_folder(
    brain_copy: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    import numpy as np

    folder = tmp_path / "previews"
    spec = SimulateSpec(
        brain=str(brain_copy),
        checkpoint=tiny_checkpoint,
        roi=(10, 74, 20, 84),
        slices=(0, 2),
        steps=4,
        halo=0,
        name="first",
        preview_folder=folder,
    )
    shapes = []

    def emit(event: Event) -> None:
        if isinstance(event, Preview):
            image = np.load(event.path)
            shapes.append((image.dtype, image.shape))
            steps.append(event.step)
        events.append(event)

    events: list[Event] = []
    steps: list[int] = []
    assert run_job(spec, emit) == 0
    assert set(shapes) == {(np.dtype(np.uint8), (2, 2, 64, 64))}
    assert sorted(set(steps)) == [1, 2, 3, 4]
    assert len(list(folder.iterdir())) == 2
    assert isinstance(events[-1], Finished)


def test_what_does_not_fit_in_memory_is_refused_before_it_starts(
    brain_copy: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(available=1_000_000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    spec = SimulateSpec(brain=str(brain_copy), checkpoint=tiny_checkpoint, name="large")
    events: list[Event] = []
    assert run_job(spec, events.append) == 2
    assert isinstance(events[-1], Failed)
    assert "of memory and 1 MB are free; close what else uses it" in events[-1].message
    # Saying what it would take is no work.
    assert run_job(spec.model_copy(update={"dry_run": True}), events.append) == 0

"""The Train panel in a real viewer: start, watch, stop, resume, outlive napari, survive killing."""

from __future__ import annotations

import json
import time
from functools import wraps
from typing import Any

import psutil
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_teramind.widgets.train import SIMULATE_NAME, TrainWidget
from napari_teramind.widgets.train_watch import RunWatch

from .train_panels import LONG, hold_out_rectangle, make_small, state_of, step_of

pytestmark = pytest.mark.timeout(280)

MOST_SECONDS = 0.05


@pytest.fixture
def panel(train_panel: TrainWidget) -> TrainWidget:
    return train_panel


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Longest time that the panel's calls held the event loop, by name, in seconds of its thread.

    Time of the thread, not of the clock: other programs of a busy machine are not ours to answer
    for.
    """
    longest: dict[str, float] = {}

    def timed(cls: type, name: str) -> None:
        call = getattr(cls, name)
        wanted = call.__code__.co_argcount  # signals bring more than a slot wants

        @wraps(call)
        def wrapper(*args: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*args[:wanted], **options)
            finally:
                took = time.thread_time() - began
                longest[name] = max(longest.get(name, 0), took)

        monkeypatch.setattr(cls, name, wrapper)

    for name in ("start", "stop", "resume", "_on_view", "show_run", "refresh", "_on_settings"):
        timed(TrainWidget, name)
    timed(RunWatch, "poll")
    timed(RunWatch, "_on_read")
    return longest


def test_start_stop_resume(held, panel, qtbot):
    hold_out_rectangle(panel, (64, 128, 64, 128))
    make_small(panel, 40)
    assert panel.how.preset.currentData() == "custom"
    qtbot.mouseClick(panel.start_button, Qt.MouseButton.LeftButton)
    assert state_of(panel) == "starting"
    assert panel.progress.words.text() == "Starting: reading the brains"
    assert not panel.start_button.isVisible()
    qtbot.waitUntil(lambda: step_of(panel) >= 3, timeout=LONG)
    assert state_of(panel) == "running"
    assert panel.progress.words.text().startswith("Step ")
    assert len(panel.watch.view.training[0]) >= 3
    assert panel.progress.plot.isVisible()
    qtbot.mouseClick(panel.progress.stop_button, Qt.MouseButton.LeftButton)
    assert panel.progress.stop_button.text() == "Stop now"
    qtbot.waitUntil(lambda: state_of(panel) == "stopped", timeout=LONG)
    stopped_at = step_of(panel)
    assert stopped_at < 40
    assert panel.progress.words.text().startswith(f"Stopped at step {stopped_at} of 40")
    folder = panel.watch.view.folder
    config = json.loads((folder / "config.json").read_text())
    assert config["train"]["exclude"] == [64, 128, 64, 128]
    panel.progress.steps.setValue(stopped_at + 4)
    qtbot.mouseClick(panel.progress.resume_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: state_of(panel) == "finished", timeout=LONG)
    assert step_of(panel) == stopped_at + 4
    assert panel.watch.view.table.steps == tuple(range(1, stopped_at + 5))
    assert panel.progress.words.text().startswith(f"Finished: {stopped_at + 4} steps")
    assert panel.progress.samples.isVisible()
    assert "PSNR" in panel.progress.samples.caption.text()
    panel.progress.use_button.click()
    assert panel.session.checkpoints.current == str(folder / "best.safetensors")
    simulate = panel.session.viewer.window.dock_widgets[SIMULATE_NAME]
    panel.progress.use_button.click()  # it is opened once
    assert simulate.what.checkpoint_choice.currentText() == "best (brain-1)"
    assert len(panel.session.viewer.window.dock_widgets) == 2
    panel.session.checkpoints.abandon()
    too_long = {name: took for name, took in held.items() if took > MOST_SECONDS}
    assert not too_long
    assert {"start", "stop", "resume", "_on_view", "poll"} <= set(held)


def test_a_training_outlives_napari_and_is_found_again(make_train_panel, panel, qtbot):
    panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData("nothing"))
    make_small(panel, 5000)
    panel.start()
    qtbot.waitUntil(lambda: step_of(panel) >= 1, timeout=LONG)
    folder = panel.watch.view.folder
    panel.session.viewer.close()  # closed by a program, napari asks nothing
    status = json.loads((folder / "status.json").read_text())
    assert psutil.pid_exists(status["pid"])

    again = make_train_panel()
    assert again.watch is not None
    assert again.watch.view.folder == folder
    before = step_of(again)
    qtbot.waitUntil(lambda: state_of(again) == "running" and step_of(again) > before, timeout=LONG)
    again.stop()
    again.stop()
    qtbot.waitUntil(lambda: not again.watch.view.is_going, timeout=LONG)
    assert again.progress.words.text().startswith("Stopped at about step ")
    # Its process is a child of this one, and stays as a zombie until this one ends.
    qtbot.waitUntil(lambda: ended(status["pid"]), timeout=LONG)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_training_shows_a_clear_state(panel, qtbot):
    panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData("nothing"))
    make_small(panel, 5000)
    panel.start()
    qtbot.waitUntil(lambda: step_of(panel) >= 1, timeout=LONG)
    status = json.loads((panel.watch.view.folder / "status.json").read_text())
    psutil.Process(status["pid"]).kill()
    qtbot.waitUntil(lambda: state_of(panel) == "died", timeout=LONG)
    words = panel.progress.words.text()
    assert words.startswith("The training process ended unexpectedly at about step ")
    assert "log.txt" in words
    assert "unexpectedly" in notification_manager.records[-1].message
    assert panel.progress.resume_button.text() == "Resume"
    assert not panel.progress.stop_button.isVisible()
    assert not panel.progress.bar.isVisible()

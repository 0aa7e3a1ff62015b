"""The page in napari's preferences, and the memory that a worker keeps."""

from __future__ import annotations

import os
import time

import psutil
import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialog, QLabel

from napari_teramind.brain import BrainStore
from napari_teramind.jobs import InfoSpec
from napari_teramind.jobs.warm import run_warm, worker_pid
from napari_teramind.widgets.how import How
from napari_teramind.widgets.preferences import preferences

from .hands import choose, click

LONG = 60_000


@pytest.fixture
def restored():
    """Preferences that are as they were when the test has ended."""
    before = preferences().model_dump(exclude={"config_path"})
    yield preferences()
    for group, values in before.items():
        for name, value in values.items():
            setattr(getattr(preferences(), group), name, value)


def test_the_panel_begins_with_what_is_preferred_and_follows_it(qtbot, restored):
    how = How()
    qtbot.addWidget(how)
    assert how.values()["steps"] == 8
    assert (how.values()["halo"], how.values()["sampler"]) == (1, "ddim")
    restored.generate.steps = 15
    restored.generate.surround = "exact"
    restored.generate.sampler = "dpm++2m"
    assert how.values()["steps"] == 15
    assert (how.values()["halo"], how.values()["sampler"]) == ("exact", "dpm++2m")
    other = How()
    qtbot.addWidget(other)
    assert other.values()["steps"] == 15


def test_a_panel_that_has_gone_is_not_told(qtbot, restored):
    how = How()
    how.deleteLater()
    QApplication.sendPostedEvents(None, 0)
    qtbot.wait(10)
    restored.generate.steps = 9
    assert preferences().generate.steps == 9


def test_the_page_is_in_napari_s_preferences(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    found: list[str] = []

    def look() -> None:
        dialogs = [w for w in QApplication.topLevelWidgets() if isinstance(w, QDialog)]
        shown = [dialog for dialog in dialogs if dialog.isVisible()]
        if not shown:
            QTimer.singleShot(100, look)
            return
        found.extend(label.text() for label in shown[0].findChildren(QLabel))
        shown[0].reject()

    QTimer.singleShot(200, look)
    choose(qtbot, viewer.window, "File", "Preferences")
    qtbot.waitUntil(lambda: bool(found), timeout=LONG)
    assert any("Keep the network ready" in text for text in found)
    assert any("Field in 3D" in text for text in found)


def test_memory_is_given_back_when_asked(qtbot, tiny_brain: BrainStore, tmp_path, own_settings):
    how = How()
    qtbot.addWidget(how)
    how.show()
    job = run_warm(InfoSpec(path=tiny_brain.path), tmp_path / "job")
    assert job is not None
    end = time.monotonic() + 60
    while not job.ended and time.monotonic() < end:
        job.read()
        time.sleep(0.05)
    pid = worker_pid()
    assert pid is not None
    qtbot.waitUntil(how.worker.button.isVisible, timeout=LONG)
    assert "MB in memory" in how.worker.words.text()
    click(qtbot, how.worker.button)
    assert worker_pid() is None
    assert not how.worker.button.isVisible()
    psutil.Process(pid).wait(30)


def test_a_worker_waits_as_long_as_preferred(
    make_napari_viewer, qtbot, restored, tiny_brain: BrainStore
):
    from napari_teramind.jobs.warm import close_worker
    from napari_teramind.widgets.running import RunningJob

    close_worker()
    restored.memory.idle_minutes = 0.005
    job = RunningJob(lambda _: InfoSpec(path=tiny_brain.path), None, warm=True)
    pid = worker_pid()
    assert pid is not None
    assert pid != os.getpid()
    with qtbot.waitSignal(job.ended, timeout=LONG):
        pass
    psutil.Process(pid).wait(30)


def test_panels_are_in_the_menus_of_layers(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    choose(qtbot, viewer.window, "Layers", "Data", "Simulate")
    qtbot.waitUntil(
        lambda: any(name.startswith("Simulate") for name in viewer.window.dock_widgets),
        timeout=LONG,
    )

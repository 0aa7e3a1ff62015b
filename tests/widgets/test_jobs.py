"""The Jobs panel in a real viewer, with real jobs in other processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtGui import QDesktopServices, QGuiApplication

from napari_teramind.jobs import history
from napari_teramind.jobs.events import Failed, Finished, Progress
from napari_teramind.jobs.noting import noted
from napari_teramind.jobs.specs import build_spec
from napari_teramind.training.record import process_facts
from napari_teramind.widgets.jobs import JobsWidget
from napari_teramind.widgets.parts import PANEL_WIDTH

LONG = 60_000


@pytest.fixture(autouse=True)
def own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(history.FOLDER_VARIABLE, str(tmp_path / "jobs"))
    return tmp_path / "jobs"


@pytest.fixture
def jobs_panel(make_napari_viewer) -> JobsWidget:
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Jobs")
    return panel


def note(fields: dict, *events, at: str) -> Path:
    """Write a job down as if it had run, or ran still."""
    with noted(build_spec(fields, "This test"), lambda event: None) as emit:
        for event in events:
            emit(event)
    newest = max(history.history_folder().iterdir(), key=lambda path: path.stat().st_ctime_ns)
    folder = newest.rename(newest.with_name(at))
    facts = process_facts() | {"started": time.time()}
    (folder / history.PROCESS_FILE).write_text(json.dumps(facts))
    return folder


def test_without_jobs_the_panel_teaches(jobs_panel, qtbot):
    qtbot.waitUntil(lambda: not jobs_panel._reading, timeout=LONG)
    assert jobs_panel.job is None
    assert jobs_panel._pages.currentIndex() == 0


def test_a_job_from_a_terminal_is_followed_cancelled_and_resumed(jobs_panel, qtbot, tmp_path):
    out = tmp_path / "phantom.zarr"
    command = [sys.executable, "-m", "napari_teramind", "phantom", "-o", str(out), "--size", "S"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        qtbot.waitUntil(
            lambda: (
                jobs_panel.job is not None
                and jobs_panel.job.progress is not None
                and jobs_panel.job.progress.done > 0
            ),
            timeout=LONG,
        )
        assert jobs_panel.title.text() == "Make the phantom phantom"
        assert jobs_panel.progress.isVisible()
        assert jobs_panel.words.text().startswith("Running. Section")
        assert not jobs_panel.resume_button.isEnabled()
        qtbot.mouseClick(jobs_panel.cancel_button, Qt.MouseButton.LeftButton)
        assert jobs_panel.words.text() == "Cancelling ..."
        qtbot.waitUntil(lambda: jobs_panel.job.state == "cancelled", timeout=LONG)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    qtbot.waitUntil(lambda: jobs_panel.resume_button.isEnabled(), timeout=LONG)
    assert not jobs_panel.cancel_button.isEnabled()
    qtbot.mouseClick(jobs_panel.resume_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: jobs_panel.model.rowCount() == 2, timeout=LONG)
    again = jobs_panel.job
    assert again.folder == jobs_panel.model.jobs[0].folder  # it is what one wants to look at
    assert again.state == "running"
    os.kill(again.process["pid"], signal.SIGKILL)
    qtbot.waitUntil(lambda: jobs_panel.job.state == "failed", timeout=LONG)
    assert "ended unexpectedly" in jobs_panel.words.text()
    assert jobs_panel.resume_button.isEnabled()


def test_what_a_job_made_is_opened(jobs_panel, qtbot, tiny_brain, tmp_path, monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(
        QDesktopServices, "openUrl", staticmethod(lambda url: shown.append(url.toLocalFile()))
    )
    log = tmp_path / "log.txt"
    log.touch()
    table = tmp_path / "table.csv"
    table.touch()
    export = {"verb": "export", "brain": str(tiny_brain.path), "image": "stains", "out": str(table)}
    note(export, Finished(result={"summary": ["Wrote it."]}), at="20260101-000000-000001")
    attention = {
        "verb": "attention", "brain": str(tiny_brain.path), "checkpoint": "c.safetensors",
        "pairs": ["DOPA"],
    }  # fmt: skip
    failed = Failed(message="It broke.", log=str(log))
    note(attention, failed, at="20260101-000000-000002")
    phantom = {"verb": "phantom", "out": str(tiny_brain.path)}
    note(phantom, Finished(result={}), at="20260101-000000-000003")
    going = Progress(message="Step 3 of 10", done=3, total=10, seconds_left=200)
    note({**phantom, "out": "/data/other.zarr"}, going, at="20260101-000000-000004")
    jobs_panel.refresh()
    qtbot.waitUntil(lambda: jobs_panel.model.rowCount() == 4, timeout=LONG)
    cells = [[jobs_panel.model.index(row, column).data() for column in (0, 1)] for row in range(4)]
    assert cells == [
        ["Make the phantom other", "30 %"],
        [f"Make the phantom {Path(tiny_brain.path).stem}", "Done"],
        [f"Attention of DOPA in {Path(tiny_brain.path).stem}", "Failed"],
        [f"Export stains of {Path(tiny_brain.path).stem}", "Done"],
    ]
    assert "about 3 min left" in jobs_panel.words.text()
    assert not jobs_panel.open_button.isEnabled()

    jobs_panel.table.selectRow(1)
    assert jobs_panel.words.text() == "Done. Done."
    qtbot.mouseClick(jobs_panel.open_button, Qt.MouseButton.LeftButton)
    layers = jobs_panel.session.viewer.layers
    qtbot.waitUntil(lambda: "structures" in layers, timeout=LONG)
    assert layers[0].name == "DAPI"
    count = len(jobs_panel.session.viewer.layers)
    qtbot.mouseClick(jobs_panel.open_button, Qt.MouseButton.LeftButton)
    assert len(jobs_panel.session.viewer.layers) == count  # it is there already

    jobs_panel.table.selectRow(2)
    assert "It broke." in jobs_panel.words.text()
    qtbot.mouseClick(jobs_panel.log_button, Qt.MouseButton.LeftButton)
    jobs_panel.table.selectRow(3)
    qtbot.mouseClick(jobs_panel.folder_button, Qt.MouseButton.LeftButton)
    assert shown == [str(log), str(tmp_path)]
    qtbot.mouseClick(jobs_panel.copy_button, Qt.MouseButton.LeftButton)
    command = QGuiApplication.clipboard().text()
    assert command.startswith("teramind run ")
    assert command.endswith("job.json")


def test_what_cannot_be_resumed_is_told(jobs_panel, qtbot, tmp_path):
    missing = str(tmp_path / "gone.zarr")
    simulate = {"verb": "simulate", "brain": missing, "name": "first"}
    note(simulate, Failed(message="It broke."), at="20260101-000000-000001")
    jobs_panel.refresh()
    qtbot.waitUntil(lambda: jobs_panel.job is not None, timeout=LONG)
    told = len(notification_manager.records)
    qtbot.mouseClick(jobs_panel.resume_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(notification_manager.records) > told, timeout=LONG)
    assert missing in notification_manager.records[-1].message
    qtbot.waitUntil(lambda: jobs_panel.resume_button.isEnabled(), timeout=LONG)


def test_a_choice_stays_while_jobs_come_and_go_on(jobs_panel, qtbot):
    for i in range(3):
        out = {"verb": "phantom", "out": f"/data/{i}.zarr"}
        note(out, Finished(result={}), at=f"20260101-000000-00000{i}")
    jobs_panel.refresh()
    qtbot.waitUntil(lambda: jobs_panel.model.rowCount() == 3, timeout=LONG)
    jobs_panel.table.selectRow(1)
    chosen = jobs_panel.job.folder
    note({"verb": "phantom", "out": "/data/9.zarr"}, at="20260101-000000-000009")
    qtbot.waitUntil(lambda: jobs_panel.model.rowCount() == 4, timeout=LONG)
    assert jobs_panel.job.folder == chosen
    assert jobs_panel.table.currentIndex().row() == 2


def test_nothing_is_clipped_at_the_stated_width(jobs_panel):
    for button in jobs_panel._buttons():
        assert button.minimumSizeHint().width() <= PANEL_WIDTH // 2
    assert jobs_panel.minimumSizeHint().width() <= PANEL_WIDTH

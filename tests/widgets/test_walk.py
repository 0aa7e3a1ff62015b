"""The whole way in a real window, with mouse and keys: from an empty viewer to a found job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QTabBar

from napari_teramind.jobs import history
from napari_teramind.jobs.detached import process_of
from napari_teramind.plugin.layers import tag_of
from napari_teramind.widgets import attention_jobs
from napari_teramind.widgets.attention_export import FORMS

from .hands import choose, choose_item, click, drag, look_around, write
from .story import Story

pytestmark = pytest.mark.timeout(900)
LONG = 240_000
PLUGIN = "Tera-MIND"


@pytest.fixture(autouse=True)
def own_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention_jobs, "jobs_folder", lambda: tmp_path / "attention-jobs")
    monkeypatch.setenv("TERAMIND_JOBS", str(tmp_path / "jobs"))
    yield
    for folder in [*(tmp_path / "attention-jobs").glob("*"), *(tmp_path / "jobs").glob("*")]:
        pid = process_of(folder).get("pid")
        if pid is not None and psutil.pid_exists(int(str(pid))):
            psutil.Process(int(str(pid))).kill()


@pytest.fixture
def open_panel(qtbot):
    """Open a panel from the menu, and return it."""

    def opened(viewer, name: str):
        choose(qtbot, viewer.window, "Plugins", PLUGIN, name)
        title = f"{name} ({PLUGIN})"
        qtbot.waitUntil(lambda: title in viewer.window.dock_widgets, timeout=20_000)
        widget = viewer.window.dock_widgets[title]
        qtbot.waitUntil(lambda: not widget.visibleRegion().isEmpty(), timeout=5000)
        return widget

    return opened


def go_to_tab(qtbot, viewer, panel, name: str) -> None:
    """Click the tab of a panel that is open already."""
    for bar in viewer.window._qt_window.findChildren(QTabBar):
        for index in range(bar.count()):
            if bar.isVisible() and bar.tabText(index).startswith(name):
                spot = bar.tabRect(index).center()
                qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=spot)
    qtbot.waitUntil(lambda: not panel.visibleRegion().isEmpty(), timeout=5000)


def layers_of(viewer, kind: str) -> list[str]:
    return [layer.name for layer in viewer.layers if tag_of(layer).get("kind") == kind]


@pytest.fixture
def story(qapp):
    told = Story()
    yield told
    told.end()


def test_from_an_empty_viewer_to_a_job_that_is_found_again(
    make_napari_viewer, open_panel, qtbot, monkeypatch, tmp_path, story
):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)

    with story.step("Open the Brain panel"):
        brain_panel = open_panel(viewer, "Brain")
    story.picture(viewer, "empty")
    with story.step("Open the sample"):
        click(qtbot, brain_panel.empty.phantom_button)
        qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=LONG)
        title = f"Brain ({PLUGIN})"
        qtbot.waitUntil(lambda: title in viewer.window.dock_widgets, timeout=20_000)
        brain_panel = viewer.window.dock_widgets[title]
        qtbot.waitUntil(brain_panel.gene.isVisible, timeout=20_000)
        qtbot.wait(500)

    with story.step("Find the gene Th"):
        write(qtbot, brain_panel.gene, "th")
        assert "Th" in viewer.layers
        assert viewer.layers["Th"].visible
        qtbot.wait(500)
    story.picture(viewer, "gene")

    with story.step("Look around, no job"):
        look_around(viewer, qtbot)

    with story.step("Draw a region"):
        simulate = open_panel(viewer, "Simulate")
        qtbot.waitUntil(lambda: simulate.session.checkpoints.facts() is not None, timeout=LONG)
        click(qtbot, simulate.where.where.draw_button)
        height, width = simulate.session.brain.shape[1:]
        y, x = height // 2, width // 3
        tall, wide = story.region
        drag(viewer, qtbot, (y, x), (y + tall, x + wide))
        qtbot.waitUntil(lambda: simulate.session.region.roi() is not None, timeout=5000)
    with story.step("Generate, and cancel"):
        click(qtbot, simulate.advanced.button)
        write(qtbot, simulate.how.steps, "100")
        click(qtbot, simulate.button)
        qtbot.waitUntil(lambda: simulate.progress.value() > 0, timeout=LONG)
        assert simulate.button.text() == "Cancel"
        qtbot.waitUntil(lambda: len(layers_of(viewer, "preview")) == 2, timeout=LONG)
        qtbot.wait(500)
    with story.step("Look around while a region is generated"):
        look_around(viewer, qtbot)
    with story.step("Generate, and cancel (2)"):
        click(qtbot, simulate.button)
        qtbot.waitUntil(lambda: simulate.session.generation is None, timeout=LONG)
        assert simulate.words.text() == "Cancelled."
        assert not layers_of(viewer, "simulation")
    with story.step("Generate again"):
        write(qtbot, simulate.how.steps, str(story.steps))
        click(qtbot, simulate.button)
        qtbot.waitUntil(lambda: simulate.session.generation is None, timeout=LONG)
        assert layers_of(viewer, "simulation") == [
            "DAPI (generated, seed 0)", "PolyT (generated, seed 0)",
        ]  # fmt: skip
        qtbot.wait(500)
    story.close_up(viewer)
    story.picture(viewer, "generated")

    with story.step("Knock out a gene, and compare"):
        click(qtbot, simulate.advanced.button)
        click(qtbot, simulate.edit_part.button)
        write(qtbot, simulate.edits.gene, "Slc17a7")
        assert simulate.edits.list.item(0).text() == "Slc17a7 knocked out"
        click(qtbot, simulate.button)
        qtbot.waitUntil(lambda: simulate.session.generation is None, timeout=LONG)
        qtbot.waitUntil(lambda: len(layers_of(viewer, "difference")) == 2, timeout=LONG)
        assert len(layers_of(viewer, "simulation")) == 4
        qtbot.wait(500)
    story.picture(viewer, "knock-out")
    with story.step("Draw the curtain"):
        go_to_tab(qtbot, viewer, brain_panel, "Brain")
        choose_item(qtbot, brain_panel.compare.mode, "Swipe")
        qtbot.waitUntil(lambda: len(layers_of(viewer, "compared")) == 2, timeout=LONG)
        for _ in range(5):
            qtbot.keyClick(brain_panel.compare.slider, Qt.Key.Key_PageUp)
    story.picture(viewer, "curtain")
    choose_item(qtbot, brain_panel.compare.mode, "Off")
    assert not layers_of(viewer, "compared")

    with story.step("Attention of Nr4a2 and Th"):
        attention = open_panel(viewer, "Attention")
        click(qtbot, attention.pair.presets["DOPA"])
        qtbot.waitUntil(attention.button.isEnabled, timeout=20_000)
        click(qtbot, attention.button)
        qtbot.waitUntil(lambda: attention.run is None, timeout=LONG)
        qtbot.waitUntil(
            lambda: layers_of(viewer, "attention") == ["Nr4a2-Th attention"], timeout=LONG
        )
        qtbot.waitUntil(lambda: attention.results.statistics.current is not None, timeout=LONG)
        qtbot.wait(500)
    story.picture(viewer, "attention")

    with story.step("Go to the VTA"):
        atlas = open_panel(viewer, "Atlas")
        qtbot.waitUntil(lambda: atlas.structures.current is not None, timeout=LONG)
        before = np.array(viewer.scene.camera.center)
        write(qtbot, atlas.search, "VTA")
        qtbot.waitUntil(lambda: "VTA" in atlas.answer.text(), timeout=20_000)
        assert not np.allclose(before, viewer.scene.camera.center)
        qtbot.wait(500)
    story.picture(viewer, "vta")

    # Out of here, as a table.
    table = tmp_path / "structures.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(table), ""))
    go_to_tab(qtbot, viewer, attention, "Attention")

    menu = attention.results.export_button.menu()

    def pick() -> None:
        if not menu.isVisible():
            QTimer.singleShot(100, pick)
            return
        title = next(title for title, ending in FORMS if ending == ".csv")
        action = next(a for a in menu.actions() if a.text().startswith(title))
        qtbot.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(action).center())

    with story.step("Export the table"):
        QTimer.singleShot(500, pick)
        click(qtbot, attention.results.export_button)
        qtbot.waitUntil(table.exists, timeout=LONG)
        qtbot.waitUntil(lambda: not attention.results.exporting.busy, timeout=LONG)
        assert "VTA" in table.read_text()

    # A long job is left running, the window is closed, and the job is found again.
    click(qtbot, attention.pair.presets["GLUT"])
    qtbot.waitUntil(attention.button.isEnabled, timeout=20_000)
    noted = len(list(history.history_folder().iterdir()))
    click(qtbot, attention.button)
    qtbot.waitUntil(lambda: len(list(history.history_folder().iterdir())) > noted, timeout=LONG)
    pid = process_of(attention.run.folder)["pid"]
    assert attention.button.text() == "Cancel"
    psutil.Process(pid).suspend()  # so that it is surely still there
    viewer.close()
    QApplication.processEvents()

    again = make_napari_viewer(show=True)
    again.window.resize(1280, 800)
    with story.step("Find the job again"):
        jobs = open_panel(again, "Jobs")
        qtbot.waitUntil(lambda: jobs.model.rowCount() > noted, timeout=LONG)
    assert jobs.model.jobs[0].state == "running"
    story.picture(again, "job")
    assert psutil.pid_exists(pid)
    psutil.Process(pid).resume()
    with story.step("Open its result"):
        qtbot.waitUntil(lambda: jobs.model.jobs[0].state == "done", timeout=LONG)
        first = jobs.table.visualRect(jobs.model.index(0, 0)).center()
        qtbot.mouseClick(jobs.table.viewport(), Qt.MouseButton.LeftButton, pos=first)
        qtbot.waitUntil(jobs.open_button.isEnabled, timeout=20_000)
        click(qtbot, jobs.open_button)
        qtbot.waitUntil(lambda: "DAPI" in again.layers, timeout=LONG)

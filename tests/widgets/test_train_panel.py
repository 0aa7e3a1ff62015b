"""The Train panel and its parts without a training process: states, settings, closing, looks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QMessageBox,
    QSpinBox,
)

from napari_teramind.jobs import build_spec
from napari_teramind.training.presets import PRESETS
from napari_teramind.training.record import process_facts
from napari_teramind.widgets import train_closing, train_runs
from napari_teramind.widgets.parts import PANEL_WIDTH
from napari_teramind.widgets.train import TrainWidget
from napari_teramind.widgets.train_progress import state_words
from napari_teramind.widgets.train_results import LossPlot, Samples
from napari_teramind.widgets.train_watch import RunView, read_view

from .train_panels import LONG, hold_out_rectangle, make_small, state_of

pytestmark = pytest.mark.timeout(280)

MOST_SECONDS = 0.05


@pytest.fixture
def panel(train_panel: TrainWidget) -> TrainWidget:
    return train_panel


def write_run(folder: Path, state: str = "stopped", step: int = 3, **status: Any) -> Path:
    """Write a run folder as a training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    job = {"verb": "train", "brains": ["/nowhere.zarr"], "out": str(folder), "steps": 10}
    config = {"train": {"steps": 10}, "job": job}
    (folder / "config.json").write_text(json.dumps(config))
    values = {**process_facts(), "state": state, "step": step, "steps": 10, "loss": 0.5}
    values |= {"seconds": 60.0, "message": ""}
    (folder / "status.json").write_text(json.dumps(values | status))
    lines = [f"{n},{n * 2.0},{1 / n},0.5,0.5,1.0\n" for n in range(1, step + 1)]
    head = "step,seconds,loss,collage,shifted,gradient_norm\n"
    (folder / "metrics.csv").write_text(head + "".join(lines))
    return folder


@pytest.mark.parametrize(
    ("status", "stopping", "expected"),
    [
        ({"state": "running"}, False, "Step 3 of 10, loss 0.500. About 15 s left"),
        ({"state": "running"}, True, "Stopping after this step: step 3 of 10, loss 0.500"),
        ({"state": "finished"}, False, "Finished: 10 steps, loss 0.500, trained for 60 s."),
        ({"state": "stopped"}, False, "Stopped at step 3 of 10, loss 0.500, and saved."),
        ({"state": "running", "created": 1.0}, False, "The training process ended unexpectedly"),
        ({"state": "running", "created": 1.0}, True, "Stopped at about step 3 of 10; resuming"),
        ({"state": "failed", "message": "No room on the disk."}, False, "No room on the disk. <a"),
    ],
)
def test_every_state_is_told_in_words(tmp_path, status, stopping, expected):
    view = read_view(RunView(write_run(tmp_path / "run", **status)))
    assert state_words(view, stopping).startswith(expected)


def test_a_table_is_read_on_and_read_anew_when_it_was_cut(tmp_path):
    folder = write_run(tmp_path / "run", "running", step=2000)
    view = read_view(RunView(folder))
    assert view.table.steps == tuple(range(1, 2001))
    assert len(view.training[0]) == 1000
    assert view.training[0][0] == 1.5
    with (folder / "metrics.csv").open("a") as table:
        table.write("2001,4002,0.1,0,0,0\n2002,40")  # the last line is being written
    write_status(folder, step=2001)
    view = read_view(view)
    assert view.table.steps[-1] == 2001
    with (folder / "metrics.csv").open("a") as table:
        table.write("04,0.1,0,0,0\n")
    write_status(folder, step=2002)
    view = read_view(view)
    assert view.table.steps[-1] == 2002
    text = "".join((folder / "metrics.csv").read_text().splitlines(keepends=True)[:1001])
    (folder / "new.csv").write_text(text)
    (folder / "new.csv").replace(folder / "metrics.csv")
    write_status(folder, step=1000)
    assert read_view(view).table.steps == tuple(range(1, 1001))


def write_status(folder: Path, **values: Any) -> None:
    path = folder / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_learned_from_and_held_out(panel, tmp_path, tiny_brain, monkeypatch, qtbot):
    values = panel.values()
    assert values["brains"] == [str(panel.session.brain.path)]
    assert values["preset"] == "packaged"
    assert "Press Draw" in panel.what.hint.text()
    assert not panel.start_button.isEnabled()
    answers = [str(tmp_path), tiny_brain.path]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: answers.pop(0))
    panel.what.add_button.click()
    assert "is not a brain store" in notification_manager.records[-1].message
    panel.what.add_button.click()
    assert panel.what.brains.count() == 2
    panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData(tiny_brain.path))
    panel.what.hold_out.activated.emit(1)
    values = panel.values()
    assert values["brains"] == [str(panel.session.brain.path)]
    assert values["validation"] == [tiny_brain.path]
    assert panel.what.brains.item(1).text() == "tiny.zarr (held out)"
    assert panel.what.brains.item(1).checkState() == Qt.CheckState.Unchecked
    assert panel.start_button.isEnabled()
    panel.what.brains.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert "Tick at least one brain" in panel.what.hint.text()
    assert not panel.start_button.isEnabled()
    panel.what.brains.item(0).setCheckState(Qt.CheckState.Checked)
    hold_out_rectangle(panel, (0, 128, 128, 256))
    assert panel.values()["exclude"] == (0, 128, 128, 256)
    assert panel.values()["brains"] == [str(panel.session.brain.path), tiny_brain.path]
    learned = "Learns from 2 brains, without 13.8 µm x 13.8 µm"
    qtbot.waitUntil(lambda: learned in panel.what.hint.text(), timeout=3000)


def test_presets_and_custom_settings(panel):
    for name, preset in PRESETS.items():
        panel.how.preset.setCurrentIndex(panel.how.preset.findData(name))
        assert panel.how.preset_hint.text() == preset.text
        assert panel.how.steps.value() == preset.settings["steps"]
        assert panel.settings.channels.value() == preset.settings["channels"]
        assert "channels" not in panel.values()
    panel.settings.channels.setValue(16)
    assert panel.how.preset.currentData() == "custom"
    values = panel.values()
    assert (values["channels"], values["gene_channels"]) == (16, (64, 32, 16))
    assert values["batch"] == PRESETS["published"].settings["batch"]
    # What the panel does not show stays as in the preset that one began with.
    panel.how.preset.setCurrentIndex(0)
    assert "channels" not in panel.values()
    panel.settings.batch.setValue(2)
    assert panel.how.preset.currentData() == "custom"
    assert '"Packaged size"' in panel.how.preset_hint.text()
    spec = build_spec({**panel.values(), "verb": "train"}, "The panel").settings()
    wanted = {**PRESETS["packaged"].settings, "batch": 2}
    assert {name: spec[name] for name in wanted} == wanted


def test_an_estimate_of_time_and_memory(panel, qtbot, monkeypatch):
    panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData("nothing"))
    make_small(panel, 3000)
    panel.estimate_button.click()
    assert panel.estimate_button.text() == "Cancel"
    qtbot.waitUntil(lambda: not panel.estimating.is_going, timeout=LONG)
    words = panel.plan_label.text()
    assert words.startswith("3,000 steps, ")
    assert "GB of memory" in words
    assert "million weights, 12 genes" in words
    assert not train_runs.known_runs()
    panel.how.steps.setValue(4000)
    assert panel.plan_label.text() == "4,000 steps"
    panel.estimate_button.click()
    panel.estimate_button.click()
    assert panel.estimate_button.text() == "Estimate"
    assert panel.plan_label.text() == "4,000 steps"


def test_a_training_that_cannot_be_is_told(panel, qtbot):
    panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData("nothing"))
    make_small(panel, 10)
    panel.settings.patch.setCurrentText("128")  # its crop is as large as the brain is high
    panel.settings.init.setText("/nowhere.safetensors")
    panel.start()
    assert panel.watch is not None
    qtbot.waitUntil(lambda: panel.watch is None, timeout=LONG)
    told = notification_manager.records[-1].message
    assert told == "There is no checkpoint at /nowhere.safetensors; check the path."
    # It never began: the settings are there to be put right, and nothing is offered to resume.
    assert panel.start_button.isVisible()
    assert panel.settings.init.text() == "/nowhere.safetensors"
    assert not train_runs.known_runs()


def test_what_ended_earlier_is_no_news(panel, tmp_path, qtbot):
    for state in ("finished", "failed"):
        count = len(notification_manager.records)
        panel.show_run(write_run(tmp_path / state, state, step=10, message="The disk was full."))
        qtbot.waitUntil(lambda: panel.watch.read_once, timeout=5000)
        qtbot.wait(100)
        assert len(notification_manager.records) == count
    assert "The disk was full." in panel.progress.words.text()


def test_earlier_runs_are_offered_and_others_opened(panel, tmp_path, monkeypatch):
    run = write_run(tmp_path / "elsewhere" / "mine", "finished", step=10)
    answers = [str(tmp_path), str(run)]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: answers.pop(0))
    panel.open_button.click()
    assert "is not the folder of a training run" in notification_manager.records[-1].message
    panel.open_button.click()
    assert panel.run_choice.currentText() == "mine"
    again = TrainWidget(panel.session.viewer)
    assert [again.run_choice.itemText(i) for i in range(2)] == ["New run", "mine"]
    assert again.watch is None  # a run that is over does not stand in the way of a new one
    again.deleteLater()
    panel.run_choice.setCurrentIndex(0)
    panel.run_choice.activated.emit(0)
    assert panel.watch is None
    assert panel.start_button.isVisible()


def test_two_runs_never_share_a_folder(panel, tmp_path):
    run = write_run(tmp_path / "taken")
    panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData("nothing"))
    panel.settings.folder.setText(str(run))
    assert not panel.start_button.isEnabled()
    panel.start()
    assert "holds a run already" in notification_manager.records[-1].message
    assert panel.watch is None
    (tmp_path / "notes.txt").touch()
    for folder, words in ((tmp_path, "holds other files"), (tmp_path / "notes.txt", "is a file")):
        panel.settings.folder.setText(str(folder))
        assert not panel.start_button.isEnabled()
        assert words in panel.plan_label.text()
    brain = panel.session.brain.path
    panel.settings.folder.setText(f"{brain}/run")
    assert "lies within the store" in panel.plan_label.text()


@pytest.mark.parametrize("answer", [train_closing.STAY, train_closing.STOP, train_closing.KEEP])
def test_closing_asks_what_becomes_of_the_training(panel, tmp_path, qtbot, monkeypatch, answer):
    run = write_run(tmp_path / "run", "running")
    panel.show_run(run)
    qtbot.waitUntil(lambda: state_of(panel) == "running", timeout=5000)
    asked: list[Path] = []
    monkeypatch.setattr(train_closing, "ask", lambda _, folder: asked.append(folder) or answer)
    # The window itself is spared, as napari's own fixture wants to close it.
    assert panel.closing.eventFilter(panel.window(), QCloseEvent()) == (
        answer == train_closing.STAY
    )
    assert asked == [run]
    assert (run / "stop").exists() == (answer == train_closing.STOP)
    write_status(run, state="stopped")
    qtbot.waitUntil(lambda: state_of(panel) == "stopped", timeout=5000)
    assert not panel.closing.eventFilter(panel.window(), QCloseEvent())
    assert len(asked) == 1


def test_a_window_that_is_not_to_close_stays(panel, tmp_path, qtbot, monkeypatch):
    panel.show_run(write_run(tmp_path / "run", "running"))
    qtbot.waitUntil(lambda: state_of(panel) == "running", timeout=5000)
    monkeypatch.setattr(train_closing, "ask", lambda _, folder: train_closing.STAY)
    window = panel.window()
    window.close()
    assert window.isVisible()
    del window


def test_the_question_is_put_in_words(panel, tmp_path, qtbot):
    def answer() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox)
        told.append(box.text())
        next(b for b in box.buttons() if b.text() == train_closing.STOP).click()

    told: list[str] = []
    QTimer.singleShot(300, answer)
    assert train_closing.ask(panel.window(), tmp_path / "liver-1") == train_closing.STOP
    assert told == ["The training liver-1 is running. Shall it go on without napari?"]


def test_the_picture_shown_is_the_latest_unless_the_user_looks_back(qtbot, tmp_path):
    from PIL import Image

    samples = Samples()
    qtbot.addWidget(samples)
    samples.resize(300, 400)
    folder = write_run(tmp_path / "run")
    (folder / "samples").mkdir()
    (folder / "validation.csv").write_text(
        "step,loss,collage,shifted,psnr DAPI,ssim DAPI\n"
        "100,0.5,0.2,0.3,14.21,0.4\n"
        "200,0.4,,,15,.5\n"
    )

    def picture(step: int) -> RunView:
        image = Image.fromarray(np.full((40, 84), step % 256, np.uint8))
        image.save(folder / "samples" / f"step-{step:06d}.png")
        write_status(folder, step=step)
        view = read_view(RunView(folder))
        samples.show_view(view)
        return view

    picture(100)
    assert samples.caption.text() == "Step 100<br>DAPI: PSNR 14.2 dB, SSIM 0.40"
    picture(200)
    assert samples.caption.text().startswith("Step 200")
    samples.slider.setValue(0)
    picture(300)
    assert samples.caption.text().startswith("Step 100")
    samples.slider.setValue(2)
    picture(400)
    assert samples.caption.text().startswith("Step 400")


def test_a_long_run_is_drawn_quickly(qtbot, tmp_path):
    plot = LossPlot()
    qtbot.addWidget(plot)
    view = read_view(RunView(write_run(tmp_path / "run", step=100_000)))
    assert 700 < len(view.training[0]) <= 1500
    began = time.thread_time()
    plot.show_view(view)
    assert time.thread_time() - began < MOST_SECONDS


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_clipped_at_the_width_of_a_panel(panel, theme, tmp_path, qtbot):
    viewer = panel.session.viewer
    viewer.theme = theme
    viewer.window.resize(1280, 900)
    panel.advanced.button.setChecked(True)
    panel.parent().setFixedWidth(PANEL_WIDTH)
    qtbot.waitUntil(lambda: panel.width() <= PANEL_WIDTH, timeout=3000)
    expect_nothing_clipped(panel, qtbot)
    words = "The brain at /somewhere is smaller than a training crop of 256 px; use a smaller."
    for number, (state, more) in enumerate(
        [("failed", {}), ("running", {"created": 1.0}), ("running", {})]
    ):
        run = write_run(tmp_path / f"run-{number}", state, message=words, **more)
        panel.show_run(run)
        qtbot.waitUntil(lambda: panel.watch.read_once, timeout=5000)
        expect_nothing_clipped(panel, qtbot)
    write_status(run, state="stopped")
    os.sync()
    qtbot.waitUntil(lambda: state_of(panel) == "stopped", timeout=5000)


def expect_nothing_clipped(panel: TrainWidget, qtbot) -> None:
    qtbot.wait(100)
    kinds = (QAbstractButton, QComboBox, QSpinBox, QLabel)
    shown = [w for kind in kinds for w in panel.findChildren(kind) if w.isVisible()]
    assert len(shown) > 5
    for widget in shown:
        right = widget.mapTo(panel, widget.rect().bottomRight()).x()
        assert right < panel.width(), widget
        if isinstance(widget, QLabel) and widget.wordWrap():
            assert widget.height() >= widget.heightForWidth(widget.width()), widget.text()

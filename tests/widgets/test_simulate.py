"""The Simulate panel in a real viewer: choose, generate, watch, cancel, survive."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_teramind.brain import open_brain
from napari_teramind.widgets import results
from napari_teramind.widgets.generation import free_name
from napari_teramind.widgets.how import How
from napari_teramind.widgets.simulate import SimulateWidget
from simulations import keep_simulation

LONG = 20_000  # ms; what a started Python takes on a busy machine


def generated(viewer) -> list[str]:
    return [layer.name for layer in viewer.layers if "generated" in layer.name]


def last_message() -> str:
    return notification_manager.records[-1].message


def finished(panel: SimulateWidget) -> bool:
    return panel.session.generation is None


def test_a_generated_region_appears_in_place_and_stays(panel, small_roi, fake_job, qtbot):
    fake_job("good")
    viewer = panel.session.viewer
    viewer.layers["DAPI"].contrast_limits = (5, 99)
    before = list(viewer.layers)
    panel.how.seed.setValue(5)
    qtbot.mouseClick(panel.button, Qt.MouseButton.LeftButton)
    said: list[str] = []
    panel.session.generation.progressed.connect(lambda *_: said.append(panel.words.text()))
    assert panel.button.text() == "Cancel"
    assert panel.progress.isVisible()
    assert not panel.what.isEnabled()
    names = ["DAPI (generated, seed 5)", "PolyT (generated, seed 5)"]
    qtbot.waitUntil(lambda: generated(viewer) == names, timeout=LONG)
    assert viewer.layers.selection == {viewer.layers["ROI"]}
    preview = viewer.layers[names[0]]
    qtbot.waitUntil(lambda: np.max(preview.data) >= 20, timeout=LONG)  # renewed in place
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert "About 40 s left" in said

    assert panel.button.text() == "Generate"
    assert panel.what.isEnabled()
    assert not panel.progress.isVisible()
    assert panel.words.text().startswith("Done in ")
    result = viewer.layers[names[0]]
    assert result is preview
    np.testing.assert_array_equal(np.asarray(result.data), np.full((1, 64, 64), 77))
    np.testing.assert_allclose(result.data_to_world((0, 0, 0)), (100.0, 64 * 0.108, 100 * 0.108))
    assert result.contrast_limits == [5, 99]
    assert result.colormap.name == viewer.layers["DAPI"].colormap.name
    # Right above the stains; the user's order of the others is kept.
    assert [layer.name for layer in viewer.layers][:4] == ["DAPI", "PolyT", *names]
    assert [layer for layer in viewer.layers if layer in before] == before
    assert list(panel.session.brain.simulations) == ["seed 5, slice 1, y 64-128, x 100-164"]
    # The second time the panel knows how long it takes, and the result gets a name of its own.
    qtbot.waitUntil(
        lambda: any(word in panel.plan_label.text() for word in ("about", "few seconds")),
        timeout=LONG,
    )
    # That the same again would be the same image is said before, not after.
    twin = "This brain has this region with seed 5 already"
    assert twin in panel.plan_label.text()
    panel.how.seed.setValue(6)
    assert twin not in panel.plan_label.text()


def test_a_large_result_gets_a_layer_with_all_levels(
    panel, small_roi, fake_job, qtbot, monkeypatch
):
    monkeypatch.setattr(results, "LARGEST_PLAIN", 63)
    fake_job("good")
    viewer = panel.session.viewer
    panel.button.click()
    qtbot.waitUntil(lambda: len(generated(viewer)) == 2, timeout=LONG)
    preview = viewer.layers["DAPI (generated, seed 0)"]
    preview.name, preview.gamma = "mine", 0.7
    viewer.layers.selection = {preview}
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    result = viewer.layers["mine"]
    assert result is not preview
    assert np.max(result.data) == 77
    assert result.gamma == 0.7
    assert result in viewer.layers.selection
    assert viewer.layers.index(result) == 2


def test_the_same_again_gets_another_name(brain_copy: Path):
    brain, roi = open_brain(brain_copy), (64, 128, 100, 164)
    values = {"seed": 0, "roi": roi, "slices": (0, 2)}
    first = free_name(brain, values)
    assert first == "seed 0, slices 0-1, y 64-128, x 100-164"
    image = np.zeros((2, 2, 64, 64), np.uint8)
    keep_simulation(brain, first, image, roi=roi, slices=(0, 2), provenance={})
    assert free_name(brain, values) == f"{first} (2)"
    assert free_name(brain, {**values, "seed": 1}) == first.replace("seed 0", "seed 1")
    edited = {**values, "edits": ("Th=0",), "structures": ("SS/P: x",)}
    assert free_name(brain, edited) == f"{first}, SS-P-x, edited"


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("refuse", "The brain is on fire: put it out."),
        ("crash", "The job ended unexpectedly"),
        ("garbage", "The job ended unexpectedly (exit code 3)"),
    ],
)
def test_a_failure_is_told_in_a_sentence(panel, small_roi, fake_job, qtbot, behaviour, expected):
    fake_job(behaviour)
    panel.button.click()
    folder = panel.session.generation._job.folder
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert panel.words.text().startswith(expected)
    assert last_message().startswith(expected)
    assert "\n" not in last_message()
    assert generated(panel.session.viewer) == []
    assert panel.button.text() == "Generate"
    assert panel.button.isEnabled()
    # What died unexpectedly keeps its log.
    assert (folder / "log.txt").exists() == (behaviour != "refuse")


def test_a_job_killed_from_outside_leaves_a_clear_state(panel, small_roi, fake_job, qtbot):
    fake_job("slow")
    panel.button.click()
    qtbot.waitUntil(lambda: panel.words.text() == "About 4 min left", timeout=LONG)
    os.kill(panel.session.generation.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert "ended unexpectedly" in panel.words.text()
    assert generated(panel.session.viewer) == []


def test_cancel_ends_the_job_and_removes_the_preview(panel, small_roi, fake_job, qtbot):
    fake_job("slow")
    viewer = panel.session.viewer
    panel.button.click()
    generation = panel.session.generation
    qtbot.waitUntil(lambda: len(generated(viewer)) == 2, timeout=LONG)
    panel.button.click()
    assert panel.words.text() == "Cancelling"
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert panel.words.text() == "Cancelled."
    assert generated(viewer) == []
    assert list(panel.session.brain.simulations) == []
    qtbot.waitUntil(lambda: not psutil.pid_exists(generation.pid), timeout=LONG)
    qtbot.waitUntil(lambda: not generation._job.folder.exists(), timeout=LONG)


def test_layers_removed_and_renamed_during_a_run(panel, small_roi, fake_job, qtbot):
    fake_job("good")
    viewer = panel.session.viewer
    panel.button.click()
    qtbot.waitUntil(lambda: len(generated(viewer)) == 2, timeout=LONG)
    viewer.layers.remove("PolyT (generated, seed 0)")
    preview = viewer.layers["DAPI (generated, seed 0)"]
    preview.name, preview.opacity = "mine", 0.5
    viewer.layers.remove("PolyT")
    viewer.layers["DAPI"].name = "nuclei"
    viewer.layers.remove("ROI")
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert panel.words.text().startswith("Done in ")
    assert generated(viewer) == []
    assert viewer.layers["mine"].opacity == 0.5
    assert np.asarray(viewer.layers["mine"].data).max() == 77


def test_all_layers_cleared_during_a_run(panel, small_roi, fake_job, qtbot):
    fake_job("good")
    viewer, brain = panel.session.viewer, panel.session.brain
    panel.button.click()
    qtbot.waitUntil(lambda: len(generated(viewer)) == 2, timeout=LONG)
    viewer.layers.clear()
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert len(viewer.layers) == 0
    assert len(brain.simulations) == 1
    assert panel.empty.isVisibleTo(panel)


@pytest.mark.parametrize("behaviour", ["slow", "deaf"])
def test_a_viewer_closed_during_a_run_takes_the_job_with_it(
    panel, small_roi, fake_job, qtbot, behaviour
):
    fake_job(behaviour)
    viewer = panel.session.viewer
    panel.button.click()
    job = psutil.Process(panel.session.generation.pid)
    qtbot.waitUntil(lambda: len(generated(viewer)) == 2, timeout=LONG)
    viewer.close()
    qtbot.waitUntil(lambda: not job.is_running() or job.status() == "zombie", timeout=LONG)


def test_a_panel_closed_during_a_run_is_found_again(panel, small_roi, fake_job, qtbot):
    fake_job("slow")
    viewer = panel.session.viewer
    panel.button.click()
    qtbot.waitUntil(lambda: panel.words.text() == "About 4 min left", timeout=LONG)
    session = panel.session
    viewer.window.remove_dock_widget(panel)
    again = SimulateWidget(viewer)
    qtbot.addWidget(again)
    assert again.session is session
    assert again.button.text() == "Cancel"
    assert again.words.text() == "About 4 min left"
    again.button.click()
    assert again.words.text() == "Cancelling"
    qtbot.waitUntil(lambda: session.generation is None, timeout=LONG)


@pytest.mark.skipif(os.name == "nt", reason="stands in for the driver's tool with a shell script")
def test_gpus_are_offered_by_name_when_the_driver_has_answered(qtbot, tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nsleep 1\necho 'Quadro X, 4000 MiB'\necho 'Quadro Y, 70 MiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    began = time.monotonic()
    how = How()
    qtbot.addWidget(how)
    assert time.monotonic() - began < 1
    assert how.device.findData("cuda:0") < 0
    qtbot.waitUntil(lambda: how.device.findData("cuda:1") > 0, timeout=LONG)
    assert how.device.itemText(how.device.findData("cuda:0")) == "Quadro X, 4000 MiB free"
    assert how.values()["device"] == "auto"


def test_keys_generate_and_cancel_and_show_the_real_stains(panel, draw, fake_job, qtbot):
    fake_job("slow")
    viewer = panel.session.viewer
    canvas = viewer.window._qt_viewer.canvas.native
    draw(panel, (0, 64, 0, 64))
    viewer.layers.selection.active = viewer.layers["DAPI"]
    qtbot.keyClick(canvas, Qt.Key.Key_G)
    assert panel.session.region.from_view
    assert panel.session.generation is not None
    qtbot.waitUntil(lambda: len(generated(viewer)) == 2, timeout=LONG)
    layer = viewer.layers["DAPI (generated, seed 0)"]
    qtbot.keyPress(canvas, Qt.Key.Key_Q)
    assert not layer.visible
    qtbot.keyRelease(canvas, Qt.Key.Key_Q)
    assert layer.visible
    qtbot.keyClick(canvas, Qt.Key.Key_G, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert panel.words.text() == "Cancelled."


def test_a_tiny_network_generates_a_region_of_a_tiny_brain(
    make_napari_viewer, brain_copy: Path, tiny_checkpoint: Path, draw, qtbot, monkeypatch
):
    """The whole way, with the real job, where no network came with the package."""
    monkeypatch.setattr("napari_teramind.widgets.checkpoints.packaged_path", lambda: None)
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Simulate")
    assert panel.empty.isVisibleTo(panel)
    viewer.open(str(brain_copy), plugin="napari-teramind")
    assert not panel.empty.isVisibleTo(panel)
    assert "No checkpoint yet" in panel.what.hint.text()
    assert not panel.button.isEnabled()
    panel.session.checkpoints.choose(str(tiny_checkpoint))
    assert panel.what.hint.text() == "Looking at the checkpoint ..."
    qtbot.waitUntil(lambda: panel.session.checkpoints.facts() is not None, timeout=60_000)
    assert panel.what.genes_choice.isVisible()
    draw(panel, (40, 100, 50, 120))
    panel.how.steps.setValue(2)
    panel.how.halo.setCurrentIndex(0)
    # How long it takes is told before the first run.
    words = panel.plan_label.text
    qtbot.waitUntil(lambda: words().endswith("measuring how long it takes ..."), timeout=5000)
    qtbot.waitUntil(lambda: "about" in words() or "seconds" in words(), timeout=60_000)
    panel.button.click()
    qtbot.waitUntil(lambda: len(generated(viewer)) == 2, timeout=60_000)
    qtbot.waitUntil(lambda: finished(panel), timeout=60_000)
    assert panel.words.text().startswith("Done in ")
    (name,) = open_brain(brain_copy).simulations
    image = open_brain(brain_copy).simulations[name]
    assert image.provenance["steps"] == 2
    for stain, layer in enumerate(generated(viewer)):
        np.testing.assert_array_equal(np.asarray(viewer.layers[layer].data), image.levels[0][stain])
    assert image.shape == (2, 1, 60, 70)

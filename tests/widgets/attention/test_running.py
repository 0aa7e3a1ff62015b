"""The Attention panel in a real viewer: pair, where, failures, cancelling, outliving."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
)

from napari_teramind.jobs.detached import process_of
from napari_teramind.plugin.layers import gene_layer
from napari_teramind.widgets.attention import AttentionWidget

from .panels import LONG, PAIR, alive, finished, last_message, type_pair

pytestmark = pytest.mark.timeout(280)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("Th", "", "Choose two genes"),
        ("Th", "th", "The pair Th-Th names one gene twice"),
        ("Th", "Nr4a", "lacks 'Nr4a' (did you mean Nr4a2"),
        ("Xyz", "Th", "lacks 'Xyz'"),
    ],
)
def test_pairs_that_cannot_be_are_told(panel, qtbot, first, second, words):
    type_pair(qtbot, panel, first, second)
    assert words in panel.plan_label.text()
    assert "\n" not in panel.plan_label.text()
    assert not panel.button.isEnabled()
    panel.compute()
    assert words in last_message()
    assert panel.run is None


def test_genes_are_found_in_any_case(panel, qtbot):
    type_pair(qtbot, panel, "nr4A2", "TH")
    assert (panel.pair.first.text(), panel.pair.second.text()) == PAIR
    assert panel.problem() == ""
    assert panel.pair.first.font().italic()


def test_the_key_takes_the_two_selected_genes(panel, slow_job, qtbot):
    viewer = panel.session.viewer
    brain = panel.session.brain
    layers = [viewer.add_layer(Layer.create(*gene_layer(brain, gene))) for gene in PAIR]
    canvas = viewer.window._qt_viewer.canvas.native

    def press() -> None:
        viewer.window.activate()
        canvas.setFocus()
        qtbot.keyClick(canvas, Qt.Key.Key_A)

    viewer.layers.selection = {layers[0], viewer.layers["DAPI"]}
    press()
    assert "Select the layers of two genes first" in last_message()
    assert panel.run is None
    viewer.layers.selection = set(layers)
    press()
    qtbot.waitUntil(lambda: panel.run is not None, timeout=LONG)
    assert panel.run.fields["pairs"] == [PAIR]
    press()
    assert "being computed already" in last_message()


def test_a_preset_that_the_panel_lacks_cannot_be_chosen(real_panel):
    assert real_panel.pair.presets["DOPA"].isEnabled()
    blood = real_panel.pair.presets["BLOD"]  # that network knows neither Cldn5 nor Aqp4
    assert not blood.isEnabled()
    assert "lacks Cldn5 and Aqp4" in blood.toolTip()


def test_where_to_compute(panel, qtbot, draw):
    panel.pair.choose(PAIR)
    where = panel.where
    assert panel.values()["roi"] is panel.values()["structures"] is None
    where.choice.setCurrentIndex(1)
    assert "Name a structure by its acronym" in panel.plan_label.text()
    qtbot.waitUntil(lambda: panel.session.structures.own is not None, timeout=LONG)
    qtbot.keyClicks(where.acronyms, "TH, VTA")
    assert "No structure has the acronym 'VTA'" in panel.plan_label.text()
    assert not panel.button.isEnabled()
    where.acronyms.setText("TH, CP")
    assert panel.values()["structures"] == ["TH", "CP"]
    assert where.found.text() == "Thalamus, Caudoputamen"
    assert panel.plan_label.text().startswith("The bins of TH, CP in 4 slices, 3 maps")
    assert panel.values()["name"] == "Nr4a2-Th, TH CP"
    where.choice.setCurrentIndex(2)
    draw(SimpleNamespace(where=where, session=panel.session), (64, 128, 100, 164))
    qtbot.waitUntil(lambda: panel.values()["roi"] == (64, 128, 100, 164), timeout=3000)
    assert panel.values()["slices"] == (1, 2)
    words = "4 x 5 bins x 1 slice, 3 maps"
    qtbot.waitUntil(lambda: panel.plan_label.text().startswith(words), timeout=3000)
    for box in panel.maps.values():
        box.setChecked(False)
    assert panel.plan_label.text() == "Tick at least one map under Advanced."


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [("refuse", "The brain is on fire: put it out."), ("crash", "The job ended unexpectedly")],
)
def test_a_failure_is_told_in_a_sentence(panel, fake_job, qtbot, behaviour, expected):
    fake_job(behaviour)
    panel.pair.choose(PAIR)
    panel.button.click()
    folder = panel.run.folder
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert panel.words.text().startswith(expected)
    assert last_message().startswith(expected)
    assert "\n" not in last_message()
    assert panel.button.text() == "Compute attention"
    # What died unexpectedly keeps its log.
    assert (folder / "log.txt").exists() == (behaviour == "crash")


def test_progress_is_shown_and_cancelling_ends_the_job(panel, slow_job, qtbot):
    panel.pair.choose(PAIR)
    panel.button.click()
    pid = process_of(panel.run.folder)["pid"]
    qtbot.waitUntil(lambda: panel.words.text() == "Thinking: about 4 min left", timeout=LONG)
    assert (panel.progress.value(), panel.progress.maximum()) == (1, 9)
    assert panel.plan_label.text().startswith("16 x 24 bins")
    qtbot.mouseClick(panel.button, Qt.MouseButton.LeftButton)
    assert panel.words.text() == "Cancelling"
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert panel.words.text() == "Cancelled. The same again goes on where this one was."
    qtbot.waitUntil(lambda: not alive(pid), timeout=LONG)


def test_a_run_outlives_the_window_and_is_found_again(
    make_panel, known_checkpoint, slow_job, qtbot
):
    panel = make_panel()
    panel.pair.choose(PAIR)
    panel.button.click()
    folder = panel.run.folder
    qtbot.waitUntil(lambda: panel.words.text().startswith("Thinking"), timeout=LONG)
    panel.session.viewer.close()
    QApplication.processEvents()
    assert alive(process_of(folder)["pid"])
    again = make_panel()
    assert again.run is not None
    assert again.run.folder == folder
    assert again.button.text() == "Cancel"
    qtbot.waitUntil(lambda: again.words.text().startswith("Thinking"), timeout=LONG)
    again.button.click()
    qtbot.waitUntil(lambda: finished(again), timeout=LONG)
    assert again.words.text().startswith("Cancelled.")


def test_no_brain_teaches(make_napari_viewer):
    viewer = make_napari_viewer()
    panel = AttentionWidget(viewer)
    assert panel.empty.isVisibleTo(panel)
    panel.deleteLater()

"""Panels as a whole: empty states, checkpoints, layout, two viewers, what is remembered."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDockWidget,
    QFileDialog,
    QLabel,
    QLineEdit,
    QMainWindow,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.model import ModelConfig
from napari_teramind.plugin.contents import read_contents
from napari_teramind.plugin.layers import gene_layer
from napari_teramind.widgets.brain import BrainWidget
from napari_teramind.widgets.checkpoints import Checkpoints, Facts
from napari_teramind.widgets.keys import CANCEL, DRAW, GENERATE, SHOW_REAL, UNEDITED
from napari_teramind.widgets.parts import PANEL_WIDTH, PathChoice, Scrolling, micrometers
from napari_teramind.widgets.plan import plan_words
from napari_teramind.widgets.session import session_of
from napari_teramind.widgets.simulate import SimulateWidget
from simulations import keep_simulation

from .hands import add_brain

FACTS = Facts(ModelConfig(genes=12, channels=4, time_channels=32), None)
FIELDS = (QAbstractButton, QComboBox, QSpinBox, QLineEdit)

LONG = 30_000


@pytest.fixture
def brain_panel(make_napari_viewer, tiny_brain: BrainStore) -> BrainWidget:
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Brain")
    add_brain(viewer, tiny_brain.path)
    return panel


def test_without_a_brain_a_panel_says_what_to_do(
    make_napari_viewer, tiny_brain, monkeypatch, qtbot
):
    viewer = make_napari_viewer()
    panel = SimulateWidget(viewer)
    assert panel.empty.isVisibleTo(panel)
    texts = [label.text() for label in panel.empty.findChildren(QLabel)]
    assert "Open a brain, or try the phantom" in texts[0]
    choice = [str(Path(tiny_brain.path).parent), tiny_brain.path]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: choice.pop(0))
    told = len(notification_manager.records)
    panel.empty.open_button.click()
    qtbot.waitUntil(lambda: len(notification_manager.records) > told, timeout=LONG)
    assert "choose a brain made by" in notification_manager.records[-1].message
    assert len(viewer.layers) == 0
    panel.empty.open_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=LONG)
    assert not panel.empty.isVisibleTo(panel)
    assert panel.what.brain_choice.currentText() == "tiny.zarr"
    viewer.layers.clear()
    assert panel.empty.isVisibleTo(panel)
    panel.deleteLater()


def test_two_viewers_have_two_sessions(make_napari_viewer, brain_copy, tiny_brain):
    one, two = make_napari_viewer(), make_napari_viewer()
    add_brain(one, brain_copy)
    panel, other = SimulateWidget(one), SimulateWidget(two)
    assert session_of(one) is panel.session is not other.session
    assert other.session.brain_path is None
    assert other.empty.isVisibleTo(other)
    # Two brains in one viewer: the panels are about the one that was chosen.
    add_brain(one, tiny_brain.path)
    assert panel.what.brain_choice.count() == 2
    assert panel.session.brain.path == str(brain_copy)
    panel.session.choose_brain(panel.session.brains()[1])
    assert panel.what.brain_choice.currentIndex() == 1
    assert panel.session.brain.path == tiny_brain.path
    for widget in (panel, other):
        widget.deleteLater()


def test_a_brain_is_known_by_its_layers_metadata_not_by_names(panel):
    viewer = panel.session.viewer
    viewer.layers.append(Layer.create(*gene_layer(panel.session.brain, "Th")))
    viewer.layers["DAPI"].name = "blue"
    viewer.layers.remove("PolyT")
    viewer.dims.set_point(0, 200)
    region = panel.session.region
    before = region.roi(), region.slices
    assert before[0] is not None
    assert before[1] == (2, 3)
    viewer.layers.remove("blue")
    assert (region.roi(), region.slices) == before  # by the brain's own word where it lies
    viewer.layers.remove("Th")
    assert panel.session.brain is None


def test_the_last_checkpoint_is_chosen_again(panel, known_checkpoint, tmp_path):
    assert panel.session.checkpoints.current == str(known_checkpoint)
    other = tmp_path / "other.safetensors"
    other.touch()
    panel.session.checkpoints.choose(str(other))
    assert panel.what.checkpoint_choice.currentText() == "other"
    again = SimulateWidget(panel.session.viewer)
    assert again.what.checkpoint_choice.currentText() == "other"
    other.unlink()
    assert Checkpoints().current == str(known_checkpoint)
    again.deleteLater()


def test_a_checkpoint_that_does_not_fit_is_told(panel, monkeypatch, tmp_path):
    checkpoints = panel.session.checkpoints
    genes = panel.session.brain.gene_names

    def fact(named: tuple[str, ...] | None = None, **changes: int) -> str:
        facts = Facts(replace(FACTS.config, **changes), named)
        monkeypatch.setattr(type(checkpoints), "facts", lambda self: facts)
        checkpoints.changed.emit()
        assert panel.button.isEnabled() == (panel.what.hint.text() == "")
        return panel.what.hint.text()

    assert fact() == ""
    assert fact(genes) == ""
    assert "makes 3 stains, and the brain has 2 (DAPI, PolyT)" in fact(stains=3)
    lacking = fact(("Th", "Xyz1", "Xyz2"), genes=3)
    assert "lacks 2 of the 3 genes of this checkpoint (Xyz1, Xyz2)" in lacking
    assert "does not say which 20 genes" in fact(genes=20)
    (tmp_path / "panel.csv").write_text("gene\nTh\n")
    monkeypatch.setattr(
        QFileDialog, "getOpenFileName", lambda *a: (str(tmp_path / "panel.csv"), "")
    )
    panel.what.genes_button.click()
    assert panel.what.hint.text() == ""
    assert panel.values()["genes"] == str(tmp_path / "panel.csv")


def test_a_broken_checkpoint_is_told(make_napari_viewer, tiny_brain, tmp_path, fake_job, qtbot):
    fake_job("refuse")
    viewer = make_napari_viewer()
    add_brain(viewer, tiny_brain.path)
    panel = SimulateWidget(viewer)
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    panel.session.checkpoints.choose(str(tmp_path / "broken.safetensors"))
    assert panel.what.hint.text() == "Looking at the checkpoint ..."
    qtbot.waitUntil(lambda: "on fire" in panel.what.hint.text(), timeout=20_000)
    assert not panel.button.isEnabled()
    (tmp_path / "broken.safetensors").unlink()
    panel.session.checkpoints.changed.emit()
    assert panel.what.hint.text().endswith("is gone: choose another checkpoint.")
    panel.deleteLater()


def test_a_brain_that_cannot_keep_results_is_told(panel, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    panel.session.checkpoints.changed.emit()
    assert "cannot be written to: copy it" in panel.what.hint.text()
    assert not panel.button.isEnabled()


def test_a_brain_whose_folder_has_gone_is_told_once(make_napari_viewer, brain_copy):
    viewer = make_napari_viewer()
    add_brain(viewer, brain_copy)
    shutil.rmtree(brain_copy)
    told = len(notification_manager.records)
    panel = SimulateWidget(viewer)
    assert [n.message for n in notification_manager.records][told:] == [
        f"There is no brain at {brain_copy}: check the path."
    ]
    assert panel.empty.isVisibleTo(panel)
    panel.deleteLater()


def test_a_brain_that_goes_under_the_viewer_is_told(panel, brain_copy, qtbot):
    viewer = panel.session.viewer
    _, brain_panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Brain")
    _, attention = viewer.window.add_plugin_dock_widget("napari-teramind", "Attention")
    shutil.rmtree(brain_copy)
    expected = f"The brain at {brain_copy} is no longer there; open it again."
    layers = len(viewer.layers)
    qtbot.keyClicks(brain_panel.gene, "Pvalb")
    brain_panel.show_button.click()
    assert notification_manager.records[-1].message == expected
    assert len(viewer.layers) == layers
    assert brain_panel.answer.text() == ""
    attention.pair.choose(("Nr4a2", "Th"))
    assert attention.plan_label.text() == expected
    assert not attention.button.isEnabled()
    panel.session.checkpoints.changed.emit()
    assert panel.what.hint.text() == expected


def test_our_keys_are_not_napari_s():
    theirs = {str(key) for keys in default_shortcuts.values() for key in keys}
    ours = (GENERATE, CANCEL, DRAW, SHOW_REAL, UNEDITED)
    assert theirs.isdisjoint(key.replace("-", "+") for key in ours)
    assert "Space" in theirs


def shown(panel: QWidget, kinds: type | tuple[type, ...]) -> list[QWidget]:
    return [w for w in panel.findChildren(QWidget) if isinstance(w, kinds) and w.isVisible()]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_clipped_at_the_width_of_a_panel(panel, theme, qtbot):
    viewer = panel.session.viewer
    viewer.theme = theme
    viewer.window.resize(1280, 800)
    panel.advanced.button.setChecked(True)
    panel.words.setText("About 4 min left")
    panel.progress.setVisible(True)
    panel.session.checkpoints.changed.emit()
    for label in (panel.what.genes_label, panel.what.genes_choice, panel.what.genes_button):
        label.setVisible(True)
    dock = panel.parent()
    dock.setFixedWidth(PANEL_WIDTH)
    qtbot.waitUntil(lambda: panel.width() <= PANEL_WIDTH, timeout=3000)
    qtbot.wait(50)
    for widget in shown(panel, (QAbstractButton, QComboBox, QSpinBox, QLabel)):
        right = widget.mapTo(panel, widget.rect().bottomRight()).x()
        assert right < panel.width(), widget
        if isinstance(widget, QLabel) and widget.wordWrap():
            assert widget.height() >= widget.heightForWidth(widget.width()), widget.text()
        elif isinstance(widget, QSpinBox):
            digits = widget.fontMetrics().horizontalAdvance(widget.text())
            assert widget.lineEdit().width() >= digits + 4, widget
        else:
            assert widget.width() >= widget.minimumSizeHint().width(), widget


def test_a_panel_grows_with_what_is_shown_in_it(qtbot):
    window, dock, content = QMainWindow(), QDockWidget(), QWidget()
    qtbot.addWidget(window)
    wide = QLabel("wide")
    wide.setMinimumWidth(PANEL_WIDTH + 80)
    wide.hide()
    QVBoxLayout(content).addWidget(wide)
    scroll = Scrolling(content)
    dock.setWidget(scroll)
    window.setCentralWidget(QWidget())
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.resize(1000, 400)
    window.show()
    qtbot.waitUntil(scroll.isVisible)
    assert scroll.width() <= PANEL_WIDTH + 20
    wide.show()
    qtbot.waitUntil(lambda: scroll.viewport().width() >= PANEL_WIDTH + 80, timeout=3000)


def test_the_tab_key_goes_down_the_panel(panel):
    panel.advanced.button.setChecked(True)
    order, widget = [], panel.what.brain_choice
    wanted = shown(panel, FIELDS)
    for _ in range(200):
        if widget in wanted and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            if widget in order:
                break
            order.append(widget)
        widget = widget.nextInFocusChain()
        if not panel.isAncestorOf(widget):
            break  # PySide6 would keep each part of napari's window that is looked at
    places = [w.mapTo(panel, w.rect().center()) for w in order]
    rows = [(p.y() // 12, p.x()) for p in places]
    assert rows == sorted(rows)
    assert order[-1] is panel.button
    assert len(order) >= 10


def test_genes_are_found_and_shown(brain_panel, qtbot, tiny_brain, tiny_arrays):
    viewer = brain_panel.session.viewer
    assert "Th" not in viewer.layers
    qtbot.keyClicks(brain_panel.gene, "th")
    qtbot.keyClick(brain_panel.gene, Qt.Key.Key_Return)
    assert viewer.layers["Th"].visible
    assert viewer.layers.selection.active is viewer.layers["Th"]
    assert "<i>Th</i>" in brain_panel.answer.text()
    qtbot.keyClicks(brain_panel.gene, "Pvalb")
    brain_panel.show_button.click()
    # Above the other genes and under the structures.
    assert [layer.name for layer in viewer.layers][-3:] == ["Th", "Pvalb", "structures"]
    assert viewer.layers["Pvalb"].colormap.name != viewer.layers["Th"].colormap.name
    qtbot.keyClicks(brain_panel.gene, "Pvlab")
    qtbot.keyClick(brain_panel.gene, Qt.Key.Key_Return)
    assert brain_panel.answer.text().startswith("This brain has no gene Pvlab; did you mean")
    # What was typed is shown as it is, never as HTML.
    brain_panel.gene.setText("<b>x")
    brain_panel.show_button.click()
    shown = QTextDocument()
    shown.setHtml(brain_panel.answer.text())
    assert brain_panel.answer.textFormat() == Qt.TextFormat.RichText
    assert shown.toPlainText() == "This brain has no gene <b>x."
    assert len(viewer.layers) == 5
    assert "4 slices of 27.6 µm x 41.5 µm" in brain_panel.facts.text()
    assert "12 genes, structures" in brain_panel.facts.text()
    world = (100.0, 6 * 1.728 + 0.81, 7 * 1.728 + 0.81)
    viewer.dims.set_point(0, 100)
    found = viewer.layers["Pvalb"].get_value(world, world=True)
    assert found == tiny_arrays[1][11, 1, 6, 7]


def test_the_plan_is_told_in_words(tiny_brain):
    how = {"steps": 15, "halo": 0, "replicates": 1}
    line = [tiny_brain, (0, 128, 0, 384), (0, 2)]
    assert plan_words(*line, None, how, 1.0) == "128 x 384 px x 2 slices"
    unknown = plan_words(*line, FACTS, how, None)
    assert re.fullmatch(
        r"128 x 384 px x 2 slices, [\d.]+ MB of memory, 262 kB on disk; .* known after the first "
        r"time",
        unknown,
    )
    # 2 x 6 patches, 15 steps.
    assert plan_words(*line, FACTS, how, 0.1).endswith(", about 20 s")
    many = plan_words(*line, FACTS, {**how, "replicates": 3}, 0.1)
    assert re.search("3 samples, .*, 1.31 MB on disk, about 55 s$", many)


def test_a_plan_that_cannot_be_is_left_to_the_panel(tiny_brain):
    line = [
        tiny_brain,
        (0, 128, 0, 384),
        (0, 2),
        FACTS,
        {"steps": 499, "halo": 0, "replicates": 1},
        1.0,
    ]
    assert plan_words(*line) == "128 x 384 px x 2 slices"


def test_names_of_paths_are_short_and_tell_doubles_apart(qtbot):
    choice = PathChoice()
    qtbot.addWidget(choice)
    long = "/one/a_very_long_name_of_a_checkpoint.safetensors"
    paths = ["/one/last.safetensors", "/two/last.safetensors", "/one/old.ckpt", long]
    choice.show_paths(paths, "/one/old.ckpt")
    assert [choice.itemText(i) for i in range(4)] == [
        "last (one)",
        "last (two)",
        "old.ckpt",
        "a_very_long_n...kpoint",
    ]
    assert choice.currentData() == choice.toolTip() == "/one/old.ckpt"


def test_lengths_are_told_as_people_say_them():
    assert [micrometers(n, 0.108) for n in (512, 9000, 12_000, 105_984)] == [
        "55.3 µm",
        "972 µm",
        "1.3 mm",
        "11.4 mm",
    ]


def test_a_result_of_an_earlier_session_is_listed_hidden(make_napari_viewer, brain_copy):
    image = np.full((2, 1, 64, 64), 9, np.uint8)
    brain = open_brain(brain_copy)
    keep_simulation(brain, "old", image, roi=(0, 64, 0, 64), slices=(0, 1), provenance={"seed": 3})
    viewer = make_napari_viewer()
    add_brain(viewer, brain_copy)
    assert not viewer.layers["DAPI (generated, seed 3)"].visible
    panel = BrainWidget(viewer)
    assert [item.name for item in read_contents(str(brain_copy)) if item.kind == "simulation"]
    panel.deleteLater()

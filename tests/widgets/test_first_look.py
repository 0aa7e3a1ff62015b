"""What somebody sees who opens the panels for the first time: lists, names, tooltips, messages."""

from __future__ import annotations

import gc
import shutil

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QTabBar

from napari_teramind.atlas import Structure
from napari_teramind.plugin.attention import View, layer_name
from napari_teramind.training.record import CONFIG
from napari_teramind.widgets.attention_plots import TrendPlot
from napari_teramind.widgets.attention_table import Row
from napari_teramind.widgets.edits import GeneEdits
from napari_teramind.widgets.parts import PANEL_WIDTH, Foldable, Scrolling


def type_into(field: QLineEdit, qtbot, text: str) -> None:
    """Type into a field of the window that is in front."""
    window = field.window()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=5000)
    field.setFocus()
    qtbot.waitUntil(field.hasFocus, timeout=5000)
    qtbot.keyClicks(field, text)


def test_the_list_of_what_may_be_meant_looks_like_napari(panel, qtbot):
    edits: GeneEdits = panel.edits
    panel.edit_part.button.setChecked(True)
    edits.show_panel(["Slc17a6", "Slc17a7", "Th"])
    gc.collect()
    type_into(edits.gene, qtbot, "slc")
    popup = edits.gene.completer().popup()
    qtbot.waitUntil(popup.isVisible, timeout=5000)
    # A light list in a dark window, if the theme did not reach it.
    qtbot.waitUntil(lambda: popup.palette().base().color().lightness() < 128, timeout=3000)
    popup.hide()


def test_a_shape_outside_the_brain_is_told_from_none(panel, draw):
    where = panel.where.where
    where.rectangle_button.click()
    assert where.size_label.text() == "Press Draw and drag over the brain"
    draw(panel, (-400, -300, -400, -300))
    panel.session.region.changed.emit()
    assert where.size_label.text() == "Outside the brain"
    assert panel.plan_label.text().startswith("Nothing of the brain lies in what you drew")
    assert not panel.button.isEnabled()
    draw(panel, (64, 128, 100, 164))
    panel.session.region.changed.emit()
    assert panel.button.isEnabled()


@pytest.mark.parametrize("name", ["Brain", "Simulate", "Attention", "Atlas", "Train"])
def test_every_button_says_what_it_does(panel, name, own_runs, qtbot):
    viewer = panel.session.viewer
    _, docked = viewer.window.add_plugin_dock_widget("napari-teramind", name)
    qtbot.waitUntil(lambda: not docked.visibleRegion().isEmpty(), timeout=5000)
    for part in docked.findChildren(Foldable):
        part.button.setChecked(True)
    parts = docked.findChildren(QAbstractButton) + docked.findChildren(QComboBox)
    mute = [part for part in parts if part.isVisibleTo(docked) and not part.toolTip()]
    assert [getattr(part, "text", part.objectName)() for part in mute] == []


def test_what_cannot_be_opened_stays_to_be_mended(panel, tmp_path, qtbot):
    _, brain_panel = panel.session.viewer.window.add_plugin_dock_widget("napari-teramind", "Brain")
    field = brain_panel.opening
    field.address.setText(str(tmp_path / "nothing.zarr"))
    field.button.click()
    qtbot.waitUntil(field.button.isEnabled, timeout=20_000)
    assert field.address.text() == str(tmp_path / "nothing.zarr")
    shutil.copytree(panel.session.brain.path, tmp_path / "nothing.zarr")
    field.button.click()
    qtbot.waitUntil(field.button.isEnabled, timeout=20_000)
    assert field.address.text() == ""
    assert len(panel.session.brains()) == 2


def test_layers_of_attention_name_the_pair_once():
    view = View(("Nr4a2", "Th"), "ensemble", "attention")
    assert layer_name(view, "Nr4a2-Th") == "Nr4a2-Th attention"
    assert layer_name(view, "Nr4a2-Th, SNc") == "Nr4a2-Th attention, SNc"
    assert layer_name(view, "Nr4a2-Th (2)") == "Nr4a2-Th attention (2)"
    assert layer_name(view, "Nr4a2-Th2") == "Nr4a2-Th attention, Nr4a2-Th2"
    assert layer_name(view, "of mine") == "Nr4a2-Th attention, of mine"


def test_tabs_can_be_read_when_all_panels_are_open(panel, own_runs, qtbot):
    window = panel.session.viewer.window
    names = ["Simulate", "Brain", "Attention", "Atlas", "Train", "Jobs"]
    for name in names[1:]:
        dock, docked = window.add_plugin_dock_widget("napari-teramind", name)
        qtbot.waitUntil(lambda docked=docked: not docked.visibleRegion().isEmpty(), timeout=5000)
    assert dock.toggleViewAction().text() == "Jobs (napari-teramind)"
    main = dock.parentWidget()

    def tabs() -> list[str]:
        bars = [bar for bar in main.findChildren(QTabBar) if bar.isVisible()]
        return [bar.tabText(i) for bar in bars for i in range(bar.count())]

    qtbot.waitUntil(lambda: tabs() == names, timeout=5000)


def test_the_simulate_panel_needs_no_more_width_than_a_panel_has(panel):
    assert panel.minimumSizeHint().width() <= PANEL_WIDTH


def test_a_structure_that_is_called_as_its_acronym_is_named_once():
    assert Structure(997, "root", "root", "FFFFFF", None).title == "root"
    assert Structure(672, "CP", "Caudoputamen", "98D6F9", 997).title == "CP - Caudoputamen"
    assert Row(1, 1009, "fiber tracts", "fiber tracts", 100, 0.1, 2.0).cells[1] == "fiber tracts"


def test_the_label_below_the_trend_is_not_cut_off(qtbot):
    trend = TrendPlot(None)
    qtbot.addWidget(trend)
    line = {"expression": [0, 1, 2], "mean": [1, 2, 3], "std": [0.1, 0.1, 0.1]}
    trend.show_trend({"line": line, "pearson": 0.9, "bins": 3})
    trend.resize(PANEL_WIDTH, 220)
    with qtbot.waitExposed(trend):
        trend.show()
    label = trend.plot.getAxis("bottom").label

    def room() -> float:
        bottom = label.mapRectToScene(label.boundingRect()).bottom()
        return trend.plot.sceneRect().bottom() - bottom

    qtbot.waitUntil(lambda: room() >= 0, timeout=3000)


def test_the_tab_key_stops_at_nothing_that_cannot_be_used(panel):
    for part in panel.findChildren(Scrolling):
        assert part.focusPolicy() == Qt.FocusPolicy.NoFocus


def test_why_training_cannot_start_can_be_read(train_panel, tmp_path):
    train_panel.what.hold_out.setCurrentIndex(train_panel.what.hold_out.findData("nothing"))
    train_panel.what.hold_out.activated.emit(train_panel.what.hold_out.currentIndex())
    assert train_panel.plan_label.text().endswith(" steps")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / CONFIG).touch()
    train_panel.settings.folder.setText(str(tmp_path / "old"))
    assert not train_panel.start_button.isEnabled()
    assert "holds a run already: choose another folder" in train_panel.plan_label.text()

"""Results of the Attention panel in a real viewer: table, layers, relief, export."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
)

from napari_teramind.attention.display import displayed_attention, smoothed
from napari_teramind.plugin.attention import View, attention_layer, views
from napari_teramind.plugin.layers import tag_of
from napari_teramind.widgets.attention import AttentionWidget
from napari_teramind.widgets.attention_table import RankingModel
from napari_teramind.widgets.parts import PANEL_WIDTH

from .panels import LONG, PAIR, attention_layers, finished

pytestmark = pytest.mark.timeout(280)


def test_from_a_pair_to_the_table_and_the_export(real_panel, qtbot, monkeypatch, tmp_path):
    """The whole way, with real jobs: choose, compute, look, go there, export, read again."""
    panel, viewer = real_panel, real_panel.session.viewer
    assert not panel.button.isEnabled()
    assert panel.plan_label.text() == "Choose two genes, or one of the pairs of the paper."
    panel.pair.presets["DOPA"].click()
    assert panel.pair.pair() == PAIR
    assert panel.plan_label.text().startswith("16 x 24 bins x 4 slices, 3 maps; at most 123 kB")
    qtbot.mouseClick(panel.button, Qt.MouseButton.LeftButton)
    assert panel.button.text() == "Cancel"
    assert not panel.pair.isEnabled()
    qtbot.waitUntil(lambda: finished(panel), timeout=LONG)
    assert panel.words.text() == "Done: Nr4a2-Th."
    # Too small a run to learn a speed from.
    assert panel.plan_label.text().endswith("; how long it takes is known after the first time")

    # A volume in 3D, over faded stains and structures, with the paper's transforms.
    qtbot.waitUntil(lambda: bool(attention_layers(panel)), timeout=LONG)
    (layer,) = attention_layers(panel)
    assert layer.name == "Nr4a2-Th attention"
    assert viewer.dims.ndisplay == 3
    assert (layer.colormap.name, layer.blending) == ("inferno", "additive")
    assert viewer.layers["structures"].opacity < 0.5 > viewer.layers["DAPI"].opacity
    names = [each.name for each in viewer.layers]
    assert names.index("PolyT") < names.index(layer.name) < names.index("structures")
    brain = panel.session.brain
    maps = panel.results.maps
    stored = np.asarray(maps.image.levels[0])
    pick = [[c.name for c in maps.channels].index(name) for name in (
        "Nr4a2-Th ensemble Nr4a2", "Nr4a2-Th ensemble Th", "Nr4a2 expression", "Th expression",
    )]  # fmt: skip
    expected = smoothed(displayed_attention(stored[pick[:2]], stored[pick[2:]], 8), 4.0)
    np.testing.assert_allclose(np.asarray(layer.data), expected, atol=1e-5)
    # A part of it, as napari reads it, equals the same part of the whole.
    np.testing.assert_allclose(np.asarray(layer.data[2, 3:9, 5:20]), expected[2, 3:9, 5:20], 1e-4)
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), (0, 7.5 * 0.108, 7.5 * 0.108))
    high = layer.contrast_limits[1]
    np.testing.assert_allclose(high, np.percentile(expected[expected > 0], 99.5), rtol=1e-4)

    # The table, and a click on it.
    statistics = panel.results.statistics
    qtbot.waitUntil(lambda: statistics.current is not None, timeout=LONG)
    table = panel.results.table
    rows = table.model_.rows
    assert {row.acronym for row in rows} == {"CP", "TH"}
    labels = np.asarray(brain.structures.levels[0])
    sums = stored[pick[:2]].sum(axis=0)
    for row in rows:
        np.testing.assert_allclose(row.mean, sums[labels == row.id].mean(), rtol=1e-4)
    assert rows[0].mean >= rows[1].mean
    assert panel.results.trend.isVisibleTo(panel.results)
    assert "r = " in panel.results.trend.words.text()
    viewer.dims.ndisplay = 2
    assert viewer.layers["DAPI"].opacity == 1
    cell = table.visualRect(table.model_.index(1, 1)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=cell)
    qtbot.waitUntil(lambda: rows[1].name in panel.results.words.text(), timeout=LONG)
    x = {"CP": 6.5, "TH": 16.5}[rows[1].acronym]
    assert abs(viewer.scene.camera.center[-1] - (x + 0.5) * 16 * 0.108) < 1

    # Other views take the layer's place; A alone has a ranking of its own.
    choice = panel.results.shown_choice
    assert [choice.itemText(i) for i in range(4)] == [
        "Nr4a2-Th attention", "Nr4a2-Th A alone", "Nr4a2 expression", "Th expression",
    ]  # fmt: skip
    choice.setCurrentIndex(1)
    choice.activated.emit(1)
    assert panel.results.heading.text() == "Structures by A alone"
    qtbot.waitUntil(
        lambda: [each.name for each in attention_layers(panel)] == ["Nr4a2-Th A alone"],
        timeout=LONG,
    )

    # Exports, by the menu; every file is read again by somebody else's library.
    for ending, check in (
        (".ome.tif", lambda p: tifffile.imread(p).shape == stored.shape),
        (".csv", lambda p: {"CP", "TH"} <= set(pd.read_csv(p)["acronym"])),
        (".png", lambda p: p.read_bytes().startswith(b"\x89PNG")),
    ):
        target = tmp_path / f"out{ending}"
        monkeypatch.setattr(
            QFileDialog, "getSaveFileName", lambda *a, target=target: (str(target), "")
        )
        menu = panel.results.export_button.menu()
        action = next(a for a in menu.actions() if ending.split(".")[-1][:3].upper() in a.text()
                      or (ending == ".ome.tif" and "TIFF" in a.text()))  # fmt: skip
        action.trigger()
        assert not panel.results.export_button.isEnabled()
        qtbot.waitUntil(lambda: not panel.results.exporting.busy, timeout=LONG)
        assert panel.results.words.text() == f"Wrote {target}."
        assert check(target)
    values = tifffile.imread(tmp_path / "out.ome.tif")
    np.testing.assert_array_equal(values, stored)


def test_the_relief_of_a_slice(computed, qtbot):
    panel, viewer = computed, computed.session.viewer
    viewer.dims.ndisplay = 2
    viewer.dims.set_point(0, 200)
    viewer.layers["PolyT"].visible = False
    viewer.layers.selection.active = viewer.layers["PolyT"]
    before = {layer.name: layer.visible for layer in viewer.layers}
    qtbot.mouseClick(panel.results.relief_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.results.layers.has_relief, timeout=LONG)
    assert viewer.dims.ndisplay == 3
    shown = {layer.name: layer for layer in viewer.layers if layer.visible}
    above = shown["Nr4a2-Th attention (previous-current), relief above"]
    below = shown["Nr4a2-Th attention (current-next), relief below"]
    picture = shown["slice 2, image"]
    assert len(shown) == 3
    # The hills are as high as attention is strong, and what is called above is up as we look.
    assert viewer.scene.camera.up_direction[0] > 0.5
    z = picture.data[0][:, 0]
    assert set(z.tolist()) == {200.0}
    heights = [layer.data[0][:, 0] for layer in (above, below)]
    assert heights[1].max() < 200 < heights[0].min()
    for layer, away in zip((above, below), (heights[0] - 200, 200 - heights[1]), strict=True):
        assert np.corrcoef(away, layer.data[2])[0, 1] > 0.999
    low, high = picture.extent.world[:, -2:]
    np.testing.assert_allclose(
        (low, high), ([-0.054, -0.054], [255.5 * 0.108, 383.5 * 0.108]), 1e-4
    )
    qtbot.mouseClick(panel.results.relief_button, Qt.MouseButton.LeftButton)
    assert viewer.layers.selection.active is viewer.layers["PolyT"]
    assert viewer.dims.ndisplay == 2
    assert {layer.name: layer.visible for layer in viewer.layers} == before


def test_the_canvas_goes_to_the_slice_that_has_the_result(real_panel, qtbot):
    from napari_teramind import load_model
    from napari_teramind.attention import attention_to_store

    panel, viewer = real_panel, real_panel.session.viewer
    viewer.dims.set_point(0, 0)
    network = load_model(panel.session.checkpoints.current)
    brain = panel.session.brain
    attention_to_store(brain, network, "one slice", [PAIR], slices=(2, 3))
    panel.results.take("one slice")
    qtbot.waitUntil(lambda: bool(attention_layers(panel)), timeout=LONG)
    assert viewer.dims.ndisplay == 2
    assert panel.session.region.slice_in_view() == 2
    # A result that has the slice in view leaves the user there.
    attention_to_store(brain, network, "two slices", [PAIR], slices=(1, 3))
    panel.results.take("two slices")
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3, timeout=LONG)
    assert panel.session.region.slice_in_view() == 2


def test_how_an_export_ended_is_not_said_of_other_results(computed, fake_job, qtbot, tmp_path):
    results = computed.results
    qtbot.waitUntil(lambda: results.statistics.current is not None, timeout=LONG)
    fake_job("refuse")
    for go_on in (
        lambda: results.shown_choice.activated.emit(1),
        lambda: results.result_choice.activated.emit(0),
        lambda: results.take("Nr4a2-Th"),
    ):
        results.export(tmp_path / "out.csv")
        qtbot.waitUntil(lambda: not results.exporting.busy, timeout=LONG)
        assert results.words.text() == results.exporting.words != ""
        go_on()
        assert results.exporting.words == ""


@pytest.mark.parametrize("gone", [True, False])
def test_a_result_that_is_read_when_the_window_closes_is_dropped(
    computed, qtbot, monkeypatch, gone
):
    go_on, read = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        go_on.wait(60)
        found = attention_layer(*arguments)
        read.set()
        return found

    monkeypatch.setattr("napari_teramind.widgets.attention_layers.attention_layer", slowly)
    viewer, results = computed.session.viewer, computed.results
    told = len(notification_manager.records)
    results.shown_choice.setCurrentIndex(1)
    results.shown_choice.activated.emit(1)
    viewer.close()
    if gone:  # else the window is closed, but not yet deleted
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    go_on.set()
    assert read.wait(60)
    qtbot.wait(200)  # pytest-qt fails a test in which something was raised meanwhile
    assert [layer.name for layer in viewer.layers] == []
    assert len(notification_manager.records) == told


def test_views_of_a_result_name_what_they_show(computed):
    maps = computed.results.maps
    assert len(views(maps)) == 12
    _, meta, kind = attention_layer(
        computed.session.brain, maps, View(PAIR, "previous-current", "a")
    )
    assert (meta["name"], kind, meta["colormap"]) == ("Nr4a2 expression", "image", "viridis")
    with pytest.raises(Exception, match="holds no Gad1-Th attention"):
        attention_layer(computed.session.brain, maps, View(("Gad1", "Th"), "ensemble", "attention"))


def test_a_result_is_found_when_the_panel_is_opened(computed, qtbot):
    viewer = computed.session.viewer
    again = AttentionWidget(viewer)
    assert again.results.result_choice.currentText() == "Nr4a2-Th"
    assert "network 000" not in again.results.result_choice.toolTip()
    for layer in attention_layers(again):
        viewer.layers.remove(layer)
    again.results.show_button.click()
    qtbot.waitUntil(lambda: bool(attention_layers(again)), timeout=LONG)
    again.deleteLater()


def test_the_panel_never_holds_the_event_loop(computed, qtbot):
    """Our own calls, without napari's creation and drawing of layers; time of the thread."""
    panel = computed
    qtbot.waitUntil(lambda: panel.results.statistics.current is not None, timeout=LONG)
    calls: dict[str, Callable[[], Any]] = {
        "refresh": panel.refresh,
        "plan": panel._refresh_plan,
        "statistics": panel.results._refresh_statistics,
        "progress": panel._on_progress,
    }
    for name, call in calls.items():
        call()
        began = time.thread_time()
        call()
        assert time.thread_time() - began < 0.05, name


def test_a_ranking_without_a_rest_leaves_the_cell_empty():
    model = RankingModel()
    row = {"rank": 1, "id": 7, "acronym": "A", "name": "All", "bins": 100, "mean": 0.5,
           "enrichment": float("nan")}  # fmt: skip
    model.show_ranking(pd.DataFrame([row]))
    assert [model.index(0, c).data() for c in range(4)] == ["1", "A - All", "0.5", ""]
    assert model.headerData(2, Qt.Orientation.Horizontal, Qt.ItemDataRole.DisplayRole) == "Mean"


def test_nothing_is_clipped_at_the_stated_width(computed, qtbot):
    panel = computed
    qtbot.waitUntil(lambda: panel.results.statistics.current is not None, timeout=LONG)
    panel.advanced.button.setChecked(True)
    scroll = panel._pages.widget(1)
    assert scroll.minimumSizeHint().width() <= PANEL_WIDTH
    panel.setFixedWidth(PANEL_WIDTH)
    QApplication.processEvents()
    kinds = (QAbstractButton, QComboBox, QLabel)  # PySide6 finds children of one kind at a time
    for child in (found for kind in kinds for found in panel.findChildren(kind)):
        if child.isVisible() and not (isinstance(child, QLabel) and child.wordWrap()):
            assert child.width() >= child.minimumSizeHint().width(), child
    assert tag_of(attention_layers(panel)[0])["kind"] == "attention"

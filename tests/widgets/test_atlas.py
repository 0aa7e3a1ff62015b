"""The Atlas panel in a real viewer: search, hover, go to, hide, ROI, other atlases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QFileDialog, QLabel

from napari_teramind.brain import BrainStore, BrainWriter, open_brain
from napari_teramind.plugin.display import HOVER, follow
from napari_teramind.plugin.layers import CONTOUR, stain_layers, structure_layer
from napari_teramind.widgets.atlas import AtlasWidget
from napari_teramind.widgets.atlas_tree import ABSENT
from napari_teramind.widgets.parts import PANEL_WIDTH
from napari_teramind.widgets.simulate import SimulateWidget

LONG = 20_000
BIN = 16 * 0.108

ROWS = (
    "id,acronym,name,color_hex,parent_id\n"
    "997,root,root,FFFFFF,\n"
    "343,BS,Brain stem,FF7080,997\n"
    "672,CP,Caudoputamen,98D6F9,997\n"
    "549,TH,Thalamus,FF7080,343\n"
    "749,VTA,Ventral tegmental area,FFB3FF,343\n"
)


@pytest.fixture
def make_panel(make_napari_viewer) -> Callable[[Path | str], AtlasWidget]:
    """Open the Atlas panel of a shown viewer on a brain."""

    def make(path: Path | str) -> AtlasWidget:
        viewer = make_napari_viewer(show=True)
        follow(viewer)  # as the reader does
        brain = open_brain(path)
        for layer in [*stain_layers(brain), structure_layer(brain)]:
            viewer.add_layer(Layer.create(*layer))
        _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Atlas")
        return panel

    return make


@pytest.fixture
def panel(make_panel, tiny_brain: BrainStore, qtbot) -> AtlasWidget:
    panel = make_panel(tiny_brain.path)
    qtbot.waitUntil(lambda: panel.structures.current is not None, timeout=LONG)
    return panel


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An annotation of two halves, 1 µm, 5 sections of 30 x 45 voxels, with its table."""
    annotation = np.zeros((5, 30, 45), np.uint32)
    annotation[1:, :, :20], annotation[1:4, 5:, 25:] = 672, 549
    tifffile.imwrite(tmp_path / "atlas_1um.tif", annotation, photometric="minisblack")
    (tmp_path / "structures.csv").write_text(ROWS)
    return tmp_path / "atlas_1um.tif"


def rows(panel: AtlasWidget) -> list[str]:
    """Structures that the tree shows, from top to bottom."""
    model, found = panel.tree.model(), []

    def walk(parent) -> None:
        for row in range(model.rowCount(parent)):
            index = model.index(row, 0, parent)
            found.append(index.data().partition(" - ")[0])
            walk(index)

    walk(panel.tree.rootIndex())
    return found


def type_in(qtbot, panel: AtlasWidget, text: str, enter: bool = True) -> None:
    panel.search.clear()
    qtbot.keyClicks(panel.search, text)
    if enter:
        qtbot.keyClick(panel.search, Qt.Key.Key_Return)


def colors(panel: AtlasWidget) -> dict[str, float]:
    """Opacity of every structure's colour in the layer."""
    layer = panel.structures.layer()
    features = zip(layer.features["index"], layer.features["acronym"], strict=True)
    return {name: float(layer.colormap.color_dict[label][3]) for label, name in features if label}


def tick(panel: AtlasWidget, acronym: str) -> None:
    table = panel.structures.current.table
    index = panel.tree.filter_.mapFromSource(panel.tree.model_.index_of(table.find(acronym).id))
    shown = index.data(Qt.ItemDataRole.CheckStateRole) == Qt.CheckState.Checked
    state = Qt.CheckState.Unchecked if shown else Qt.CheckState.Checked
    panel.tree.model().setData(index, state, Qt.ItemDataRole.CheckStateRole)


def test_typing_finds_a_structure_and_enter_goes_there(panel, qtbot):
    viewer = panel.session.viewer
    assert rows(panel) == ["root", "CP", "TH"]
    type_in(qtbot, panel, "thal", enter=False)
    assert rows(panel) == ["root", "TH"]
    assert panel.tree.selected_id() == 549
    qtbot.keyClick(panel.search, Qt.Key.Key_Return)
    assert panel.answer.text() == "TH - Thalamus: slice 1, one of 4."
    # The thalamus covers bins 2 to 13 and 12 to 21 in every slice.
    centre = [7.5 * 16 * 0.108 + 0.5 * 15 * 0.108, 16.5 * BIN + 0.5 * 15 * 0.108]
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre, atol=0.1)
    height, width = viewer.canvas.size
    assert 12 * BIN * viewer.scene.camera.zoom < height
    assert 10 * BIN * viewer.scene.camera.zoom < width
    type_in(qtbot, panel, "zebra")
    assert rows(panel) == []
    assert panel.answer.text() == "This brain has no structure like 'zebra'."
    assert panel.answer.textFormat() == Qt.TextFormat.PlainText
    assert not panel.go_button.isEnabled()
    panel.search.clear()
    assert rows(panel) == ["root", "CP", "TH"]


def test_going_to_a_structure_takes_the_slice_that_shows_it(
    make_panel, tmp_path, tiny_brain, qtbot
):
    labels = np.zeros((4, 16, 24), np.uint32)
    labels[2, 3:6, 4:9] = labels[3, 3:5, 4:6] = 549
    path = shutil.copytree(tiny_brain.path, tmp_path / "b.zarr")
    brain = open_brain(path)
    group = zarr.open_group(brain.structures.path, mode="r+")
    for level, (_, array) in enumerate(sorted(group.arrays())):
        coarse = labels[:, :: 2**level, :: 2**level]
        array[:] = coarse[:, : array.shape[1], : array.shape[2]]
    panel = make_panel(path)
    qtbot.waitUntil(lambda: panel.structures.current is not None, timeout=LONG)
    viewer = panel.session.viewer
    viewer.dims.set_point(0, 0)
    type_in(qtbot, panel, "TH")
    assert panel.answer.text() == "TH - Thalamus: slice 2, one of 2."
    assert panel.session.region.slice_in_view() == 2
    viewer.dims.set_point(0, 300)  # where it is too, so there we stay
    panel.go_button.click()
    assert panel.answer.text() == "TH - Thalamus: slice 3, one of 2."
    viewer.dims.ndisplay = 3
    panel.go_button.click()
    assert panel.answer.text() == "TH - Thalamus: slices 2 to 3."
    z, y, x = viewer.scene.camera.center
    assert 200 < z < 300
    np.testing.assert_allclose((y, x), (4 * BIN + 0.8, 6 * BIN + 0.8), atol=0.1)
    # The caudoputamen is in the table, and nowhere in the brain.
    type_in(qtbot, panel, "CP")
    assert panel.answer.text() == (
        "CP has no voxels in this brain: choose a structure that is not grey."
    )
    index = panel.tree.currentIndex()
    assert index.data(Qt.ItemDataRole.ForegroundRole) == ABSENT


def test_a_structure_stands_out_for_a_moment(panel, qtbot):
    """With all that is in it, hidden or not."""
    layer = panel.structures.layer()

    def white() -> set[str]:
        features = zip(layer.features["index"], layer.features["acronym"], strict=True)
        color = layer.colormap.color_dict
        return {name for label, name in features if label and tuple(color[label]) == (1, 1, 1, 1)}

    always = white()  # the root, by its own colour
    tick(panel, "TH")
    qtbot.waitUntil(lambda: colors(panel)["TH"] == 0, timeout=3000)
    type_in(qtbot, panel, "TH")
    assert white() == always | {"TH"}
    type_in(qtbot, panel, "CP")
    assert white() == always | {"CP"}
    qtbot.waitUntil(lambda: white() == always, timeout=5000)
    assert colors(panel)["TH"] == 0


def test_the_name_under_the_mouse_is_right_after_going_there(panel, qtbot):
    viewer = panel.session.viewer
    canvas = next(
        w for w in QApplication.allWidgets()
        if type(w).__name__ == "CanvasBackendDesktop" and w.isVisible()
    )  # fmt: skip
    text = viewer.canvas.overlays[HOVER]
    for acronym, expected in (("TH", "TH - Thalamus"), ("CP", "CP - Caudoputamen")):
        type_in(qtbot, panel, acronym)
        qtbot.mouseMove(canvas, QPoint(canvas.width() // 2 + 3, canvas.height() // 2))
        qtbot.mouseMove(canvas, QPoint(canvas.width() // 2, canvas.height() // 2))
        qtbot.waitUntil(lambda expected=expected: text.text == expected, timeout=3000)


def test_structures_are_hidden_with_all_that_is_in_them(panel, qtbot):
    assert colors(panel) == {"root": 1, "CP": 1, "TH": 1, "?": 1}
    tick(panel, "TH")
    qtbot.waitUntil(lambda: colors(panel)["TH"] == 0, timeout=3000)
    assert colors(panel)["CP"] == 1
    model = panel.tree.model_
    states = [model.index_of(i).data(Qt.ItemDataRole.CheckStateRole) for i in (997, 672, 549)]
    assert [s.name for s in states] == ["PartiallyChecked", "Checked", "Unchecked"]
    tick(panel, "root")  # half ticked: the first tick shows all
    qtbot.waitUntil(lambda: colors(panel)["TH"] == 1, timeout=3000)
    tick(panel, "root")
    qtbot.waitUntil(lambda: colors(panel)["CP"] == colors(panel)["TH"] == 0, timeout=3000)
    type_in(qtbot, panel, "CP", enter=False)
    panel.only_button.click()
    qtbot.waitUntil(lambda: (colors(panel)["CP"], colors(panel)["TH"]) == (1, 0), timeout=3000)
    # A layer that was removed comes back as it was.
    panel.session.viewer.layers.remove("structures")
    panel.go_button.click()
    qtbot.waitUntil(lambda: (colors(panel)["CP"], colors(panel)["TH"]) == (1, 0), timeout=3000)
    panel.all_button.click()
    qtbot.waitUntil(lambda: colors(panel)["TH"] == 1, timeout=3000)


def test_outlined_or_filled(panel):
    layer = panel.structures.layer()
    assert layer.contour == CONTOUR
    panel.style_choice.setCurrentIndex(1)
    panel.style_choice.activated.emit(1)
    assert layer.contour == 0
    assert layer.opacity < 0.5
    panel.style_choice.activated.emit(0)
    assert (layer.contour, layer.opacity) == (CONTOUR, 0.8)


def test_a_structure_becomes_the_roi_of_the_other_panels(panel, qtbot):
    other = SimulateWidget(panel.session.viewer)
    type_in(qtbot, panel, "CP")
    panel.roi_button.click()
    qtbot.waitUntil(lambda: not panel.session.region.from_view, timeout=3000)
    assert panel.session.region.roi() == (32, 224, 32, 192)
    assert other.values()["roi"] == (32, 224, 32, 192)
    assert other.values()["slices"] == (1, 2)
    assert other.where.where.rectangle_button.isChecked()
    assert panel.answer.text().startswith("The ROI is the box around CP on slice 1, 21 x 17 µm")
    type_in(qtbot, panel, "TH")
    panel.roi_button.click()
    qtbot.waitUntil(lambda: len(panel.session.viewer.layers["ROI"].data) == 1, timeout=3000)
    assert panel.session.region.roi() == (32, 224, 192, 352)
    other.deleteLater()


def test_a_brain_without_structures_is_told(make_napari_viewer, tmp_path, qtbot):
    with BrainWriter.create(
        tmp_path / "bare.zarr", name="bare", shape=(1, 64, 64), genes=["Th"]
    ) as writer:
        writer.write_stains(0, 0, 0, np.ones((2, 64, 64), np.uint8))
    viewer = make_napari_viewer()
    viewer.open(str(tmp_path / "bare.zarr"), plugin="napari-teramind")
    panel = AtlasWidget(viewer)
    qtbot.waitUntil(lambda: "has no atlas structures" in panel.source.words.text(), timeout=LONG)
    assert panel.structures.current is None
    panel.deleteLater()


def test_an_annotation_volume_opens_as_an_atlas(panel, volume, qtbot, monkeypatch):
    viewer = panel.session.viewer
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(volume), ""))
    at = panel.source.choice.findText("Annotation volume ...")
    panel.source.choice.setCurrentIndex(at)
    panel.source.choice.activated.emit(at)
    qtbot.waitUntil(lambda: "structures (atlas_1um)" in viewer.layers, timeout=LONG)
    assert panel.source.choice.currentText() == "atlas_1um"
    assert rows(panel) == ["root", "BS", "TH", "VTA", "CP"]
    assert not viewer.layers["structures"].visible
    type_in(qtbot, panel, "TH")
    assert panel.answer.text() == "TH - Thalamus: slice 1, one of 3."
    layer = viewer.layers["structures (atlas_1um)"]
    assert layer.get_value((1.5, 10.5, 30.5), world=True) == 2  # the second of the ids
    panel.roi_button.click()
    assert "lies in its own space: lay it over the slices" in panel.answer.text()
    type_in(qtbot, panel, "VTA")
    assert "VTA has no voxels in this atlas's volume" in panel.answer.text()
    panel.source.choice.activated.emit(0)
    assert rows(panel) == ["root", "CP", "TH"]
    assert viewer.layers["structures"].visible
    assert not layer.visible


def test_an_atlas_is_laid_over_the_slices(panel, volume, qtbot, tmp_path):
    viewer = panel.session.viewer
    panel.source.open_volume(str(volume))
    qtbot.waitUntil(lambda: panel.source.lay_button.isVisible(), timeout=LONG)
    affine = {"affine": [[0, 0, 2.5], [1, 0, 0], [0, 1, 0]]}
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({"0": affine, "2": affine}))
    panel.source.lay_over(path)
    qtbot.waitUntil(lambda: panel.structures.current is not None, timeout=LONG)
    chosen = panel.structures.current
    assert chosen.brain == panel.session.brain_path
    assert panel.source.choice.currentText() == "atlas_1um, on the slices"[:13] + "...slices"
    layer = panel.structures.layer()
    assert layer is viewer.layers["structures (atlas_1um)"] or layer.visible
    viewer.dims.set_point(0, 0)
    for x, expected in ((5.0, 672), (30.0, 549), (22.0, 0)):
        label = layer.get_value((0.0, 12.0, x), world=True)
        assert layer.features["id"][label] == expected
    viewer.dims.set_point(0, 100)
    assert layer.get_value((100.0, 12.0, 5.0), world=True) == 0  # that slice has no transform
    viewer.dims.set_point(0, 0)
    type_in(qtbot, panel, "TH")
    panel.roi_button.click()
    y0, _, x0, _ = panel.session.region.roi()
    np.testing.assert_allclose((y0 * 0.108, x0 * 0.108), (5, 25), atol=BIN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "does not hold transforms"),
        ('{"9": {"affine": [[0, 0, 2], [1, 0, 0], [0, 1, 0]]}}', "no transform for any of the 4"),
        ('{"0": {"affine": [[0, 0, 99], [1, 0, 0], [0, 1, 0]]}}', "lies beside the slices"),
    ],
)
def test_transforms_that_do_not_fit_are_told(panel, volume, qtbot, tmp_path, text, words):
    panel.source.open_volume(str(volume))
    qtbot.waitUntil(lambda: panel.source.lay_button.isVisible(), timeout=LONG)
    (tmp_path / "t.json").write_text(text)
    before = len(notification_manager.records)
    panel.source.lay_over(tmp_path / "t.json")

    def told() -> bool:
        records = notification_manager.records[before:]
        return words in panel.source.words.text() or any(words in r.message for r in records)

    qtbot.waitUntil(told, timeout=LONG)


def test_a_volume_that_cannot_be_read_is_told(panel, volume, qtbot):
    (volume.parent / "structures.csv").write_text(ROWS.replace("672,CP", "673,CP"))
    panel.source.open_volume(str(volume))
    qtbot.waitUntil(lambda: "holds the id 672" in panel.source.words.text(), timeout=LONG)
    assert "\n" not in panel.source.words.text()
    assert notification_manager.records[-1].message == panel.source.words.text()
    assert panel.source.choice.currentIndex() == 0
    panel.source.open_volume(str(volume.parent / "nowhere.tif"))
    qtbot.waitUntil(lambda: "no annotation volume at" in panel.source.words.text(), timeout=LONG)


def test_a_brainglobe_atlas_that_cannot_be_had_is_told(panel, fake_job, qtbot):
    fake_job("refuse")
    panel.source.name.setText("no_such_mouse")
    panel.source.open_button.click()
    assert panel.source.open_button.text() == "Cancel"
    assert panel.source.words.text() == "Looking for no_such_mouse ..."
    qtbot.waitUntil(lambda: "on fire" in panel.source.words.text(), timeout=LONG)
    assert panel.source.open_button.text() == "Open"


def test_fetching_an_atlas_is_shown_and_can_be_cancelled(panel, fake_job, qtbot):
    fake_job("slow")
    panel.source.fetch("allen_mouse_25um")
    qtbot.waitUntil(lambda: "about 4 min" in panel.source.words.text(), timeout=LONG)
    assert panel.source.progress.isVisible()
    panel.source.open_button.click()
    qtbot.waitUntil(lambda: panel.source.words.text() == "Cancelled.", timeout=LONG)
    assert not panel.source.progress.isVisible()


def test_a_fetched_atlas_is_shown(panel, volume, qtbot, monkeypatch):
    """The job fetches, this process reads what was fetched."""
    from napari_teramind import atlas
    from napari_teramind.jobs import Finished

    def kept(name: str) -> atlas.Atlas:
        assert name == "little_mouse_1um"
        return atlas.read_annotation(volume)

    monkeypatch.setattr(atlas, "load_brainglobe", kept)
    panel.source._on_fetched("little_mouse_1um", Finished(result={}))
    qtbot.waitUntil(lambda: "structures (atlas_1um)" in panel.session.viewer.layers, timeout=LONG)
    assert panel.structures.current.atlas == "little_mouse_1um"


def test_the_allen_atlas_opens_alone(make_napari_viewer, teramind_data, qtbot):
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Atlas")
    assert panel.empty.isVisibleTo(panel)
    panel.source.open_volume(str(teramind_data / "allen_ccf"))
    qtbot.waitUntil(lambda: panel.structures.current is not None, timeout=120_000)
    assert not panel.empty.isVisibleTo(panel)
    assert len(rows(panel)) == 1327
    type_in(qtbot, panel, "CA1")
    assert panel.tree.selected_id() == 382
    assert panel.answer.text().startswith("CA1 - Field CA1: slice ")
    layer = panel.structures.layer()
    place = panel.structures.current.places.of([382])
    volume = tifffile.imread(teramind_data / "allen_ccf" / "annotation_25um.tif")
    y, x = np.argwhere(volume[place.largest] == 382)[0]
    world = tuple((np.array([place.largest, y, x]) + 0.5) * 25)
    viewer.dims.set_point(0, world[0])
    value = layer.get_value(world, dims_displayed=[1, 2], world=True)
    assert layer.features["id"][value[1]] == 382
    for acronym, expected in (("VTA", "Ventral tegmental area"), ("SNc", "Substantia nigra, comp")):
        type_in(qtbot, panel, acronym)
        assert f"{acronym} - {expected}" in panel.answer.text()


def test_the_panel_shrinks_where_there_is_little_room(panel):
    assert panel.minimumSizeHint().height() < 150


def test_nothing_is_clipped_at_the_stated_width(panel, qtbot):
    type_in(qtbot, panel, "TH")
    panel.setFixedWidth(PANEL_WIDTH)
    QApplication.processEvents()
    kinds = (QAbstractButton, QComboBox, QLabel)  # PySide6 finds children of one kind at a time
    for child in (found for kind in kinds for found in panel.findChildren(kind)):
        if child.isVisible() and not (isinstance(child, QLabel) and child.wordWrap()):
            assert child.width() >= child.minimumSizeHint().width(), child

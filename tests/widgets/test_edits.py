"""Editing genes in the Simulate panel: before, after, difference; structures, shapes, samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import Qt

from napari_teramind.brain import open_brain
from napari_teramind.errors import UserError
from napari_teramind.jobs.warm import worker_pid
from napari_teramind.model import TeraMind, save_model
from napari_teramind.plugin.layers import stain_layers, structure_layer, tag_of
from napari_teramind.widgets.comparing import difference_layers
from napari_teramind.widgets.simulate import SimulateWidget
from simulations import keep_simulation

LONG = 90_000
pytestmark = pytest.mark.timeout(280)


@pytest.fixture(scope="module")
def checkpoint(make_network: Callable[..., TeraMind], tmp_path_factory) -> Path:
    network = make_network(genes=5, patch=32, channels=2, time_channels=16, prediction="v")
    network.gene_names = ("Gad1", "Gad2", "Th", "Pvalb", "Mog")
    return Path(save_model(network, tmp_path_factory.mktemp("net") / "net.safetensors", {}))


@pytest.fixture
def panel(make_napari_viewer, brain_copy: Path, checkpoint: Path, qtbot) -> SimulateWidget:
    viewer = make_napari_viewer(show=True)
    brain = open_brain(brain_copy)
    for layer in [*stain_layers(brain), structure_layer(brain)]:
        viewer.add_layer(Layer.create(*layer))
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Simulate")
    panel.session.checkpoints.choose(str(checkpoint))
    qtbot.waitUntil(lambda: panel.session.checkpoints.facts() is not None, timeout=LONG)
    panel.how.steps.setValue(2)
    panel.edit_part.button.setChecked(True)
    return panel


def generate(panel: SimulateWidget, qtbot) -> list[str]:
    """Press the button, wait, and return the names of generated layers."""
    assert panel.button.isEnabled(), panel.plan_label.text()
    qtbot.mouseClick(panel.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.session.generation is None, timeout=LONG)
    assert panel.words.text().startswith("Done in "), panel.words.text()
    return [
        layer.name for layer in panel.session.viewer.layers if tag_of(layer)["kind"] == "simulation"
    ]


def add_edit(panel: SimulateWidget, qtbot, gene: str) -> None:
    panel.edits.gene.clear()
    qtbot.keyClicks(panel.edits.gene, gene)
    qtbot.keyClick(panel.edits.gene, Qt.Key.Key_Return)


def test_an_edit_is_compared_with_the_unedited_image(panel, draw, qtbot):
    viewer, edits = panel.session.viewer, panel.edits
    draw(panel, (32, 96, 32, 128))
    edits.how.setCurrentIndex(edits.how.findText("set to"))
    edits.value.setValue(30)
    edits.where.setCurrentIndex(edits.where.findText("in what I draw"))
    add_edit(panel, qtbot, "tH")
    assert "drag a rectangle" in edits.hint.text()
    edits.draw_button.click()
    layer = viewer.layers["Edit region"]
    corners = np.array([[48, 48], [48, 80], [80, 80], [80, 48]]) - 0.5
    layer.add(corners * 0.108, shape_type="rectangle")
    add_edit(panel, qtbot, "tH")
    assert edits.list.item(0).text() == "Th set to 30 in y 48 to 80, x 48 to 80"
    names = generate(panel, qtbot)
    pid = worker_pid()
    assert names == [
        "DAPI (generated, seed 0)", "PolyT (generated, seed 0)",
        "DAPI (edited, seed 0)", "PolyT (edited, seed 0)",
    ]  # fmt: skip
    shown = lambda: [each.name for each in panel.session.layers("difference")]  # noqa: E731
    qtbot.waitUntil(lambda: len(shown()) == 2, timeout=LONG)
    assert shown() == ["DAPI (edited minus unedited)", "PolyT (edited minus unedited)"]
    before, after = (
        np.asarray(viewer.layers[f"DAPI ({kind}, seed 0)"].data).astype(int)
        for kind in ("generated", "edited")
    )
    away = viewer.layers["DAPI (edited minus unedited)"]
    np.testing.assert_array_equal(np.asarray(away.data), after - before)
    assert np.abs(after - before).max() > 0
    for name in names:  # all lie in one place
        np.testing.assert_allclose(viewer.layers[name].extent.world, away.extent.world)
    # The edit is part of what the result says of itself.
    brain = open_brain(panel.session.brain.path)
    made = brain.simulations[tag_of(viewer.layers["DAPI (edited, seed 0)"])["simulation"]]
    assert [edit["gene"] for edit in made.provenance["request"]["edits"]] == ["Th"]
    # Hold W: the unedited image, without the difference.
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.keyPress(canvas, Qt.Key.Key_W)
    assert viewer.layers["DAPI (generated, seed 0)"].visible
    assert not viewer.layers["DAPI (edited, seed 0)"].visible
    assert not away.visible
    qtbot.keyRelease(canvas, Qt.Key.Key_W)
    qtbot.waitUntil(lambda: away.visible, timeout=3000)
    # Another edit needs no unedited image again, and the same worker.
    add_edit(panel, qtbot, "Mog")
    generate(panel, qtbot)
    assert panel.words.text().endswith(": DAPI (edited, seed 0) [1], PolyT (edited, seed 0) [1].")
    assert worker_pid() == pid
    assert len(brain.simulations) == 3
    qtbot.waitUntil(lambda: len(shown()) == 2, timeout=LONG)
    edits.list.setCurrentRow(0)
    edits.remove_button.click()
    assert panel.values()["edits"] == ("Mog=30@48,80,48,80",)


def test_edits_that_cannot_be_are_told(panel, qtbot):
    add_edit(panel, qtbot, "")
    assert panel.edits.hint.text() == "Type the symbol of a gene first."
    add_edit(panel, qtbot, "Slc17a7")
    assert "does not look at Slc17a7" in panel.edits.hint.text()
    panel.edits.where.setCurrentIndex(2)
    qtbot.waitUntil(lambda: panel.session.structures.own is not None, timeout=LONG)
    panel.edits.acronym.setText("NOPE")
    add_edit(panel, qtbot, "Th")
    assert "NOPE" in panel.edits.hint.text()
    assert panel.values()["edits"] == ()
    panel.edits.acronym.setText("CP")
    add_edit(panel, qtbot, "Th")
    assert panel.edits.list.item(0).text() == "Th knocked out in CP"
    panel.edits.where.setCurrentIndex(0)
    panel.edits.how.setCurrentIndex(2)
    add_edit(panel, qtbot, "gad1")
    assert panel.edits.list.item(1).text() == "Gad1 times 2"


def test_a_structure_is_generated_where_it_lies(panel, qtbot):
    viewer, where = panel.session.viewer, panel.where
    viewer.dims.set_point(0, 100)
    where.choice.setCurrentIndex(1)
    assert "Name a structure" in panel.plan_label.text()
    qtbot.waitUntil(lambda: panel.session.structures.own is not None, timeout=LONG)
    qtbot.keyClicks(where.acronyms, "th")
    assert where.found.text().startswith("Thalamus: within 20.7 µm x 17.3 µm")
    assert not where.where.view_button.isVisible()
    names = generate(panel, qtbot)
    layer = viewer.layers[names[0]]
    low = layer.data_to_world((0, 0, 0))
    np.testing.assert_allclose(low, (100, 32 * 0.108, 192 * 0.108), atol=1e-6)
    assert layer.data.shape == (1, 192, 160)
    where.acronyms.setText("TH, NOPE")
    assert "NOPE" in panel.plan_label.text()
    assert not panel.button.isEnabled()


def test_the_whole_brain_and_an_ellipse(panel, qtbot):
    viewer, where = panel.session.viewer, panel.where
    where.choice.setCurrentIndex(2)
    assert panel.plan_label.text().startswith("256 x 384 px x 4 slices")
    assert not where.where.isVisible()
    panel.session.region.draw()  # as the Atlas panel does, and Shift-D
    assert where.kind == "region"
    where.where.shape.setCurrentText("Ellipse")
    where.where.draw_button.click()
    layer = viewer.layers["ROI"]
    assert layer.mode == "add_ellipse"
    corners = np.array([[32, 32], [32, 160], [96, 160], [96, 32]]) - 0.5
    layer.add(corners * 0.108, shape_type="ellipse")
    values = panel.values()
    assert values["roi"] == (32, 96, 32, 160)
    outline = np.array(values["outline"])
    np.testing.assert_allclose(((outline - (64, 96)) / (32, 64)) ** 2 @ [1, 1], 1, atol=1e-6)


def test_several_samples_show_their_mean_and_where_they_differ(panel, draw, qtbot):
    draw(panel, (32, 64, 32, 96))
    panel.how.replicates.setValue(3)
    assert "3 samples" in panel.plan_label.text()
    names = generate(panel, qtbot)
    assert names == [
        "DAPI (generated, mean of 3)", "PolyT (generated, mean of 3)",
        "DAPI (generated, standard deviation of 3)", "PolyT (generated, standard deviation of 3)",
    ]  # fmt: skip
    layers = panel.session.viewer.layers
    assert layers[names[2]].colormap.name == "inferno"
    assert not layers[names[2]].visible
    brain = open_brain(panel.session.brain.path)
    samples = [brain.simulations[name].levels[0][0] for name in sorted(brain.simulations)
               if ", seed " in name]  # fmt: skip
    assert len(samples) == 3
    np.testing.assert_allclose(
        np.asarray(layers[names[0]].data), np.mean(samples, axis=0), atol=0.501
    )


def test_results_of_different_regions_have_no_difference(brain_copy):
    brain = open_brain(brain_copy)
    for name, side in (("before", 64), ("after", 128)):
        image = np.zeros((2, 2, side, side), np.uint8)
        keep_simulation(brain, name, image, roi=(0, side, 0, side), slices=(0, 2),
                        provenance={})  # fmt: skip
    with pytest.raises(UserError, match="not of one region"):
        difference_layers(brain, "before", "after")


def test_edits_in_words():
    from napari_teramind.simulate.edits import parse_edit

    assert parse_edit("Th=0").words == "Th knocked out"
    assert parse_edit("Th*0.5@VTA").words == "Th times 0.5 in VTA"

"""Comparing what was generated with what is real, and the field in view in 3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import BrainWriter, open_brain
from napari_teramind.plugin.cuts import cut, finest_cuts
from napari_teramind.plugin.layers import TAG, tag_of
from napari_teramind.widgets import compare, field
from napari_teramind.widgets.brain import BrainWidget
from simulations import keep_simulation

from .hands import add_brain

LONG = 30_000
ROI = (64, 192, 32, 160)


@pytest.fixture
def panel(make_napari_viewer, brain_copy: Path) -> BrainWidget:
    """A brain with two results, the first of them shown."""
    brain = open_brain(brain_copy)
    for name, value in (("first", 50), ("second", 90)):
        image = np.full((2, 2, 128, 128), value, np.uint8)
        keep_simulation(brain, name, image, roi=ROI, slices=(0, 2), provenance={"seed": value})
    viewer = make_napari_viewer(show=True)
    add_brain(viewer, brain_copy)
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Brain")
    viewer.dims.set_point(0, 0)
    for layer in panel.session.layers("simulation"):
        layer.visible = tag_of(layer)["simulation"] == "first"
    return panel


def copies(panel: BrainWidget) -> list:
    return [e for e in panel.session.viewer.layers if tag_of(e).get("kind") == "compared"]


def choose(panel: BrainWidget, qtbot, mode: str) -> None:
    panel.compare.mode.setCurrentIndex(panel.compare.mode.findData(mode))
    if mode != compare.OFF:
        qtbot.waitUntil(lambda: len(copies(panel)) == 2, timeout=LONG)


def real_pixels(panel: BrainWidget, stain: int = 0) -> np.ndarray:
    return panel.session.brain.read_stains(ROI, (0, 1))[stain, 0]


def test_the_curtain_shows_the_real_stain_up_to_the_line(panel, qtbot):
    names = [layer.name for layer in panel.session.viewer.layers]
    choose(panel, qtbot, compare.SWIPE)
    assert panel.compare.slider.isVisible()
    first = copies(panel)[0]
    real = real_pixels(panel)
    assert first.data.shape == (128, 64)  # half of it
    np.testing.assert_array_equal(first.data[:, :50], real[:, :50])
    assert (first.data[:, -1] == first.contrast_limits[1]).all()
    # Where the real pixel lies, there its copy lies.
    stain = panel.session.layers("stain")[0]
    np.testing.assert_allclose(
        first.data_to_world((3, 5)), stain.data_to_world((0, 64 + 3, 32 + 5))[1:], atol=1e-6
    )
    panel.compare.slider.setValue(compare.STEPS)
    np.testing.assert_array_equal(first.data, real)
    panel.compare.slider.setValue(0)
    assert not first.visible
    choose(panel, qtbot, compare.OFF)
    assert [layer.name for layer in panel.session.viewer.layers] == names


def test_side_by_side_lies_right_of_the_generated_image_and_follows_the_slice(panel, qtbot):
    choose(panel, qtbot, compare.BESIDE)
    generated = panel.session.layers("simulation")[0]
    copy = copies(panel)[0]
    assert copy.extent.world[0, 1] > generated.extent.world[1, 2]
    np.testing.assert_allclose(copy.extent.world[:, 0], generated.extent.world[:, 1])
    np.testing.assert_array_equal(copy.data, real_pixels(panel))
    spacing = panel.session.brain.stains.scale(0)[-3]
    panel.session.viewer.dims.set_point(0, spacing)
    second = panel.session.brain.read_stains(ROI, (1, 2))[0, 0]
    qtbot.waitUntil(
        lambda: len(copies(panel)) == 2 and np.array_equal(copies(panel)[0].data, second),
        timeout=LONG,
    )
    panel.session.viewer.dims.set_point(0, 3 * spacing)
    qtbot.waitUntil(lambda: not copies(panel), timeout=LONG)
    assert "nothing to compare on this slice" in panel.compare.words.text()


def test_two_results_are_compared(panel, qtbot):
    choose(panel, qtbot, compare.BESIDE)
    other = panel.compare.other
    assert [other.itemText(i) for i in range(other.count())] == ["Real stains", "second"]
    other.setCurrentIndex(1)
    other.activated.emit(1)
    qtbot.waitUntil(
        lambda: len(copies(panel)) == 2 and (np.asarray(copies(panel)[0].data) == 90).all(),
        timeout=LONG,
    )


def test_without_a_generated_image_it_says_so(panel, qtbot):
    for layer in panel.session.layers("simulation"):
        layer.visible = False
    panel.compare.mode.setCurrentIndex(1)
    assert "Nothing generated is shown" in panel.compare.words.text()
    assert not copies(panel)


def test_a_difference_does_not_lie_over_what_is_compared(panel, qtbot):
    brain = panel.session.brain_path
    difference, hidden = (
        panel.session.viewer.add_image(
            np.ones((4, 8, 8)), name=name, metadata={TAG: {"brain": brain, "kind": "difference"}}
        )
        for name in ("shown", "hidden")
    )
    hidden.visible = False
    choose(panel, qtbot, compare.BESIDE)
    assert not difference.visible
    choose(panel, qtbot, compare.SWIPE)
    assert not difference.visible
    choose(panel, qtbot, compare.OFF)
    assert difference.visible
    assert not hidden.visible


def test_a_copy_that_the_user_removes_stays_away(panel, qtbot):
    choose(panel, qtbot, compare.SWIPE)
    panel.session.viewer.layers.remove(copies(panel)[1])
    panel.compare.slider.setValue(700)
    assert len(copies(panel)) == 1
    panel.session.viewer.layers.clear()
    choose(panel, qtbot, compare.OFF)
    assert not copies(panel)


def test_the_field_in_view_in_3d_and_back(panel, qtbot):
    viewer = panel.session.viewer
    viewer.scene.camera.zoom *= 2
    camera = (tuple(viewer.scene.camera.center), viewer.scene.camera.zoom)
    visible = [layer.name for layer in viewer.layers if layer.visible]
    panel.field.button.click()
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3, timeout=LONG)
    fields = [layer for layer in viewer.layers if tag_of(layer).get("kind") == "field"]
    assert [layer.name for layer in fields][:2] == ["DAPI (3D)", "PolyT (3D)"]
    assert [layer for layer in viewer.layers if layer.visible] == fields
    assert panel.field.words.text().startswith("Full resolution: 0.108 µm a pixel, 2 slices")
    first, stain = fields[0], panel.session.layers("stain")[0]
    # Every voxel is the stored one, in its place.
    z, y, x = (np.asarray(first.data.shape) // 2).tolist()
    at = np.rint(stain.world_to_data(first.data_to_world((z, y, x)))).astype(int)
    stored = np.asarray(panel.session.brain.stains.levels[0])[0]
    assert first.data[z, y, x] == stored[tuple(at)]
    panel.field.button.click()
    assert viewer.dims.ndisplay == 2
    assert [layer.name for layer in viewer.layers if layer.visible] == visible
    assert (tuple(viewer.scene.camera.center), viewer.scene.camera.zoom) == camera


def test_turning_back_by_napari_s_own_button_ends_the_field(panel, qtbot):
    viewer = panel.session.viewer
    panel.field.button.click()
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3, timeout=LONG)
    viewer.dims.ndisplay = 2
    assert not [layer for layer in viewer.layers if tag_of(layer).get("kind") == "field"]
    assert panel.field.button.text() == field.SHOW


@pytest.fixture
def deep(make_napari_viewer, tmp_path: Path) -> BrainWidget:
    """A brain with several levels of detail."""
    writer = BrainWriter.create(
        tmp_path / "deep.zarr", name="deep", shape=(2, 1024, 1024), genes=["Th"]
    )
    pixels = np.random.default_rng(0).integers(0, 255, (2, 1024, 1024)).astype(np.uint8)
    for z in range(2):
        writer.write_stains(z, 0, 0, pixels)
        writer.write_genes(z, 0, 0, np.ones((1, 64, 64)))
    writer.finish()
    viewer = make_napari_viewer(show=True)
    add_brain(viewer, tmp_path / "deep.zarr")
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Brain")
    return panel


def test_a_field_that_is_too_large_is_coarser_and_says_so(deep, qtbot, monkeypatch):
    monkeypatch.setattr(field, "MOST_SIDE", 600)
    deep.session.viewer.scene.camera.zoom /= 2  # all of the slice is in view
    deep.field.button.click()
    qtbot.waitUntil(lambda: deep.session.viewer.dims.ndisplay == 3, timeout=LONG)
    assert "0.216 µm a pixel, 2 times coarser than stored" in deep.field.words.text()
    deep.field.button.click()
    monkeypatch.setattr(field, "MOST_SIDE", 50)
    deep.field.button.click()
    assert "too large" in deep.field.words.text()
    for kind in ("stain", "gene"):
        for layer in deep.session.layers(kind):
            layer.visible = False
    deep.field.button.click()
    assert "show a stain or a gene" in deep.field.words.text()


def test_cuts_of_every_level_lie_on_one_another(deep):
    stain = deep.session.layers("stain")[0]
    assert len(stain.data) == 3
    low = stain.data_to_world((-0.5, 63.5, 31.5))
    high = stain.data_to_world((0.5, 191.5, 159.5))
    for level in range(len(stain.data)):
        part = cut(stain, low, high, level)
        side = 128 // 2**level
        assert part.view.shape == (1, side, side)
        corner = part.affine @ (-0.5, -0.5, -0.5, 1)
        np.testing.assert_allclose(corner[:3], low, atol=1e-9)
    cuts, coarser = finest_cuts([stain], low, high, 128 * 128, 100)
    assert coarser == 2
    assert cuts[0].view.shape == (1, 64, 64)

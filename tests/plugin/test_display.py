"""What a real viewer shows of a brain: places, contours, names under the mouse."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint

from napari_teramind.brain import BrainStore, BrainWriter
from napari_teramind.plugin.display import HOVER, OPACITY_3D, follow
from napari_teramind.plugin.layers import CONTOUR

PLUGIN = "napari-teramind"


@pytest.fixture
def viewer(make_napari_viewer, tiny_brain: BrainStore):
    """A shown viewer with the tiny brain, opened as a user would."""
    viewer = make_napari_viewer(show=True)
    viewer.open(tiny_brain.path, plugin=PLUGIN)
    return viewer


def test_a_viewer_shows_the_values_of_the_store_at_every_level(viewer, tiny_brain, tiny_arrays):
    stains, _, structures = tiny_arrays
    assert viewer.canvas.overlays.scale_bar.visible
    assert len(viewer.layers) == 3
    viewer.dims.set_point(0, 200)
    world = (200.0, 100 * 0.108, 200 * 0.108)
    assert viewer.layers["PolyT"].get_value(world, world=True) == stains[1, 2, 100, 200]
    layer = viewer.layers["structures"]
    for level in range(len(layer.data)):
        layer.locked_data_level = level
        found = layer.get_value(world, world=True)
        assert found[0] == level
        assert layer.features["id"][found[1]] == structures[2, 100 // 16, 200 // 16]


def test_the_name_of_the_structure_is_shown_under_the_mouse(viewer, qtbot):
    viewer.layers.selection.active = viewer.layers["DAPI"]
    canvas = viewer.window._qt_viewer.canvas.native
    text = viewer.canvas.overlays[HOVER]
    assert not text.visible

    def move(y: int, x: int) -> None:
        zoom = viewer.scene.camera.zoom
        centre = viewer.scene.camera.center[-2:]
        at = [(p * 0.108 - c) * zoom for p, c in zip((y, x), centre, strict=True)]
        place = QPoint(canvas.width() // 2 + int(at[1]), canvas.height() // 2 + int(at[0]))
        qtbot.mouseMove(canvas, place)

    move(128, 100)
    qtbot.waitUntil(lambda: text.visible and text.text == "CP - Caudoputamen", timeout=3000)
    move(128, 280)
    qtbot.waitUntil(lambda: text.text == "TH - Thalamus", timeout=3000)
    move(8, 8)
    qtbot.waitUntil(lambda: not text.visible, timeout=3000)

    def look(change) -> None:
        move(128, 100)
        qtbot.waitUntil(lambda: text.visible and text.text == "CP - Caudoputamen", timeout=3000)
        change()
        assert not text.visible
        move(8, 8)

    # The name goes when something else may lie under the mouse.
    look(lambda: viewer.dims.set_point(0, 100 if viewer.dims.point[0] > 150 else 200))
    look(lambda: setattr(viewer.scene.camera, "zoom", viewer.scene.camera.zoom * 0.9))
    look(lambda: setattr(viewer.layers["structures"], "visible", False))
    assert follow(viewer).name_at((0.0, 13.8, 10.8), [1, 2]) == ""


def test_structures_are_contours_in_2d_and_translucent_in_3d(viewer):
    layer = viewer.layers["structures"]
    layer.opacity = 0.6
    assert layer.contour == CONTOUR == 2
    with warnings.catch_warnings():
        # napari's message about contours in 3D would pop up at every turn; any other is an error.
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Contours are not displayed during 3D rendering")
        viewer.dims.ndisplay = 3
    assert layer.opacity == OPACITY_3D < 0.6
    viewer.dims.ndisplay = 2
    assert (layer.opacity, layer.contour) == (0.6, 2)


def test_an_unfinished_brain_is_told_as_a_notification(make_napari_viewer, tmp_path: Path):
    BrainWriter.create(tmp_path / "half.zarr", name="half", shape=(1, 64, 64), genes=["Th"])
    viewer = make_napari_viewer()
    assert viewer.open(str(tmp_path / "half.zarr"), plugin=PLUGIN) == []
    assert "half made" in notification_manager.records[-1].message
    assert "\n" not in notification_manager.records[-1].message


def test_what_follows_a_viewer_dies_with_it(make_napari_viewer):
    viewer = make_napari_viewer()
    assert follow(viewer) is follow(viewer)
    other = make_napari_viewer()
    assert follow(other) is not follow(viewer)
    np.testing.assert_equal(follow(other).structure_layers(), [])

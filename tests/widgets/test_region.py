"""Where: the current view, a rectangle drawn with the mouse, slices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_teramind.widgets.roi import clip_roi

from .hands import drag

HEIGHT, WIDTH = 256, 384  # of the tiny brain


@given(
    st.tuples(st.integers(-50, 300), st.integers(-50, 300)),
    st.tuples(st.integers(-50, 300), st.integers(-50, 300)),
    st.booleans(),
)
def test_corners_on_pixel_edges_give_just_the_pixels_between(ys, xs, flipped):
    corners = [(min(ys) - 0.5, min(xs) - 0.5), (max(ys) - 0.5, max(xs) - 0.5)]
    roi = clip_roi(*(reversed(corners) if flipped else corners), (100, 200))
    y0, y1 = max(0, min(ys)), min(100, max(ys))
    x0, x1 = max(0, min(xs)), min(200, max(xs))
    assert roi == ((y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None)


def test_the_current_view_is_what_the_canvas_shows(panel, qtbot):
    viewer, region = panel.session.viewer, panel.session.region
    qtbot.wait(200)
    viewer.reset_view()
    assert region.roi() == (0, HEIGHT, 0, WIDTH)
    viewer.scene.camera.zoom = viewer.canvas.size[0] / (100 * 0.108)  # 100 px high
    viewer.scene.camera.center = (0, 120 * 0.108, 190 * 0.108)
    y0, y1, x0, x1 = region.roi()
    assert abs(y0 - 70) <= 1
    assert abs(y1 - 170) <= 1
    shown = 100 * viewer.canvas.size[1] / viewer.canvas.size[0]
    assert abs((x1 - x0) - shown) <= 2

    def told() -> bool:
        y0, y1, x0, x1 = region.roi()  # anew: the canvas may still be settling
        return panel.plan_label.text().startswith(f"{y1 - y0:,} x {x1 - x0:,} px")

    qtbot.waitUntil(told, timeout=3000)
    assert "µm x" in panel.where.where.size_label.text()
    assert (
        "y {} to {}, x {} to {} px".format(*region.roi()) in panel.where.where.size_label.toolTip()
    )
    viewer.scene.camera.center = (0, 5000, 5000)
    assert region.roi() is None
    viewer.reset_view()
    viewer.dims.ndisplay = 3
    assert region.roi() is None
    qtbot.waitUntil(
        lambda: panel.where.where.size_label.text() == "Turn to 2D to use the current view",
        timeout=3000,
    )
    assert not panel.button.isEnabled()
    assert "Choose where to generate" in panel.problem()


def test_a_rectangle_drawn_with_the_mouse_is_the_roi(panel, qtbot):
    viewer, region = panel.session.viewer, panel.session.region
    panel.where.where.rectangle_button.click()
    assert panel.where.where.size_label.text() == "Press Draw and drag over the brain"
    assert region.roi() is None
    panel.where.where.draw_button.click()
    layer = viewer.layers["ROI"]
    assert layer.mode == "add_rectangle"
    for corners in [((50, 60), (150, 260)), ((30, 40), (100, 120))]:
        drag(viewer, qtbot, *corners)
        qtbot.waitUntil(lambda: len(layer.data) == 1 and layer.mode == "select", timeout=3000)
        (y0, x0), (y1, x1) = corners
        expected = (y0, y1, x0, x1)
        off = max(abs(a - b) for a, b in zip(region.roi(), expected, strict=True))
        assert off <= 2 * 2 / viewer.scene.camera.zoom / 0.108  # two screen pixels
        panel.where.where.draw_button.click()
    assert [len(viewer.layers), len(layer.data)] == [3, 1]
    # A line of two pixels at every zoom.
    viewer.scene.camera.zoom *= 4
    assert layer.edge_width[0] * viewer.scene.camera.zoom == pytest.approx(2)
    viewer.layers.remove(layer)
    assert region.roi() is None
    panel.where.where.draw_button.click()
    assert "ROI" in viewer.layers


def test_slices_follow_the_view_until_they_are_chosen(panel, qtbot):
    viewer, region, where = panel.session.viewer, panel.session.region, panel.where.where
    viewer.dims.set_point(0, 200)
    assert region.slices == (2, 3)
    qtbot.waitUntil(lambda: where.first.value() == 2, timeout=3000)
    where.first.setValue(1)
    assert region.slices == (1, 3)
    where.last.setValue(0)
    assert region.slices == (0, 1)
    assert where.slices_label.text() == "at 0 µm; the brain has slices 0 to 3"
    where.last.setValue(3)
    # The true places of slices, which are not evenly spaced.
    assert where.slices_label.text() == "from 0 to 320 µm; the brain has slices 0 to 3"
    viewer.dims.set_point(0, 100)
    assert region.slices == (0, 4)
    where.here_button.click()
    assert region.slices == (1, 2)
    assert (where.first.maximum(), where.last.maximum()) == (3, 3)

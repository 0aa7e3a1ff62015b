"""The phantom animals as sample data: made beside the event loop, kept, never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_teramind.brain import open_brain
from napari_teramind.errors import UserError
from napari_teramind.widgets import phantom
from napari_teramind.widgets.phantom import ANIMALS, PARTIAL, kept, read_phantom

PLUGIN = "napari-teramind"
LONG = 20_000


@pytest.fixture(autouse=True)
def nothing_left_running():
    yield
    for making in list(phantom._makings.values()):
        making.job.abandon()
    phantom._makings.clear()


def left_behind(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PARTIAL}*"))


def test_a_phantom_is_made_shown_and_kept(make_napari_viewer, fake_job, qtbot):
    fake_job("phantom")
    viewer = make_napari_viewer(show=True)
    assert viewer.open_sample(PLUGIN, "supp_m") == []  # at once: the window must not freeze
    panel = viewer.window.dock_widgets[ANIMALS["supp_m"]]
    viewer.open_sample(PLUGIN, "supp_m")  # an impatient user
    assert len(phantom._makings) == 1
    qtbot.waitUntil(lambda: panel.words.text() == "Placing cells: about 30 s left", timeout=LONG)
    assert (panel.progress.value(), panel.progress.maximum()) == (1, 4)
    assert not kept("supp_m").exists()
    qtbot.waitUntil(lambda: "Brain (Tera-MIND)" in viewer.window.dock_widgets, timeout=LONG)
    assert open_brain(kept("supp_m")).name == "supp_m"
    assert ANIMALS["supp_m"] not in viewer.window.dock_widgets
    assert left_behind(kept("supp_m").parent) == []

    # The next time it is there at once, in another viewer too, and the brain is the same.
    before = kept("supp_m").stat().st_mtime_ns
    other = make_napari_viewer()
    assert len(other.open_sample(PLUGIN, "supp_m")) == len(viewer.layers) == 2
    assert kept("supp_m").stat().st_mtime_ns == before
    qtbot.waitUntil(lambda: "Brain (Tera-MIND)" in other.window.dock_widgets, timeout=LONG)


def test_making_a_phantom_is_cancelled(make_napari_viewer, fake_job, qtbot):
    fake_job("slow")
    viewer = make_napari_viewer(show=True)
    viewer.open_sample(PLUGIN, "main")
    panel = viewer.window.dock_widgets[ANIMALS["main"]]
    qtbot.waitUntil(lambda: "about 4 min left" in panel.words.text(), timeout=LONG)
    phantom._makings["main"].partial.mkdir()
    panel.button.click()
    assert panel.words.text() == "Cancelling"
    qtbot.waitUntil(lambda: ANIMALS["main"] not in viewer.window.dock_widgets, timeout=LONG)
    qtbot.waitUntil(lambda: left_behind(kept("main").parent) == [], timeout=LONG)
    assert len(viewer.layers) == 0
    assert "cancelled" in notification_manager.records[-1].message
    assert phantom._makings == {}


def test_a_phantom_that_fails_is_told_in_a_sentence(make_napari_viewer, fake_job, qtbot):
    fake_job("garbage")
    viewer = make_napari_viewer(show=True)
    viewer.open_sample(PLUGIN, "main")
    qtbot.waitUntil(lambda: ANIMALS["main"] not in viewer.window.dock_widgets, timeout=LONG)
    assert "ended unexpectedly" in notification_manager.records[-1].message
    assert not kept("main").exists()


def test_a_viewer_may_go_while_a_phantom_is_made(make_napari_viewer, fake_job, qtbot):
    fake_job("phantom")
    viewer = make_napari_viewer()
    viewer.open_sample(PLUGIN, "main")
    viewer.close()
    qtbot.waitUntil(lambda: kept("main").exists(), timeout=LONG)
    qtbot.waitUntil(lambda: phantom._makings == {}, timeout=LONG)


def test_without_a_window_a_phantom_is_waited_for(fake_job):
    fake_job("phantom")
    layers = ViewerModel().open_sample(PLUGIN, "supp_f")
    assert [layer.name for layer in layers] == ["DAPI", "PolyT"]
    assert kept("supp_f").exists()
    fake_job("refuse")
    with pytest.raises(UserError, match="on fire"):
        read_phantom("teramind://phantom/main")
    assert not kept("main").exists()


def test_the_real_phantom_opens_as_a_sample(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample(PLUGIN, "main")
    qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=100_000)
    names = [layer.name for layer in viewer.layers]
    assert names[:2] == ["DAPI", "PolyT"]
    assert names[-1] == "structures"
    assert viewer.layers["structures"].features["acronym"].isin(["Isocortex", "TH"]).any()

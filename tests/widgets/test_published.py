"""Published networks are got from the Simulate panel, from a stand-in for Zenodo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from tests.conftest import TINY_GENES

from napari_teramind.brain import open_brain
from napari_teramind.jobs import history
from napari_teramind.plugin.layers import stain_layers
from napari_teramind.widgets.checkpoints import Facts
from napari_teramind.widgets.getting import Getting
from napari_teramind.widgets.published import PublishedNetworks
from napari_teramind.widgets.simulate import SimulateWidget
from napari_teramind.widgets.what import GET_PUBLISHED
from zenodo import NETWORK, Zenodo, serving, zipped

LONG = 60_000  # ms


@pytest.fixture
def zenodo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Zenodo]:
    server = Zenodo()
    server.files["gene_638850.zip"] = zipped({"tile.npy": b"0" * 50_000})
    with serving(server):
        monkeypatch.setenv("TERAMIND_ZENODO", server.api)
        monkeypatch.setenv(history.FOLDER_VARIABLE, str(tmp_path / "jobs"))
        yield server


@pytest.fixture
def make_panel(make_napari_viewer, brain_copy: Path):
    def make() -> SimulateWidget:
        viewer = make_napari_viewer(show=True)
        for layer in stain_layers(open_brain(brain_copy)):
            viewer.add_layer(Layer.create(*layer))
        _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Simulate")
        return panel

    return make


def open_dialog(panel: SimulateWidget, qtbot, rows: int = 2) -> PublishedNetworks:
    """Choose the last entry of the list of checkpoints, and wait for Zenodo's answer."""
    choice = panel.what.checkpoint_choice
    before = choice.currentText()
    choice.setFocus()
    qtbot.keyClick(choice, Qt.Key.Key_End)
    assert choice.currentText() == before  # it is what it was: the entry is no checkpoint
    dialog = panel.what.findChild(PublishedNetworks)
    assert dialog.isVisible()
    qtbot.waitUntil(lambda: dialog.table.topLevelItemCount() == rows, timeout=LONG)
    qtbot.waitUntil(lambda: not dialog._asking, timeout=LONG)
    return dialog


def states(dialog: PublishedNetworks) -> list[str]:
    return [dialog.table.topLevelItem(i).text(2) for i in range(dialog.table.topLevelItemCount())]


def photograph(widget, name: str) -> None:
    """Take a picture where TERAMIND_PICTURES names a folder, for people to look at."""
    folder = os.environ.get("TERAMIND_PICTURES")
    if folder:
        QApplication.processEvents()
        widget.grab().save(str(Path(folder) / f"{name}.png"))


def test_a_network_is_got_and_chosen(zenodo: Zenodo, make_panel, qtbot, tmp_path: Path):
    panel = make_panel()
    choice = panel.what.checkpoint_choice
    assert choice.itemText(choice.count() - 1) == GET_PUBLISHED
    dialog = open_dialog(panel, qtbot)
    assert states(dialog) == ["not here", "not here"]
    assert dialog.table.topLevelItem(0).text(1) == "5.72 MB"
    assert not dialog.button.isEnabled()
    photograph(dialog, "published-before")
    dialog.table.setCurrentItem(dialog.table.topLevelItem(0))
    assert dialog.button.isEnabled()
    genes = tmp_path / "list.csv"
    genes.write_text("\n".join(["gene", *TINY_GENES]))
    dialog.genes.setText(str(genes))
    zenodo.pause = 0.06
    qtbot.mouseClick(dialog.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dialog.progress.value() > 20, timeout=LONG)
    assert "Downloading main.zip: " in dialog.words.text()
    assert "of 5.72 MB" in dialog.words.text()
    assert dialog.button.text() == "Cancel"
    assert not dialog.table.isEnabled()
    photograph(dialog, "published-during")
    photograph(panel.window(), "published-window")
    (job,) = [job for job in history.read_jobs() if job.verb == "checkpoint-get"]
    assert (job.state, job.title) == ("running", "Get the published networks main")
    qtbot.waitUntil(lambda: NETWORK in str(choice.currentData()), timeout=LONG)
    qtbot.waitUntil(lambda: states(dialog) == ["here", "not here"], timeout=LONG)
    assert dialog.words.text() == f"main is here: {NETWORK} is chosen."
    assert notification_manager.records[-1].message == dialog.words.text()
    assert not dialog.progress.isVisible()
    assert panel.values()["checkpoint"] == str(tmp_path / "checkpoints" / f"{NETWORK}.safetensors")
    photograph(dialog, "published-after")
    checkpoints = panel.session.checkpoints
    qtbot.waitUntil(lambda: isinstance(checkpoints.facts(), Facts), timeout=LONG)
    assert checkpoints.facts().genes == TINY_GENES
    assert panel.what.problem() == ""


def test_cancelled_closed_and_found_again(zenodo: Zenodo, make_panel, qtbot, tmp_path: Path):
    zenodo.pause = 0.1
    panel = make_panel()
    dialog = open_dialog(panel, qtbot)
    dialog.table.setCurrentItem(dialog.table.topLevelItem(0))
    dialog.button.click()
    qtbot.waitUntil(lambda: dialog.progress.value() > 5, timeout=LONG)
    dialog.button.click()
    qtbot.waitUntil(lambda: dialog.words.text().startswith("Cancelled."), timeout=LONG)
    qtbot.waitUntil(lambda: "% fetched" in states(dialog)[0], timeout=LONG)
    (part,) = (tmp_path / "checkpoints").glob("*.part")
    there = part.stat().st_size
    zenodo.asked.clear()
    dialog.button.click()
    qtbot.waitUntil(lambda: "Downloading" in dialog.words.text(), timeout=LONG)
    assert zenodo.downloads()[-1].range == f"bytes={there}-"
    # The window is closed: the download goes on, and another window finds it.
    dialog.close()
    panel.session.abandon()
    assert panel.session.checkpoints.getting is None
    other = make_panel()
    found = open_dialog(other, qtbot)
    assert found.button.text() == "Cancel"
    assert other.session.checkpoints.getting.name == "main"
    zenodo.pause = 0
    qtbot.waitUntil(lambda: states(found) == ["here", "not here"], timeout=LONG)
    assert Getting.find() is None


def test_failures_are_told(zenodo: Zenodo, make_panel, qtbot, tmp_path: Path):
    panel = make_panel()
    dialog = open_dialog(panel, qtbot)
    dialog.table.setCurrentItem(dialog.table.topLevelItem(1))
    dialog.button.click()
    qtbot.waitUntil(lambda: "holds no checkpoint" in dialog.words.text(), timeout=LONG)
    assert "holds no checkpoint" in notification_manager.records[-1].message
    assert not zenodo.downloads()


def test_zenodo_is_away_and_comes_back(
    zenodo: Zenodo, make_panel, qtbot, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TERAMIND_ZENODO", "http://127.0.0.1:9/api")
    panel = make_panel()
    dialog = open_dialog(panel, qtbot, rows=0)
    assert "127.0.0.1:9 cannot be reached" in dialog.words.text()
    assert dialog.button.text() == "Ask again"
    photograph(dialog, "published-away")
    monkeypatch.setenv("TERAMIND_ZENODO", zenodo.api)
    dialog.button.click()
    qtbot.waitUntil(lambda: dialog.table.topLevelItemCount() == 2, timeout=LONG)
    assert dialog.button.text() == "Get"
    assert not dialog.button.isEnabled()

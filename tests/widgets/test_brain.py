"""The Brain panel in a real viewer: genes to search and tick, and what the brain holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_teramind.attention import attention_to_store
from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.plugin.contents import attention_words, read_contents, simulation_words
from napari_teramind.simulate.edits import parse_edit
from napari_teramind.widgets.brain import BrainWidget
from napari_teramind.widgets.parts import PANEL_WIDTH
from simulations import keep_simulation

from .hands import add_brain

LONG = 30_000
CHECKED, UNCHECKED = Qt.CheckState.Checked, Qt.CheckState.Unchecked


def keep(brain: BrainStore, name: str, seed: int) -> None:
    image = np.full((2, 2, 64, 64), 99, np.uint8)
    keep_simulation(
        brain, name, image, roi=(0, 64, 0, 64), slices=(0, 2), provenance={"seed": seed}
    )


@pytest.fixture
def held(brain_copy: Path, make_network) -> Path:
    """A brain that holds a simulation and attention."""
    brain = open_brain(brain_copy)
    keep(brain, "first", seed=3)
    network = make_network(genes=8, patch=64)
    network.gene_names = brain.gene_names[1:9]
    network.sha256 = "0123456789abcdef" * 4
    attention_to_store(brain, network, "Nr4a2-Th", [("Nr4a2", "Th")], structures=["TH"])
    return brain_copy


@pytest.fixture
def brain_panel(make_napari_viewer, held: Path, qtbot) -> BrainWidget:
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Brain")
    add_brain(viewer, held)
    qtbot.waitUntil(lambda: len(panel.contents.rows()) == 5, timeout=LONG)
    return panel


def gene_layers(panel: BrainWidget) -> dict[str, bool]:
    return {layer.name: layer.visible for layer in panel.session.layers("gene")}


def tick(panel: BrainWidget, gene: str, state: Qt.CheckState) -> None:
    """Tick a gene as a click on its box does."""
    (index,) = [
        panel.genes.found.index(row, 0)
        for row in range(panel.genes.found.rowCount())
        if panel.genes.found.index(row, 0).data() == gene
    ]
    panel.genes.found.setData(index, state.value, Qt.ItemDataRole.CheckStateRole)


def ticked(panel: BrainWidget) -> set[str]:
    found = panel.genes.found
    rows = [found.index(row, 0) for row in range(found.rowCount())]
    role = Qt.ItemDataRole.CheckStateRole
    return {str(row.data()) for row in rows if Qt.CheckState(row.data(role)) == CHECKED}


def test_genes_are_searched_ticked_and_taken_away(brain_panel, qtbot):
    genes = brain_panel.genes
    assert genes.genes() == sorted(brain_panel.session.brain.gene_names, key=str.casefold)
    qtbot.keyClicks(brain_panel.gene, "slc")
    assert genes.genes() == ["Slc17a6", "Slc17a7"]
    tick(brain_panel, "Slc17a6", CHECKED)
    assert gene_layers(brain_panel)["Slc17a6"]
    brain_panel.gene.clear()
    qtbot.keyClicks(brain_panel.gene, "pval")
    qtbot.keyClick(brain_panel.gene, Qt.Key.Key_Return)  # one gene is left: it is meant
    assert gene_layers(brain_panel)["Pvalb"]
    assert brain_panel.gene.text() == ""
    assert ticked(brain_panel) == {"Slc17a6", "Pvalb"}
    shown = [layer for layer in brain_panel.session.layers("gene") if layer.visible]
    assert len({tuple(layer.colormap.colors[-1]) for layer in shown}) == len(shown) == 2

    tick(brain_panel, "Slc17a6", UNCHECKED)
    assert gene_layers(brain_panel)["Slc17a6"] is False  # hidden: its contrast may be the user's
    brain_panel.session.viewer.layers["Slc17a6"].visible = True
    assert "Slc17a6" in ticked(brain_panel)

    row = genes.genes().index("Slc17a6")
    genes.setCurrentIndex(genes.found.index(row, 0))
    qtbot.keyClick(genes, Qt.Key.Key_Delete)
    assert "Slc17a6" not in gene_layers(brain_panel)
    assert ticked(brain_panel) == {"Pvalb"}
    brain_panel.session.viewer.layers.remove("Pvalb")
    assert ticked(brain_panel) == set()


def test_what_the_brain_holds_is_listed_shown_and_hidden(brain_panel, qtbot):
    viewer, rows = brain_panel.session.viewer, brain_panel.contents.rows()
    assert set(rows) == {
        ("stain", "DAPI"), ("stain", "PolyT"), ("simulation", "first"),
        ("attention", "Nr4a2-Th"), ("structures", "structures"),
    }  # fmt: skip
    assert rows["stain", "DAPI"].checkState(0) == CHECKED
    assert rows["simulation", "first"].checkState(0) == UNCHECKED
    rows["stain", "DAPI"].setCheckState(0, UNCHECKED)
    assert not viewer.layers["DAPI"].visible
    viewer.layers["DAPI"].visible = True
    assert rows["stain", "DAPI"].checkState(0) == CHECKED

    rows["simulation", "first"].setCheckState(0, CHECKED)
    generated = brain_panel.session.layers("simulation")
    assert len(generated) == 2
    assert all(layer.visible for layer in generated)
    for layer in generated:
        viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: rows["simulation", "first"].checkState(0) == UNCHECKED, timeout=LONG)
    for kind, name in (("simulation", "first"), ("attention", "Nr4a2-Th")):
        assert brain_panel.session.layers(kind) == []
        rows[kind, name].setCheckState(0, CHECKED)
        qtbot.waitUntil(lambda kind=kind: brain_panel.session.layers(kind) != [], timeout=LONG)
    viewer.layers.remove("structures")
    rows["structures", "structures"].setCheckState(0, CHECKED)
    qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=LONG)
    assert viewer.layers[-1].name == "structures"


def test_where_a_result_comes_from_is_told(brain_panel):
    rows = brain_panel.contents.rows()
    brain_panel.contents.tree.setCurrentItem(rows["attention", "Nr4a2-Th"])
    told = brain_panel.contents.words.text()
    assert told.startswith("Attention of Nr4a2-Th, within TH, network 01234567; napari-teramind ")
    brain_panel.contents.tree.setCurrentItem(rows["stain", "PolyT"])
    assert brain_panel.contents.words.text() == "The real stain PolyT of tiny, 0.108 µm a pixel."
    assert brain_panel.session.viewer.layers.selection.active.name == "PolyT"


def test_provenance_in_words():
    full = {
        "roi_px": [0, 512, 0, 1024], "slices": [2, 4], "seed": 7, "steps": 15, "sampler": "ddim",
        "halo": 2, "checkpoint_sha256": "ab" * 32, "versions": {"napari-teramind": "1.0"},
    }  # fmt: skip
    assert simulation_words(full, 0.108) == (
        "Generated, slices 2 to 3, 55 x 111 µm, seed 7, 15 steps of DDIM, surround of 2 patches, "
        "network abababab; napari-teramind 1.0."
    )
    assert simulation_words({"slices": [2, 3], "roi_px": [0, 10, 0, 10]}, 0.108) == (
        "Generated, slice 2, 1 x 1 µm."
    )
    assert simulation_words({}, 0.108) == "Generated."
    edits = [parse_edit("Th=0@VTA").to_dict(), parse_edit("Mog*2").to_dict()]
    edited = {"seed": 3, "request": {"edits": edits}}
    assert simulation_words(edited, 0.108) == (
        "Generated with Th knocked out in VTA and Mog times 2, seed 3."
    )
    mean = {"seed": 3, "statistic": "mean", "of": ["a", "b"]}
    assert simulation_words(mean, 0.108) == "Mean of 2 samples, generated."
    assert attention_words({"pairs": [["a", "b"], ["c", "d"]]}) == (
        "Attention of a-b and c-d, everywhere in its region."
    )


def test_contents_follow_what_is_made_meanwhile(brain_panel, held, qtbot):
    keep(open_brain(held), "second", seed=4)
    brain_panel.session.brains_changed.emit()  # as when a generation has ended
    qtbot.waitUntil(lambda: ("simulation", "second") in brain_panel.contents.rows(), timeout=LONG)
    assert [item.name for item in read_contents(str(held)) if item.kind == "simulation"] == [
        "first", "second",
    ]  # fmt: skip


def test_nothing_is_clipped_at_the_stated_width(brain_panel):
    assert brain_panel.minimumSizeHint().width() <= PANEL_WIDTH

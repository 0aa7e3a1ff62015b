"""What somebody sees who opens the panels for the first time: lists, names, tooltips, messages."""

from __future__ import annotations

import gc

from qtpy.QtWidgets import QLineEdit

from napari_teramind.widgets.edits import GeneEdits


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

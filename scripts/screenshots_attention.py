"""The pictures of the Atlas and Attention panels in docs/images.

Works on a phantom brain of its own, which it makes first unless it is there, with the packaged
network, and does in every window what a user would do.

usage: screenshots_attention.py [--work FOLDER] [--images FOLDER] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_picture import virtual_display
from screenshots import (
    ROOT,
    Stage,
    keep_choices_in,
    make_brain,
    open_brain,
    point_at,
    settle,
    take,
    window,
)

if TYPE_CHECKING:
    import napari
    from qtpy.QtWidgets import QWidget

    from napari_teramind.widgets.atlas import AtlasWidget
    from napari_teramind.widgets.attention import AttentionWidget


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], help="default: all")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    for folder in (options.work, options.images):
        folder.mkdir(parents=True, exist_ok=True)
    # Neither the user's napari nor the user's choices and jobs are touched.
    os.environ["NAPARI_CONFIG"] = str(options.work / "napari" / "settings.yaml")
    os.environ["TERAMIND_JOBS"] = str(options.work / "jobs")
    stage = Stage(make_brain(options.work), Path(), options.images)
    shutil.rmtree(stage.brain / "attention", ignore_errors=True)  # of an earlier time
    with virtual_display():
        from napari_teramind.widgets import attention_jobs

        attention_jobs.jobs_folder = lambda: options.work / "attention-jobs"
        keep_choices_in(options.work / "choices-attention")
        for name in options.names or PICTURES:
            PICTURES[name](stage)
            print(f"{name}: done")


def open_atlas(viewer: napari.Viewer) -> AtlasWidget:
    """Open the Atlas panel as the menu does, and wait for its tree."""
    from napari_teramind.widgets.atlas import AtlasWidget

    panel = AtlasWidget(viewer)
    viewer.window.add_dock_widget(panel, name="Atlas (Tera-MIND)", area="right")
    settle(until=lambda: not panel.structures.busy)
    settle()
    viewer.reset_view()
    return panel


def point_at_structure(viewer: napari.Viewer, panel: AtlasWidget, acronym: str) -> None:
    """Move the mouse over a structure, on the slice in view."""
    import numpy as np

    brain = panel.session.brain
    assert brain is not None
    assert brain.structures is not None
    labels = np.asarray(brain.structures.levels[0][panel.session.region.slice_in_view()])
    places = np.argwhere(np.isin(labels, list(panel.structures.current.table.within(acronym))))
    y, x = places[len(places) // 3]
    point_at(viewer, (y + 0.5) / labels.shape[0], (x + 0.5) / labels.shape[1])


def open_attention(viewer: napari.Viewer) -> AttentionWidget:
    """Open the Attention panel as the menu does, and wait for its checkpoint."""
    from napari_teramind.widgets.attention import AttentionWidget

    panel = AttentionWidget(viewer)
    viewer.window.add_dock_widget(panel, name="Attention (Tera-MIND)", area="right")
    if panel.session.brain is not None:
        settle(until=lambda: panel.session.checkpoints.facts() is not None)
    settle()
    viewer.reset_view()
    return panel


def scroll_down(panel: QWidget) -> None:
    """Scroll a panel to its end."""
    from qtpy.QtWidgets import QScrollArea

    for area in panel.findChildren(QScrollArea):
        bar = area.verticalScrollBar()
        bar.setValue(bar.maximum())


# Pictures


def atlas_empty(stage: Stage) -> None:
    """Take the Atlas panel while there is no brain."""
    with window() as viewer:
        open_atlas(viewer)
        take(viewer, stage, "atlas-empty")


def atlas(stage: Stage) -> None:
    """Take the Atlas panel: as it opens, searching, filled, one structure in 3D, as the ROI."""
    with window() as viewer:
        open_brain(viewer, stage, middle=0.55)
        panel = open_atlas(viewer)
        take(viewer, stage, "atlas-tree")
        panel.search.setText("VTA")
        panel.go()
        point_at_structure(viewer, panel, "VTA")
        take(viewer, stage, "atlas-search")
        panel.roi_button.click()
        take(viewer, stage, "atlas-roi")
        viewer.layers.remove("ROI")
        panel.search.clear()
        panel.style_choice.setCurrentIndex(1)
        panel.style_choice.activated.emit(1)
        viewer.reset_view()
        take(viewer, stage, "atlas-filled")
        viewer.dims.ndisplay = 3
        viewer.layers["PolyT"].visible = False
        panel.search.setText("Midbrain")
        panel.only_button.click()
        panel.go()
        viewer.scene.camera.angles = (-15, 30, 15)
        take(viewer, stage, "atlas-3d")


def atlas_light(stage: Stage) -> None:
    """Take the choice of a BrainGlobe atlas, in the light theme."""
    with window("light") as viewer:
        open_brain(viewer, stage)
        panel = open_atlas(viewer)
        at = panel.source.choice.findText("BrainGlobe atlas ...")
        panel.source.choice.setCurrentIndex(at)
        panel.source.choice.activated.emit(at)
        panel.search.setText("hippocampal")
        take(viewer, stage, "atlas-light")


def attention_empty(stage: Stage) -> None:
    """Take the Attention panel while there is no brain."""
    with window() as viewer:
        open_attention(viewer)
        take(viewer, stage, "attention-empty")


def attention(stage: Stage) -> None:
    """Take the Attention panel from the choice of a pair to the result, its table and relief."""
    with window() as viewer:
        open_brain(viewer, stage, middle=0.55)
        panel = open_attention(viewer)
        panel.pair.presets["DOPA"].click()
        take(viewer, stage, "attention-new")
        panel.button.click()
        settle(until=lambda: panel.progress.maximum() > 0)
        take(viewer, stage, "attention-running")
        settle(until=lambda: panel.run is None)
        settle(until=lambda: panel.results.statistics.current is not None)
        take(viewer, stage, "attention-3d")
        viewer.dims.ndisplay = 2
        scroll_down(panel)
        best = panel.results.table.model_.rows[0]
        panel.results.table.selectRow(0)
        panel.results.table.asked.emit(best.id)
        settle()
        take(viewer, stage, "attention-table")
        panel.results.shown_choice.setCurrentIndex(1)
        panel.results.shown_choice.activated.emit(1)
        settle()
        viewer.reset_view()
        take(viewer, stage, "attention-alone")
        panel.results.relief_button.click()
        settle(until=lambda: panel.results.layers.has_relief)
        take(viewer, stage, "attention-relief")


def attention_light(stage: Stage) -> None:
    """Take the panel in the light theme, with structures to compute in."""
    with window("light") as viewer:
        open_brain(viewer, stage, middle=0.55)
        panel = open_attention(viewer)
        panel.pair.choose(("Cldn5", "Aqp4"))
        panel.where.choice.setCurrentIndex(1)
        panel.where.acronyms.setText("HIP, VTA")
        panel.advanced.button.setChecked(True)
        settle(until=lambda: panel.session.structures.own is not None)
        take(viewer, stage, "attention-light")


PICTURES: dict[str, Callable[[Stage], Any]] = {
    "atlas-empty": atlas_empty,
    "atlas": atlas,
    "atlas-light": atlas_light,
    "attention-empty": attention_empty,
    "attention": attention,
    "attention-light": attention_light,
}

if __name__ == "__main__":
    main()

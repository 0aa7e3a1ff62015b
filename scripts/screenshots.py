"""The pictures in docs/images, taken from real napari windows: ``make docs-images``.

Makes a phantom brain in a work folder first, unless it is there, opens a window for every picture
and does in it what a user would do, with the packaged network. On Linux the windows come up on a
virtual display.

usage: screenshots.py [--work FOLDER] [--images FOLDER] [--checkpoint FILE] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo import teramind
from demo_picture import virtual_display

if TYPE_CHECKING:
    import napari

    from napari_teramind.widgets.simulate import SimulateWidget

ROOT = Path(__file__).resolve().parent.parent
WINDOW = (1280, 800)
TERAMIND = (sys.executable, "-m", "napari_teramind")
CLOSE_UP = 6
"""How much closer than the whole slice the close-up is."""


@dataclass(frozen=True)
class Stage:
    """What the pictures are taken of, and where they go."""

    brain: Path
    checkpoint: Path
    images: Path


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], help="default: all")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--checkpoint", type=Path, help="default: the packaged one")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.images.mkdir(parents=True, exist_ok=True)
    # Neither the user's napari nor the user's choices and jobs are touched.
    os.environ["NAPARI_CONFIG"] = str(options.work / "napari" / "settings.yaml")
    os.environ["TERAMIND_JOBS"] = str(options.work / "jobs")
    brain = make_brain(options.work)
    stage = Stage(brain, options.checkpoint or packaged(), options.images)
    with virtual_display():
        keep_choices_in(options.work / "choices")
        for name in options.names or PICTURES:
            PICTURES[name](stage)
            print(f"{name}: done")


def make_brain(work: Path) -> Path:
    """Make the phantom, unless it is there."""
    path = work / "main.zarr"
    if not path.exists():
        teramind("phantom", "-o", path, "--size", "S")
    return path


def packaged() -> Path:
    """Return the network that comes with the package."""
    from napari_teramind.model.packaged import checkpoint_path

    return checkpoint_path(Path("packaged"))


def keep_choices_in(folder: Path) -> None:
    """Keep what our panels remember out of the user's own settings."""
    from qtpy.QtCore import QSettings

    kind, scope = QSettings.Format.IniFormat, QSettings.Scope.UserScope
    QSettings.setPath(kind, scope, str(folder))


# Windows


@contextmanager
def window(theme: str = "dark") -> Iterator[napari.Viewer]:
    """Open a napari window and close it again."""
    import napari

    viewer = napari.Viewer()
    viewer.theme = theme
    viewer.window.resize(*WINDOW)
    settle()
    try:
        yield viewer
    finally:
        viewer.close()
        settle()


def settle(seconds: float = 1.0, until: Callable[[], bool] | None = None) -> None:
    """Let the window work: for a time, or until something has come about."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + (seconds if until is None else 300)
    while time.monotonic() < end and not (until is not None and until()):
        QApplication.processEvents()
        time.sleep(0.005)
    if until is not None and not until():
        raise TimeoutError("the window never got there")


def take(viewer: napari.Viewer, stage: Stage, name: str) -> None:
    """Take a picture of the whole window, with a palette of its own to keep the file small."""
    from PIL import Image

    settle()
    pixels = viewer.screenshot(canvas_only=False, flash=False)
    image = Image.fromarray(pixels[..., :3]).quantize(256, dither=Image.Dither.NONE)
    image.save(stage.images / f"{name}.png", optimize=True)


def open_brain(viewer: napari.Viewer, stage: Stage, middle: float = 0.5) -> None:
    """Open the brain as File > Open does, and go to a slice."""
    viewer.open(str(stage.brain), plugin="napari-teramind")
    settle()
    viewer.reset_view()
    low, high, _ = viewer.dims.range[0]
    viewer.dims.set_point(0, low + middle * (high - low))
    viewer.layers.selection.active = viewer.layers["DAPI"]
    settle()


def open_simulate(viewer: napari.Viewer, stage: Stage) -> SimulateWidget:
    """Open the Simulate panel and choose the checkpoint."""
    from napari_teramind.widgets.simulate import SimulateWidget

    panel = SimulateWidget(viewer)
    viewer.window.add_dock_widget(panel, name="Simulate (Tera-MIND)", area="right")
    panel.session.checkpoints.choose(str(stage.checkpoint))
    settle(until=lambda: panel.session.checkpoints.facts() is not None)
    settle()
    viewer.reset_view()
    return panel


def draw_rectangle(viewer: napari.Viewer, panel: SimulateWidget, share: float = 0.12) -> None:
    """Draw a square of some share of the slice's width, left of the middle."""
    panel.where.where.draw_button.click()
    brain = panel.session.brain
    assert brain is not None
    height, width = (side * brain.pixel_size for side in brain.shape[1:])
    side = share * width
    y, x = 0.42 * height, 0.3 * width
    corners = [[y, x], [y, x + side], [y + side, x + side], [y + side, x]]
    viewer.layers["ROI"].add(corners, shape_type="rectangle")
    settle()
    viewer.scene.camera.center = (0, y + side / 2, x + side / 2)
    viewer.scene.camera.zoom *= 2.5


def point_at(viewer: napari.Viewer, y: float, x: float) -> None:
    """Move the mouse over a place of the slice, given as shares of its height and width."""
    from qtpy.QtCore import QPoint
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    extent = viewer.layers["DAPI"].extent.world
    camera = viewer.scene.camera
    shares = zip((y, x), extent[0][-2:], extent[1][-2:], camera.center[-2:], strict=True)
    dy, dx = ((low + s * (high - low) - centre) * camera.zoom for s, low, high, centre in shares)
    height, width = viewer.canvas.size
    for widget in QApplication.allWidgets():
        if type(widget).__name__ == "CanvasBackendDesktop" and widget.isVisible():
            QTest.mouseMove(widget, QPoint(round(width / 2 + dx), round(height / 2 + dy)))
    settle(0.5)


# Pictures


def store_2d(stage: Stage) -> None:
    """Take a brain as it opens, with the Brain panel."""
    from napari_teramind.widgets.phantom import open_brain_panel

    with window() as viewer:
        open_brain(viewer, stage)
        open_brain_panel(viewer)
        settle()
        viewer.reset_view()
        take(viewer, stage, "store-2d")


def store_3d(stage: Stage) -> None:
    """Take the stack of slices with its structures in 3D."""
    with window() as viewer:
        open_brain(viewer, stage)
        viewer.dims.ndisplay = 3
        settle()
        viewer.reset_view()
        viewer.scene.camera.angles = (-15, 30, 15)
        viewer.scene.camera.zoom *= 0.75
        take(viewer, stage, "store-3d")


def coronal(stage: Stage) -> None:
    """Take a slice with its structures and the name of the one under the mouse."""
    with window() as viewer:
        open_brain(viewer, stage, middle=0.55)
        point_at(viewer, 0.55, 0.42)
        take(viewer, stage, "structures-hover")


def close_up(stage: Stage) -> None:
    """Take transcripts over nuclei."""
    from napari.layers import Layer

    from napari_teramind.brain import open_brain as open_store
    from napari_teramind.plugin.layers import gene_layer

    with window() as viewer:
        open_brain(viewer, stage)
        viewer.layers["structures"].visible = False
        viewer.layers["PolyT"].visible = False
        for gene in ("Slc17a7", "Gad1"):
            viewer.add_layer(Layer.create(*gene_layer(open_store(stage.brain), gene)))
        extent = viewer.layers["DAPI"].extent.world
        centre = extent[0] + (extent[1] - extent[0]) * (0, 0.18, 0.36)
        viewer.scene.camera.center = tuple(centre)
        viewer.scene.camera.zoom *= CLOSE_UP
        take(viewer, stage, "transcripts-over-nuclei")


def simulate(stage: Stage) -> None:
    """Take the Simulate panel before, during and after."""
    for theme in ("dark", "light"):
        with window(theme) as viewer:
            open_brain(viewer, stage)
            panel = open_simulate(viewer, stage)
            draw_rectangle(viewer, panel)
            if theme == "light":
                panel.advanced.button.setChecked(True)
                take(viewer, stage, "simulate-light")
                continue
            take(viewer, stage, "simulate-before")
            panel.button.click()
            settle(until=lambda panel=panel: panel.progress.value() > panel.progress.maximum() / 2)
            take(viewer, stage, "simulate-during")
            settle(until=lambda panel=panel: panel.session.generation is None)
            viewer.layers.selection.active = viewer.layers["DAPI"]
            take(viewer, stage, "simulate-after")


def edits(stage: Stage) -> None:
    """Take a gene knocked out: unedited and edited image, and their difference."""
    from qtpy.QtTest import QTest

    with window() as viewer:
        open_brain(viewer, stage)
        panel = open_simulate(viewer, stage)
        draw_rectangle(viewer, panel, share=0.08)
        viewer.layers["ROI"].visible = viewer.layers["structures"].visible = False
        viewer.scene.camera.zoom *= 1.4
        panel.edit_part.button.setChecked(True)
        panel.edits.compare.setFocus()
        QTest.keyClicks(panel.edits.gene, "Slc17a7")
        panel.edits.add_button.click()
        settle()
        take(viewer, stage, "edit-before")
        panel.button.click()
        settle(until=lambda: panel.session.generation is None)
        settle(until=lambda: len(panel.session.layers("difference")) == 2)
        viewer.layers.selection.active = viewer.layers["DAPI (edited minus unedited)"]
        take(viewer, stage, "edit-after")


def empty(stage: Stage) -> None:
    """Take the Simulate panel while there is no brain."""
    from napari_teramind.widgets.simulate import SimulateWidget

    with window() as viewer:
        viewer.window.add_dock_widget(SimulateWidget(viewer), name="Simulate (Tera-MIND)")
        take(viewer, stage, "simulate-empty")


def brain_panel(stage: Stage) -> None:
    """Take the Brain panel with two genes."""
    from napari_teramind.widgets.brain import BrainWidget

    with window() as viewer:
        open_brain(viewer, stage)
        panel = BrainWidget(viewer)
        viewer.window.add_dock_widget(panel, name="Brain (Tera-MIND)", area="right")
        settle(until=lambda: bool(panel.contents.rows()))
        panel.gene.setText("slc")
        for gene in ("Slc17a6", "Slc17a7"):
            panel.genes.ticked.emit(gene, True)
        panel.contents.tree.setCurrentItem(list(panel.contents.rows().values())[-1])
        viewer.reset_view()
        take(viewer, stage, "brain-panel")


def jobs(stage: Stage) -> None:
    """Take the Jobs panel: one job that is done, one that failed, and one that goes on."""
    from napari_teramind.widgets.jobs import JobsWidget

    folder = stage.brain.parent
    teramind("phantom", "-o", folder / "jobs-small.zarr", "--size", "XS", "--overwrite")
    lacking = [folder / "nowhere.zarr", "--pair", "DOPA"]
    subprocess.run([*TERAMIND, "attention", *map(str, lacking)], check=False, capture_output=True)
    large = [*TERAMIND, "phantom", "-o", str(folder / "jobs-large.zarr"), "--overwrite"]
    with subprocess.Popen(large, stderr=subprocess.DEVNULL) as going, window() as viewer:
        panel = JobsWidget(viewer)
        viewer.window.add_dock_widget(panel, name="Jobs (Tera-MIND)", area="right")
        settle(until=lambda: "left" in panel.words.text())
        take(viewer, stage, "jobs")
        panel.cancel_button.click()
        settle(until=lambda: going.poll() is not None)


def sagittal(stage: Stage) -> None:
    """Take the stack from the side."""
    with window() as viewer:
        open_brain(viewer, stage)
        viewer.dims.order = (2, 1, 0)
        settle()
        viewer.reset_view()
        take(viewer, stage, "sagittal")


PICTURES: dict[str, Callable[[Stage], Any]] = {
    "empty": empty,
    "store-2d": store_2d,
    "store-3d": store_3d,
    "coronal": coronal,
    "sagittal": sagittal,
    "close-up": close_up,
    "simulate": simulate,
    "edits": edits,
    "brain-panel": brain_panel,
    "jobs": jobs,
}

if __name__ == "__main__":
    sys.exit(main())

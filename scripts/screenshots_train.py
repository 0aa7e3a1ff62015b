"""The pictures of the Train panel in docs/images: new, running, finished, stopped by force.

Makes two phantom brains in a work folder first, unless they are there, and trains a network on
them for some minutes, from the panel itself.

usage: screenshots_train.py [--work FOLDER] [--images FOLDER] [--steps N]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from demo import teramind
from demo_picture import virtual_display
from screenshots import ROOT, Stage, keep_choices_in, settle, take, window

if TYPE_CHECKING:
    import napari

    from napari_teramind.widgets.train import TrainWidget

ANIMALS = {"supp_m": "XS", "supp_f": "XS"}


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=2, help="larger: smoother, and slower")
    options = parser.parse_args()
    for folder in (options.work, options.images):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["NAPARI_CONFIG"] = str(options.work / "napari" / "settings.yaml")
    os.environ["TERAMIND_JOBS"] = str(options.work / "jobs")
    brains = [make_brain(options.work, animal) for animal in ANIMALS]
    stage = Stage(brains[0], Path(), options.images)
    with virtual_display():
        from napari_teramind.widgets import train_closing

        keep_choices_in(options.work / "choices-train")
        train_closing.ask = lambda window, folder: train_closing.KEEP
        train_pictures(stage, brains, options.work / "runs", options.steps, options.batch)


def make_brain(work: Path, animal: str) -> Path:
    """Make a phantom, unless it is there."""
    path = work / f"{animal}.zarr"
    if not path.exists():
        teramind("phantom", "-o", path, "--animal", animal, "--size", ANIMALS[animal])
    return path


def train_pictures(stage: Stage, brains: list[Path], runs: Path, steps: int, batch: int) -> None:
    """Take the panel before, during and after a training."""
    with window() as viewer:
        panel = open_train(viewer)
        take(viewer, stage, "train-empty")
    with window() as viewer:
        panel = open_train(viewer)
        for brain in brains:
            viewer.open(str(brain), plugin="napari-teramind")
            settle()
        viewer.reset_view()
        panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData(str(brains[1])))
        panel.what.hold_out.activated.emit(1)
        set_up(panel, runs, steps, batch)
        panel.estimate_button.click()
        wait(lambda: not panel.estimating.is_going)
        take(viewer, stage, "train-new")
        panel.start_button.click()
        watch = panel.watch
        assert watch is not None
        wait(lambda: len(watch.view.samples) > 1)
        take(viewer, stage, "train-running")
        wait(lambda: not watch.view.is_going)
        take(viewer, stage, "train-finished")
        panel.progress.resume_button.click()
    with window("light") as viewer:
        panel = open_train(viewer)
        watch = panel.watch
        assert watch is not None, "the run was not found again"
        wait(lambda: watch.view.record is not None and watch.view.record.step > steps)
        panel.stop()
        panel.stop()
        wait(lambda: not watch.view.is_going)
        take(viewer, stage, "train-stopped-light")


def wait(until: Callable[[], bool], minutes: float = 60) -> None:
    """Let the window work while the training does."""
    end = time.monotonic() + 60 * minutes
    while not until():
        settle(0.5)
        if time.monotonic() > end:
            raise TimeoutError("the training never got there")


def open_train(viewer: napari.Viewer) -> TrainWidget:
    """Open the panel as the menu does."""
    from napari_teramind.widgets.train import TrainWidget

    panel = TrainWidget(viewer)
    viewer.window.add_dock_widget(panel, name="Train (Tera-MIND)", area="right")
    settle()
    return panel


def set_up(panel: TrainWidget, runs: Path, steps: int, batch: int) -> None:
    """Ask for a short run with a picture now and then."""
    number = 1
    while (runs / f"run-{number}").exists():
        number += 1
    panel.settings.folder.setText(str(runs / f"run-{number}"))
    panel.settings.patch.setCurrentText("32")  # less than the packaged size, to be done in minutes
    panel.settings.batch.setValue(batch)
    panel.how.steps.setValue(steps)


if __name__ == "__main__":
    main()

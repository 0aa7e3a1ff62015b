"""A picture of a real napari window: a region of a brain beside its generated twin.

usage: demo_picture.py BRAIN SIMULATION PICTURE.png
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind import open_brain

if TYPE_CHECKING:
    import napari

    from napari_teramind.brain import BrainStore

WINDOW = (1500, 900)


def main(path: str, name: str, picture: str) -> None:
    """Open the window, take the picture, close it."""
    # Neither reads nor changes the user's own napari.
    settings = Path(picture).resolve().parent / "napari" / "settings.yaml"
    os.environ.setdefault("NAPARI_CONFIG", str(settings))
    with virtual_display():
        import napari
        from qtpy.QtWidgets import QApplication

        viewer = napari.Viewer(title=path)
        viewer.window.resize(*WINDOW)
        show(viewer, open_brain(path), name)
        # The window gets its size and the canvas its pixels while events are handled.
        end = time.monotonic() + 2
        while time.monotonic() < end:
            QApplication.processEvents()
            viewer.fit_to_view(margin=0.12)
        viewer.screenshot(picture, canvas_only=False, flash=False)
        viewer.close()


def virtual_display() -> AbstractContextManager[Any]:
    """A display that needs no screen, on Linux; elsewhere the window comes up for a moment."""
    if sys.platform != "linux":
        return nullcontext()
    from pyvirtualdisplay.display import Display

    width, height = WINDOW
    return Display(visible=False, size=(width + 100, height + 100), color_depth=24)


def show(viewer: napari.Viewer, brain: BrainStore, name: str) -> None:
    """Add the first slice of the real region on the left, and of the generated on the right."""
    generated = brain.simulations[name]
    job = generated.attributes["teramind"]
    roi, slices = job["roi"], job["slices"]
    real = brain.read_stains(tuple(roi), tuple(slices))
    made = np.asarray(generated.levels[0][:])
    height, width = (side * brain.pixel_size for side in real.shape[-2:])
    corners = []
    for x, image, words in ((0.0, real, "real"), (1.04 * width, made, f"generated, {name}")):
        for channel, planes in zip(brain.stains.channels, image, strict=True):
            viewer.add_image(
                planes[0],
                name=f"{channel.name} ({words})",
                scale=(brain.pixel_size, brain.pixel_size),
                translate=(0, x),
                colormap=f"#{channel.color}",
                contrast_limits=channel.window,
                blending="additive",
                units=("um", "um"),
            )
        corners.append([[0, x], [0, x + width], [height, x + width], [height, x]])
    viewer.add_shapes(
        corners,
        name="what is what",
        face_color="transparent",
        edge_color="white",
        edge_width=0.1,
        opacity=1.0,
        features={"words": ["real", f"generated ({name})"]},
        text={"string": "{words}", "color": "white", "anchor": "upper_left", "size": 14},
        units=("um", "um"),
    )
    viewer.canvas.overlays.scale_bar.visible = True


if __name__ == "__main__":
    main(*sys.argv[1:])

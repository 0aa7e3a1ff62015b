"""A picture of a real napari window: an attention result in 3D, with structures and their ranking.

usage: demo_attention.py BRAIN RESULT PICTURE.png
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from demo_picture import WINDOW, virtual_display

PATIENCE = 300


def main(brain: str, result: str, picture: str) -> None:
    """Open the window, show the result as a user would, take the picture."""
    # Neither reads nor changes the user's own napari.
    settings = Path(picture).resolve().parent / "napari" / "settings.yaml"
    os.environ.setdefault("NAPARI_CONFIG", str(settings))
    with virtual_display():
        import napari

        from napari_teramind.widgets.attention import AttentionWidget

        viewer = napari.Viewer(title=brain)
        viewer.window.resize(*WINDOW)
        viewer.open(brain, plugin="napari-teramind")
        panel = AttentionWidget(viewer)
        viewer.window.add_dock_widget(panel, name="Attention (Tera-MIND)", area="right")
        settle(lambda: False, seconds=1)
        results = panel.results
        results.result_choice.setCurrentIndex(results.result_choice.findData(result))
        results.result_choice.activated.emit(results.result_choice.currentIndex())
        results.show_button.click()
        settle(lambda: viewer.dims.ndisplay == 3 and results.statistics.current is not None)
        settle(lambda: False, seconds=2)
        viewer.screenshot(picture, canvas_only=False, flash=False)
        viewer.close()


def settle(until: Callable[[], bool], seconds: float | None = None) -> None:
    """Let the window work until something has come about, or for a time."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + (PATIENCE if seconds is None else seconds)
    while time.monotonic() < end and not until():
        QApplication.processEvents()
        time.sleep(0.005)
    if seconds is None and not until():
        raise TimeoutError("the window never got there")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Working a Train panel, for its tests."""

from __future__ import annotations

from napari_teramind.widgets.train import TrainWidget

LONG = 90_000  # ms; a training process loads torch, on a machine that does other things too


def hold_out_rectangle(panel: TrainWidget, roi: tuple[int, int, int, int]) -> None:
    """Draw a rectangle as the user does, but for the mouse."""
    panel.what.draw_button.click()
    y0, y1, x0, x1 = ((v - 0.5) * 0.108 for v in roi)
    corners = [[y0, x0], [y0, x1], [y1, x1], [y1, x0]]
    panel.session.viewer.layers["ROI"].add(corners, shape_type="rectangle")


def make_small(panel: TrainWidget, steps: int) -> None:
    """Ask for a network that takes a fraction of a second for a step."""
    panel.settings.channels.setValue(4)
    panel.settings.patch.setCurrentText("32")
    panel.settings.batch.setValue(2)
    panel.how.steps.setValue(steps)


def step_of(panel: TrainWidget) -> int:
    view = panel.watch.view if panel.watch is not None else None
    return view.record.step if view is not None and view.record is not None else 0


def state_of(panel: TrainWidget) -> str:
    return panel.watch.view.state if panel.watch is not None else "new"

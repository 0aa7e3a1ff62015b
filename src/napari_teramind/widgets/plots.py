"""Plots that look like the rest of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.theme import get_theme

if TYPE_CHECKING:
    import pyqtgraph as pg
    from napari import Viewer


def follow_theme(plot: pg.PlotWidget, viewer: Viewer) -> None:
    """Let a plot take the viewer's colours, now and when they change."""
    viewer.events.theme.connect(lambda event: _dress(plot, event.value))
    _dress(plot, viewer.theme)


def _dress(plot: pg.PlotWidget, name: str) -> None:
    theme = get_theme(name)
    plot.setBackground(theme.canvas.as_hex() if name == "light" else theme.background.as_hex())
    for side in ("bottom", "left"):
        axis = plot.getAxis(side)
        axis.setPen(theme.secondary.as_hex())
        axis.setTextPen(theme.text.as_hex())

"""How attention goes with expression, as in the paper's Fig. 3c."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import ref

import pyqtgraph as pg
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_teramind.widgets.parts import sentence
from napari_teramind.widgets.plots import follow_theme

if TYPE_CHECKING:
    from napari import Viewer

COLOR = "#E69F00"
HEIGHT = 150
BELOW = 6
"""Room below the axis, into which pyqtgraph lets the axis' label reach."""


class TrendPlot(QWidget):
    """The mean of attention by expression, with its standard deviation as a band.

    Parameters
    ----------
    viewer
        Whose theme the plot follows.
    """

    def __init__(self, viewer: Viewer | None) -> None:
        super().__init__()
        self._viewer = None if viewer is None else ref(viewer)
        self.heading = QLabel("Attention by expression")
        self.words = sentence()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._layout.addWidget(self.heading)
        self._layout.addWidget(self.words)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    @cached_property
    def plot(self) -> pg.PlotWidget:
        """The plot, made when there is a trend to draw: it takes a while."""
        plot = pg.PlotWidget()
        plot.setFixedHeight(HEIGHT)
        plot.setMinimumWidth(120)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setMouseEnabled(x=False, y=False)
        plot.setLabel("bottom", "log2(counts of the pair + 1)")
        plot.getPlotItem().layout.setContentsMargins(0, 0, 0, BELOW)
        self._layout.insertWidget(1, plot)
        viewer = None if self._viewer is None else self._viewer()
        if viewer is not None:
            follow_theme(plot, viewer)
        return plot

    @cached_property
    def _curves(self) -> tuple[pg.PlotDataItem, pg.PlotDataItem, pg.PlotDataItem]:
        """Low edge, mean, high edge."""
        low, mean, high = (self.plot.plot([], []) for _ in range(3))
        fill = pg.mkColor(COLOR)
        fill.setAlpha(60)
        self.plot.addItem(pg.FillBetweenItem(low, high, brush=fill))
        mean.setPen(pg.mkPen(COLOR, width=2))
        for edge in (low, high):
            edge.setPen(None)
        return low, mean, high

    @property
    def line(self) -> pg.PlotDataItem:
        """The mean."""
        return self._curves[1]

    def show_trend(self, trend: dict[str, Any] | None) -> None:
        """Draw a trend as the job `structures` tells it; None draws nothing."""
        self.setVisible(trend is not None)
        if trend is None:
            return
        line = trend["line"]
        x, mean, std = line["expression"], line["mean"], line["std"]
        low, line_of_means, high = self._curves
        line_of_means.setData(x, mean)
        low.setData(x, [m - s for m, s in zip(mean, std, strict=True)])
        high.setData(x, [m + s for m, s in zip(mean, std, strict=True)])
        self.words.setText(_words(trend["pearson"], trend["bins"]))


def _words(pearson: float | None, bins: int) -> str:
    if pearson is None or pearson != pearson:
        return f"No correlation can be told from {bins:,} bins."
    return f"log2(n attention + 1), mean and spread; r = {pearson:.2f} in {bins:,} bins"

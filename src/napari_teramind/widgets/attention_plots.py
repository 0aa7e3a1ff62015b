"""How attention goes with expression, as in the paper's Fig. 3c."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_teramind.widgets.parts import sentence

COLOR = "#E69F00"
HEIGHT = 150


class TrendPlot(QWidget):
    """The mean of attention by expression, with its standard deviation as a band."""

    def __init__(self) -> None:
        super().__init__()
        self.heading = QLabel("Attention by expression")
        self.plot = pg.PlotWidget()
        self.plot.setFixedHeight(HEIGHT)
        self.plot.setMinimumWidth(120)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setLabel("bottom", "log2(counts of the pair + 1)")
        self.words = sentence()
        self._low, self._high = self.plot.plot([], []), self.plot.plot([], [])
        fill = pg.mkColor(COLOR)
        fill.setAlpha(60)
        self._band = pg.FillBetweenItem(self._low, self._high, brush=fill)
        self.plot.addItem(self._band)
        self.line = self.plot.plot([], [])
        self.line.setPen(pg.mkPen(COLOR, width=2))
        for edge in (self._low, self._high):
            edge.setPen(None)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in (self.heading, self.plot, self.words):
            layout.addWidget(widget)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def show_trend(self, trend: dict[str, Any] | None) -> None:
        """Draw a trend as the job `structures` tells it; None draws nothing."""
        self.setVisible(trend is not None)
        if trend is None:
            return
        line = trend["line"]
        x, mean, std = line["expression"], line["mean"], line["std"]
        self.line.setData(x, mean)
        self._low.setData(x, [m - s for m, s in zip(mean, std, strict=True)])
        self._high.setData(x, [m + s for m, s in zip(mean, std, strict=True)])
        self.words.setText(_words(trend["pearson"], trend["bins"]))


def _words(pearson: float | None, bins: int) -> str:
    if pearson is None or pearson != pearson:
        return f"No correlation can be told from {bins:,} bins."
    return f"log2(n attention + 1), mean and spread; r = {pearson:.2f} in {bins:,} bins"

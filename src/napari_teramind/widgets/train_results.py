"""The part of the Train panel that shows: the loss as it falls, and what is generated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPixmap, QResizeEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QSlider, QVBoxLayout, QWidget

from napari_teramind.widgets.parts import sentence
from napari_teramind.widgets.plots import follow_theme
from napari_teramind.widgets.train_watch import RunView

if TYPE_CHECKING:
    from napari import Viewer

# Okabe and Ito's blue and orange, which differ for every eye and on both themes.
TRAINING, VALIDATION = "#56B4E9", "#E69F00"
PLOT_HEIGHT = 150
SMOOTH = 25
"""Points over which the drawn loss is averaged; the single ones are drawn faintly."""


class LossPlot(QWidget):
    """Training loss by step, and the held-out loss as points."""

    def __init__(self) -> None:
        super().__init__()
        self.plot = pg.PlotWidget()
        self.plot.setFixedHeight(PLOT_HEIGHT)
        self.plot.setMinimumWidth(120)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self._faint = self.plot.plot([], [])
        self._smooth = self.plot.plot([], [])
        self._points = self.plot.plot([], [])
        self.legend = QLabel(
            f'Loss by step: <span style="color:{TRAINING}">&#9632;</span> training, '
            f'<span style="color:{VALIDATION}">&#9679;</span> held out'
        )
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.plot)
        layout.addWidget(self.legend)
        self._smooth.setPen(pg.mkPen(TRAINING, width=2))
        self._points.setPen(pg.mkPen(VALIDATION, width=1))
        self._points.setSymbol("o")
        self._points.setSymbolSize(5)
        self._points.setSymbolBrush(VALIDATION)
        self._points.setSymbolPen(None)
        faint = pg.mkColor(TRAINING)
        faint.setAlpha(90)
        self._faint.setPen(pg.mkPen(faint, width=1))

    def follow_theme(self, viewer: Viewer) -> None:
        """Take the viewer's colours, now and when they change."""
        follow_theme(self.plot, viewer)

    def show_view(self, view: RunView) -> None:
        """Draw the curves of a run."""
        steps, losses = view.training
        self._faint.setData(list(steps), list(losses))
        self._smooth.setData(list(steps), _smoothed(list(losses)))
        self._points.setData(list(view.validation[0]), list(view.validation[1]))


class Samples(QWidget):
    """The pictures of a run; the latest one unless the user looks back."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = Picture()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Look back at earlier pictures")
        self.caption = sentence()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        heading = QHBoxLayout()
        for words in ("Real", "Generated"):
            label = QLabel(words)
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            heading.addWidget(label, 1)
        layout.addLayout(heading)
        layout.addWidget(self.picture)
        layout.addWidget(self.slider)
        layout.addWidget(self.caption)
        self._view: RunView | None = None
        self._shown: Path | None = None
        self.slider.valueChanged.connect(self._show)

    def show_view(self, view: RunView) -> None:
        """Show the pictures of a run; the latest one, if that is what was shown."""
        before = len(self._view.samples) if self._view is not None else 0
        latest = self.slider.value() >= before - 1
        if self._view is not None and self._view.folder != view.folder:
            latest, self._shown = True, None
        self._view = view
        count = len(view.samples)
        self.slider.setRange(0, max(0, count - 1))
        self.slider.setVisible(count > 1)
        if latest:
            self.slider.setValue(count - 1)
        self._show()

    def _show(self, *_: Any) -> None:
        view = self._view
        if view is None or not view.samples:
            return
        step, path = view.samples[min(self.slider.value(), len(view.samples) - 1)]
        if path != self._shown:
            self._shown = path
            self.picture.show_file(path)
        scores = view.scores.get(step, {})
        # The rows of the picture are the stains, in the order of the scores.
        stains = [name.removeprefix("psnr ") for name in scores if name.startswith("psnr")]
        told = [
            f"{stain}: PSNR {scores[f'psnr {stain}']:.1f} dB, SSIM {scores[f'ssim {stain}']:.2f}"
            for stain in stains
        ]
        self.caption.setText("<br>".join([f"Step {step:,}", *told]))


class Picture(QLabel):
    """A picture that fills the width that there is."""

    def __init__(self) -> None:
        super().__init__()
        self._pixmap = QPixmap()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_file(self, path: Path) -> None:
        """Show a picture."""
        self._pixmap = QPixmap(str(path))
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fill the new width."""
        super().resizeEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:
        """As wide as may be."""
        return QSize(200, self.height())

    def _fit(self) -> None:
        if self._pixmap.isNull() or self.width() < 2:
            return
        mode = Qt.TransformationMode.SmoothTransformation
        scaled = self._pixmap.scaledToWidth(self.width(), mode)
        self.setFixedHeight(scaled.height())
        self.setPixmap(scaled)


def _smoothed(values: list[float]) -> list[float]:
    """Return running means, over what there is at the beginning."""
    total, means = 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - SMOOTH] if i >= SMOOTH else 0)
        means.append(total / min(i + 1, SMOOTH))
    return means

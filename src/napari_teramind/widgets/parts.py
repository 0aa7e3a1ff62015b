"""Small pieces of which the panels are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QFontMetrics, QWheelEvent
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QScrollArea,
    QScrollBar,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.model.packaged import RUN_WEIGHTS

MARGIN = 8
ADVANCED = "Settings that are good as they are"
PRIMARY_HEIGHT = 32
LONGEST_NAME = 22
"""Characters that a drop-down of a narrow panel can show."""
POLL_MS = 1000
"""How often what others change is looked at."""
PANEL_WIDTH = 320
"""Width at which nothing in a panel may be clipped."""


def sentence(text: str = "", *, plain: bool = False) -> QLabel:
    """Return a label that wraps and never forces a panel to be wide.

    Parameters
    ----------
    text
        May be simple HTML.
    plain
        Show all text as it is, as where it tells what the user typed, or names of files.
    """
    label = QLabel(text)
    if plain:
        label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
    label.setOpenExternalLinks(True)
    # Text that can be selected takes the focus from a click only, and never stops the tab key.
    label.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


class WhileShown(QTimer):
    """Looks after something when a widget is shown, and every second as long as it is.

    Parameters
    ----------
    widget
        Which; the timer goes with it.
    look
        Called without arguments.
    """

    def __init__(self, widget: QWidget, look: Callable[[], None]) -> None:
        super().__init__(widget)
        self._look = look
        self.setInterval(POLL_MS)
        self.timeout.connect(look)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Begin when the widget is shown, and rest while it is hidden."""
        if event is not None and event.type() == QEvent.Type.Show:
            self._look()
            self.start()
        elif event is not None and event.type() == QEvent.Type.Hide:
            self.stop()
        return False


def form() -> QGridLayout:
    """Return a grid of labels and fields that lines up with all other such grids."""
    layout = QGridLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setColumnMinimumWidth(0, QFontMetrics(QApplication.font()).horizontalAdvance("M" * 8))
    layout.setColumnStretch(1, 1)
    return layout


class Foldable(QWidget):
    """A titled part of a panel that folds away.

    Parameters
    ----------
    title, tip
        Of the button that folds it.
    content
        What folds.
    open_
        Whether it is unfolded at first.
    """

    def __init__(
        self, title: str, content: QWidget, tip: str = ADVANCED, *, open_: bool = False
    ) -> None:
        super().__init__()
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setToolTip(tip)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.content = content
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(content)
        self.button.toggled.connect(self._fold)
        self.button.setChecked(open_)
        self._fold(open_)

    def _fold(self, is_open: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.button.setArrowType(arrow)
        self.content.setVisible(is_open)


class PathChoice(QComboBox):
    """A drop-down of paths: shows names, tells whole paths in tooltips, never grows wide.

    Parameters
    ----------
    more
        An entry below the paths, for getting more of them.
    tip
        What is chosen here, where nothing is.
    """

    chosen = Signal(str)
    """The user picked a path."""
    asked_for_more = Signal()
    """The user picked the entry below the paths."""

    def __init__(self, more: str = "", tip: str = "") -> None:
        super().__init__()
        self._more, self._tip = more, tip
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.activated.connect(self._on_activated)

    def _on_activated(self, index: int) -> None:
        path = self.itemData(index)
        if path is None:
            self.asked_for_more.emit()
        else:
            self.chosen.emit(path)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Let the wheel scroll the panel where it could stumble over the last entry."""
        if self._more and event is not None:
            event.ignore()
        else:
            super().wheelEvent(event)

    def show_paths(self, paths: list[str], current: str | None) -> None:
        """Offer paths; weights of runs, and two of one name, are told apart by their folders."""
        names = [Path(path).name.removesuffix(".safetensors") for path in paths]
        self.clear()
        for path, name in zip(paths, names, strict=True):
            double = names.count(name) > 1 or Path(path).name in RUN_WEIGHTS
            self.addItem(short(f"{name} ({Path(path).parent.name})" if double else name), path)
            self.setItemData(self.count() - 1, path, Qt.ItemDataRole.ToolTipRole)
        if self._more:
            self.insertSeparator(self.count())
            self.addItem(self._more)
            view = self.view()
            if view is not None:  # which is as narrow as the panel otherwise
                view.setMinimumWidth(view.sizeHintForColumn(0) + 2 * MARGIN)
        if current in paths:
            self.setCurrentIndex(paths.index(current))
        self.setToolTip(current or self._tip)


class Scrolling(QScrollArea):
    """Lets a panel's content scroll up and down, and only so, on small screens."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the tab key would stop at nothing to be seen
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._bar = QScrollBar()
        self.setVerticalScrollBar(self._bar)
        self._content = content
        self.setWidget(content)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Tell the panel when the content needs more width, as when a part of it is shown."""
        if watched is self._content and event and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def minimumSizeHint(self) -> QSize:
        """Never narrower than what is inside, which could not be reached then."""
        return QSize(self._content_width(), super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        """As wide as a panel should be."""
        return QSize(max(PANEL_WIDTH, self._content_width()), super().sizeHint().height())

    def _content_width(self) -> int:
        return self._content.minimumSizeHint().width() + self._bar.sizeHint().width()


def short(name: str) -> str:
    """Leave out the middle of a long name, as Qt would cut off its end without a sign."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}...{name[-6:]}"


def italic(gene: str) -> str:
    """Return a gene symbol as biologists write it, as HTML."""
    return f"<i>{gene}</i>"


def micrometers(pixels: float, pixel_size: float) -> str:
    """Return a length as people say it: "55 µm", "1.2 mm"."""
    length = pixels * pixel_size
    if length >= 1000:
        return f"{length / 1000:.3g} mm"
    return f"{length:.3g} µm" if length < 100 else f"{length:.0f} µm"

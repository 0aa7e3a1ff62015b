"""The mouse and the keys of a user, for the tests."""

from __future__ import annotations

from pathlib import Path

from napari.layers import Layer
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication, QComboBox, QMenu, QScrollArea, QWidget

from napari_teramind.brain import open_brain
from napari_teramind.plugin.layers import brain_layers

TYPING_MS = 20
"""Between two things that the user does: nobody is faster, and the window answers in between."""


def click(qtbot, widget: QWidget) -> None:
    """Press the left button on the middle of a widget, scrolled to as a user would."""
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            parent.ensureWidgetVisible(widget)
        parent = parent.parentWidget()
    QApplication.processEvents()
    assert widget.isVisible(), widget
    assert widget.isEnabled(), widget
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)
    qtbot.wait(TYPING_MS)


def choose(qtbot, window, *titles: str) -> None:
    """Click through menus, from the menu bar to an entry."""
    place = window._qt_window.menuBar()
    for title in titles:
        actions = {action.text().replace("&", ""): action for action in place.actions()}
        action = next((a for text, a in actions.items() if text.startswith(title)), None)
        assert action is not None, (title, list(actions))
        if isinstance(place, QMenu):
            qtbot.waitUntil(place.isVisible, timeout=5000)
        spot = place.actionGeometry(action).center()
        if isinstance(place, QMenu) and action.menu() is not None:
            place.setActiveAction(action)  # as the mouse that rests on it does, but at once
        qtbot.mouseClick(place, Qt.MouseButton.LeftButton, pos=spot)
        place = action.menu()


def write(qtbot, field: QWidget, text: str, enter: bool = True) -> None:
    """Click a field, take away what it holds, and type."""
    click(qtbot, field)
    qtbot.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClicks(field, text, delay=TYPING_MS)
    if enter:
        qtbot.keyClick(field, Qt.Key.Key_Return, delay=TYPING_MS)


def choose_item(qtbot, box: QComboBox, title: str) -> None:
    """Choose an entry of a drop-down by typing its name."""
    box.setFocus()
    qtbot.wait(QApplication.keyboardInputInterval() + TYPING_MS)  # else it goes on with the last
    qtbot.keyClicks(box, title)
    qtbot.waitUntil(lambda: box.currentText() == title, timeout=5000)


def look_around(viewer, qtbot) -> None:
    """Come nearer and go back with the wheel, drag the view, go through slices."""
    canvas = viewer.window._qt_viewer.canvas.native
    middle = QPointF(canvas.width() / 2, canvas.height() / 2)
    none = Qt.MouseButton.NoButton
    for turn in (120, 120, 120, -120, -120, -120):
        event = QWheelEvent(
            middle, canvas.mapToGlobal(middle), QPoint(0, 0), QPoint(0, turn), none,
            Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(canvas, event)
        qtbot.wait(150)
    for away in (40, -40):
        _move(canvas, qtbot, [middle, middle + QPointF(away, away / 2)])
        qtbot.wait(150)
    depth = viewer.dims.nsteps[0]
    start = viewer.dims.current_step[0]
    for step in range(4):
        viewer.dims.set_current_step(0, (start + step + 1) % depth)
        qtbot.wait(200)
    viewer.dims.set_current_step(0, start)
    qtbot.wait(200)


def drag(viewer, qtbot, start: tuple[int, int], stop: tuple[int, int]) -> None:
    """Drag the mouse over the canvas from one pixel of the brain to another."""
    canvas = viewer.window._qt_viewer.canvas.native
    camera = viewer.scene.camera

    def place(share: float) -> QPointF:
        y, x = (
            ((a + share * (b - a)) * 0.108 - c) * camera.zoom
            for a, b, c in zip(start, stop, camera.center[-2:], strict=True)
        )
        return QPointF(canvas.width() / 2 + x, canvas.height() / 2 + y)

    _move(canvas, qtbot, [place(share) for share in (0, 0.3, 0.6, 1)])


def _move(canvas: QWidget, qtbot, places: list[QPointF]) -> None:
    """Press the left button at the first place, and let it go at the last."""
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton

    def send(kind: QEvent.Type, place: QPointF, button: Qt.MouseButton) -> None:
        buttons = none if kind == QEvent.Type.MouseButtonRelease else left
        # Not qtbot's: its moves say that no button is pressed.
        event = QMouseEvent(
            kind, place, canvas.mapToGlobal(place), button, buttons, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(canvas, event)
        qtbot.wait(30)  # vispy skips moves in quick succession

    send(QEvent.Type.MouseButtonPress, places[0], left)
    for place in places[1:]:
        send(QEvent.Type.MouseMove, place, none)
    send(QEvent.Type.MouseButtonRelease, places[-1], left)


def add_brain(viewer, path: Path | str) -> None:
    """Open a brain, all at once."""
    for layer in brain_layers(open_brain(path)):
        viewer.add_layer(Layer.create(*layer))

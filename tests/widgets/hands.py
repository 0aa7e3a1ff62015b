"""The mouse and the keys of a user, for the tests."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QMenu, QScrollArea, QWidget


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
    qtbot.keyClicks(field, text)
    if enter:
        qtbot.keyClick(field, Qt.Key.Key_Return)


def drag(viewer, qtbot, start: tuple[int, int], stop: tuple[int, int]) -> None:
    """Drag the mouse over the canvas from one pixel of the brain to another."""
    canvas = viewer.window._qt_viewer.canvas.native
    camera = viewer.scene.camera
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton

    def send(kind: QEvent.Type, share: float, button: Qt.MouseButton) -> None:
        y, x = (
            ((a + share * (b - a)) * 0.108 - c) * camera.zoom
            for a, b, c in zip(start, stop, camera.center[-2:], strict=True)
        )
        place = QPointF(canvas.width() / 2 + x, canvas.height() / 2 + y)
        buttons = none if kind == QEvent.Type.MouseButtonRelease else left
        # Not qtbot's: its moves say that no button is pressed.
        event = QMouseEvent(
            kind, place, canvas.mapToGlobal(place), button, buttons, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(canvas, event)
        qtbot.wait(30)  # vispy skips moves in quick succession

    send(QEvent.Type.MouseButtonPress, 0, left)
    for share in (0.3, 0.6, 1):
        send(QEvent.Type.MouseMove, share, none)
    send(QEvent.Type.MouseButtonRelease, 1, left)

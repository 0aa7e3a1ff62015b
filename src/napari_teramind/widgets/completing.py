"""Completion of what is typed, by any part of a name, in a list that looks like napari."""

from __future__ import annotations

from napari.qt import get_current_stylesheet
from qtpy.QtCore import QEvent, QObject, QStringListModel, Qt
from qtpy.QtWidgets import QAbstractItemView, QCompleter, QLineEdit


def complete(
    field: QLineEdit, words: QStringListModel, completer: QCompleter | None = None
) -> None:
    """Complete what is typed into a field.

    Parameters
    ----------
    field
        The field.
    words
        What there is to choose from.
    completer
        One that completes in a way of its own.
    """
    completer = QCompleter(field) if completer is None else completer
    completer.setModel(words)
    completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
    completer.setFilterMode(Qt.MatchFlag.MatchContains)
    field.setCompleter(completer)
    popup = completer.popup()
    if popup is not None:
        popup.installEventFilter(_Themed(completer, popup))


class _Themed(QObject):
    """Gives a list napari's theme: it is a window of its own, and inherits nobody's.

    Parameters
    ----------
    completer
        Lives as long as its field. The list's own Python object does not, and would take this one
        with it.
    popup
        The completer's list.
    """

    def __init__(self, completer: QCompleter, popup: QAbstractItemView) -> None:
        super().__init__(completer)
        self._popup = popup
        self._style = ""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the theme of the moment when the list opens."""
        if event is not None and event.type() == QEvent.Type.Show:
            style = get_current_stylesheet()
            if style != self._style:
                self._style = style
                self._popup.setStyleSheet(style)
        return super().eventFilter(watched, event)

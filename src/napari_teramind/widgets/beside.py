"""Reading beside the event loop, in a thread that nobody has to wait for when napari closes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer

from napari_teramind.errors import UserError
from napari_teramind.plugin.remote import strictly

POLL_MS = 30


class Beside(QObject):
    """Calls a function in a thread of its own, and tells its result in the event loop.

    The result is asked for, not sent: a thread that ends after the window has gone finds nobody
    to call, which Qt would not forgive. What is computed for long belongs into a job.

    A connection that is lost is an error here, which is told once: only what napari draws must do
    without what it cannot have.

    Parameters
    ----------
    parent
        If it goes, nothing is told any more.
    function, arguments
        What to call; a `UserError` is a result too.
    then
        Called with the result, or with the sentence of a `UserError`.
    """

    def __init__(
        self,
        parent: QObject,
        function: Callable[..., Any],
        *arguments: Any,
        then: Callable[[Any], None],
    ) -> None:
        super().__init__(parent)
        self._function, self._arguments, self._then = function, arguments, then
        self._results: list[Any] = []
        self._error: BaseException | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._timer.start()

    def _run(self) -> None:
        try:
            with strictly():
                self._results.append(self._function(*self._arguments))
        except UserError as error:
            self._results.append(str(error))
        except BaseException as error:  # told where the user's program tells its errors
            self._error = error

    def _poll(self) -> None:
        if self._thread.is_alive():
            return
        self._timer.stop()
        self.deleteLater()
        if self._error is not None:
            raise self._error
        self._then(self._results[0])

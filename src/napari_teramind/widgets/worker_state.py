"""What the process that generates keeps in memory, and a button that gives it back."""

from __future__ import annotations

import psutil
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_teramind.jobs.warm import close_worker, worker_is_busy, worker_pid
from napari_teramind.widgets.parts import WhileShown, sentence


class WorkerState(QWidget):
    """Says that a network is kept ready, and with how much memory; nothing while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.words = sentence()
        self.button = QPushButton("Give back")
        self.button.setToolTip("Let go of the network; the next generation loads it again")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words, 1)
        layout.addWidget(self.button)
        WhileShown(self, self.refresh)
        self.button.clicked.connect(self._give_back)
        self.refresh()

    def refresh(self) -> None:
        """Show how it is now."""
        pid = worker_pid()
        self.button.setVisible(pid is not None)
        self.button.setEnabled(not worker_is_busy())
        self.words.setText("" if pid is None else _words(pid))

    def _give_back(self) -> None:
        close_worker()
        self.refresh()


def _words(pid: int) -> str:
    try:
        taken = psutil.Process(pid).memory_info().rss
    except psutil.Error:  # it has just ended
        return ""
    return f"Ready for the next: {taken / 2**20:,.0f} MB in memory"

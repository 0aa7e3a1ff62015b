"""What the tests of the Attention panel share."""

from __future__ import annotations

from typing import Any

import psutil
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_teramind.widgets.attention import AttentionWidget

LONG = 90_000
PAIR = ("Nr4a2", "Th")


def finished(panel: AttentionWidget) -> bool:
    return panel.run is None


def last_message() -> str:
    return notification_manager.records[-1].message


def attention_layers(panel: AttentionWidget) -> list[Layer]:
    return panel.session.layers("attention")


def type_pair(qtbot, panel: AttentionWidget, first: str, second: str) -> None:
    for field, text in ((panel.pair.first, first), (panel.pair.second, second)):
        field.clear()
        qtbot.keyClicks(field, text)
        qtbot.keyClick(field, Qt.Key.Key_Return)


def alive(pid: Any) -> bool:
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""Acronyms of structures as people type them: several, with commas between them."""

from __future__ import annotations

from qtpy.QtCore import QModelIndex
from qtpy.QtWidgets import QCompleter, QLineEdit


def typed_acronyms(text: str) -> list[str]:
    """Return the acronyms that were typed, each once."""
    typed = text.replace(";", ",").split(",")
    return list(dict.fromkeys(part.strip() for part in typed if part.strip()))


class AcronymCompleter(QCompleter):
    """Completes the last of several acronyms with commas between them."""

    def splitPath(self, path: str | None) -> list[str]:
        """Look for what comes after the last comma."""
        return [(path or "").rpartition(",")[2].strip()]

    def pathFromIndex(self, index: QModelIndex) -> str:
        """Keep what comes before it, and the acronym without the name."""
        widget = self.widget()
        typed = widget.text() if isinstance(widget, QLineEdit) else ""
        before, comma, _ = typed.rpartition(",")
        acronym = super().pathFromIndex(index).partition(" - ")[0]
        return f"{before}{comma}{' ' if comma else ''}{acronym}"

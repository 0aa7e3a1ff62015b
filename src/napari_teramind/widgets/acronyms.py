"""Acronyms of structures as people type them: several, with commas between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, QStringListModel
from qtpy.QtWidgets import QCompleter, QLineEdit

from napari_teramind.widgets.completing import complete

if TYPE_CHECKING:
    from napari_teramind.atlas import StructureTable
    from napari_teramind.widgets.session import Session


class AcronymField(QLineEdit):
    """A field for acronyms of the brain's own structures, which it offers.

    Parameters
    ----------
    session
        Whose structures.
    example
        Shown while nothing is typed.
    """

    def __init__(self, session: Session, example: str) -> None:
        super().__init__()
        self._session = session
        self._offered: StructureTable | None = None
        self._names = QStringListModel(self)
        self.setPlaceholderText(example)
        self.setToolTip("With everything inside it; the Atlas panel has the tree")
        complete(self, self._names, AcronymCompleter(self))
        session.structures.changed.connect(self._offer)
        self._offer()

    @property
    def table(self) -> StructureTable | None:
        """The brain's own structures; None as long as they are not read."""
        found = self._session.structures.own
        return None if found is None else found.table

    def typed(self) -> list[str]:
        """Return the acronyms that were typed, each once, written as in the atlas."""
        parts = [part.strip() for part in self.text().replace(";", ",").split(",")]
        table = self.table
        known = [
            table.find(part).acronym if table is not None and table.has(part) else part
            for part in parts
        ]
        return list(dict.fromkeys(part for part in known if part))

    def names(self) -> str:
        """Return the names of those that are known."""
        table = self.table
        if table is None:
            return ""
        return ", ".join(table.find(typed).name for typed in self.typed() if table.has(typed))

    def _offer(self) -> None:
        table = self.table
        if table is not None and table is not self._offered:
            self._offered = table
            self._names.setStringList([f"{s.acronym} - {s.name}" for s in table.values()])


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

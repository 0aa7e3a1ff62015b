"""Importers: one file a format. Each makes a brain and reports what it counted."""

from __future__ import annotations

from napari_teramind.brain.importers.report import ImportReport

__all__ = ["ImportReport"]

"""The ledger of a store: which shards were written, with what, one JSON line each.

An all-zero shard has no file, so that which files exist never says what is done.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_teramind.brain.pyramid import Unit, unit_region

LEDGER = "ledger.jsonl"


def checksum(block: np.ndarray) -> int:
    """CRC-32 of a block's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(block).data)


@dataclass(frozen=True)
class Entry:
    """A shard that was written: image, unit (slice, row, column) and checksum of its values."""

    image: str
    unit: Unit
    crc32: int


def recorded(
    array: zarr.Array[Any], entry: Entry, dtype: type[np.generic] | None = None
) -> np.ndarray | None:
    """Read a shard that was written; None if it is damaged, lost, or another than was written.

    Parameters
    ----------
    array
        Finest level of the image.
    entry
        Of the ledger.
    dtype
        Type of the values as they were recorded, where the array has another.
    """
    try:
        block = np.asarray(array[unit_region(array, entry.unit)], dtype)
    except Exception:  # whatever a damaged shard makes a codec raise
        return None
    return block if checksum(block) == entry.crc32 else None


class Ledger:
    """Append-only record of the shards of a store.

    Parameters
    ----------
    store : Path
        Folder of the store.
    """

    def __init__(self, store: Path) -> None:
        self._path = store / LEDGER

    def append(self, image: str, unit: Unit, crc32: int) -> None:
        """Record a shard that has just been written."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(Entry(image, unit, crc32)))

    def read(self) -> list[Entry]:
        """Return the entries; lines that a kill or a crash spoilt are left out."""
        if not self._path.exists():
            return []
        entries = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                z, y, x = row["unit"]
                entries.append(Entry(row["image"], (z, y, x), row["crc32"]))
            except (ValueError, KeyError, TypeError):
                continue
        return entries

    def rewrite(self, entries: list[Entry]) -> None:
        """Replace all entries, at once: a kill leaves the old ones or the new ones."""
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(map(_line, entries)), encoding="utf-8")
        partial.replace(self._path)


def _line(entry: Entry) -> str:
    row = {"image": entry.image, "unit": list(entry.unit), "crc32": entry.crc32}
    return json.dumps(row) + "\n"

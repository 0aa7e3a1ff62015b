"""The ledger of a store: which shards were written, with what, one JSON line each.

An all-zero shard has no file, so that which files exist never says what is done.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_teramind.brain.pyramid import Unit

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
        line = json.dumps({"image": image, "unit": list(unit), "crc32": crc32})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def read(self) -> list[Entry]:
        """Return the entries; a last line cut short by a kill is left out."""
        if not self._path.exists():
            return []
        entries = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            z, y, x = row["unit"]
            entries.append(Entry(row["image"], (z, y, x), row["crc32"]))
        return entries

    def rewrite(self, entries: list[Entry]) -> None:
        """Replace all entries."""
        self._path.unlink(missing_ok=True)
        for entry in entries:
            self.append(entry.image, entry.unit, entry.crc32)

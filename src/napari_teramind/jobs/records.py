"""What is done and need not be done again: a record in a job's folder, written last."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DONE_FILE = "done.json"


def read_done(folder: Path) -> dict[str, Any]:
    """Return the record of a job: what was ``wanted``, ``result``, ``token``; empty if not done."""
    try:
        found = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"result", "token"} <= set(found) else {}


def keep_done(folder: Path, wanted: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Record that a job is done; the token tells this time from any other."""
    record = {**wanted, "result": dict(result), "token": uuid.uuid4().hex}
    replace_text(folder / DONE_FILE, json.dumps(record, indent=2))


def replace_text(path: Path, text: str) -> None:
    """Write a text file at once: whoever reads it finds the old one or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)

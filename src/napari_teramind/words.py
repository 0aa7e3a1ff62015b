"""Quantities and lists as one would say them."""

from __future__ import annotations

from collections.abc import Sequence


def about(seconds: float) -> str:
    """Return a duration as one would say it: "about 40 s", "about 4 min", "about 3 h"."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    if seconds < 72 * 3600:
        return f"about {round(seconds / 3600)} h"
    return f"about {round(seconds / 86400):,} days"


def size(count: float) -> str:
    """Return a number of bytes as one would say it: "850 kB", "1.4 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def listed(names: Sequence[str]) -> str:
    """Return names as one would list them: "a", "a and b", "a, b and c"."""
    *others, last = names or ("",)
    return f"{', '.join(others)} and {last}" if others else last

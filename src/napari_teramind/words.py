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


def part(done: float, total: float) -> str:
    """Return how many bytes of how many are done, in the unit of all: "1.20 of 5.70 GB"."""
    units = ("B", "kB", "MB", "GB", "TB")
    unit = next((i for i in range(len(units)) if total < 1000 ** (i + 1)), len(units) - 1)
    # Always as many decimals, so that only digits change while it goes on.
    decimals = 0 if unit == 0 else 2
    count, whole = (f"{value / 1000**unit:.{decimals}f}" for value in (done, total))
    return f"{count} of {whole} {units[unit]}"


def listed(names: Sequence[str]) -> str:
    """Return names as one would list them: "a", "a and b", "a, b and c"."""
    *others, last = names or ("",)
    return f"{', '.join(others)} and {last}" if others else last


def named_slices(first: int, end: int) -> str:
    """Name the slices from the first to the one before the end: "slice 4", "slices 4-5"."""
    return f"slice {first}" if end - first == 1 else f"slices {first}-{end - 1}"

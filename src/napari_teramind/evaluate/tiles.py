"""Planes cut into tiles, each with a margin, so that memory does not grow with the plane."""

from __future__ import annotations

from collections.abc import Iterator

Box = tuple[int, int, int, int]
"""(y0, y1, x0, x1) px, half open."""

TILE = 1024
"""Side of a tile in px."""


def cut(box: Box, side: int = TILE) -> Iterator[Box]:
    """Cut a box along the lines of a grid that begins at pixel (0, 0).

    Parameters
    ----------
    box
        What is cut.
    side
        Side of the grid's squares in px.

    Yields
    ------
    tuple of int
        Parts of the box, row by row; together they are the box.
    """
    y0, y1, x0, x1 = box
    for y in range(y0 // side * side, y1, side):
        for x in range(x0 // side * side, x1, side):
            yield max(y, y0), min(y + side, y1), max(x, x0), min(x + side, x1)


def widened(tile: Box, margin: int, box: Box) -> Box:
    """Widen a tile by a margin on every side, but not beyond a box."""
    y0, y1, x0, x1 = tile
    return (
        max(y0 - margin, box[0]),
        min(y1 + margin, box[1]),
        max(x0 - margin, box[2]),
        min(x1 + margin, box[3]),
    )


def narrowed(tile: Box, margin: int, box: Box) -> Box | None:
    """Leave out of a tile what is nearer to a box's border than a margin; None: all of it is."""
    y0, y1 = max(tile[0], box[0] + margin), min(tile[1], box[1] - margin)
    x0, x1 = max(tile[2], box[2] + margin), min(tile[3], box[3] - margin)
    return (y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


def within(inner: Box, outer: Box) -> tuple[slice, slice]:
    """Return where a box lies in an array of another one."""
    return (
        slice(inner[0] - outer[0], inner[1] - outer[0]),
        slice(inner[2] - outer[2], inner[3] - outer[2]),
    )

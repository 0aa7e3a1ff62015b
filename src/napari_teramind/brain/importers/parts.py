"""What a brain is made of where tables and images lie in one world, and the grid that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_teramind.brain import foundation, layout
from napari_teramind.brain.importers.batches import Columns, read_batches
from napari_teramind.brain.importers.intensity import check_percentiles
from napari_teramind.brain.importers.pictures import Picture, sides
from napari_teramind.brain.importers.projection import check_projection
from napari_teramind.brain.importers.resampling import Grid
from napari_teramind.brain.layout import BIN
from napari_teramind.brain.writer import Report
from napari_teramind.errors import UserError


@dataclass
class Parts:
    """What a brain is made of.

    Attributes
    ----------
    format : str
        Of the import.
    tables : list of list of Path
        Files of every table. Tables are a slice each, unless a column tells slices apart.
    columns : Columns
        Which columns are read; `z` or `group` tells slices apart.
    matrix : ndarray, (3, 3)
        Takes (x, y, 1) of the tables to micrometers.
    stains : dict
        Images by stain: one a slice, or one whose planes are the slices; none: stains are black.
    origin_um : tuple of float or None
        (x, y) where the brain begins if there are no images; where transcripts begin if not given.
    project, percentiles, slice_spacing, genes
        As of `import_table`.
    choices, warnings : list of str
        What the report is to say.
    source : dict
        Provenance.
    """

    format: str
    tables: list[list[Path]]
    columns: Columns
    matrix: np.ndarray
    stains: dict[str, list[Picture]]
    origin_um: tuple[float, float] | None = None
    project: str = "max"
    percentiles: tuple[float, float] = (0.1, 99.9)
    slice_spacing: float | None = None
    genes: Sequence[str] | None = None
    choices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> list[layout.Channel]:
        """Stains of the brain."""
        names = list(self.stains) or [channel.name for channel in layout.DEFAULT_STAINS]
        return [layout.stain_channel(name) for name in names]

    @property
    def told_apart(self) -> str | None:
        """Column that tells slices apart."""
        return self.columns.z or self.columns.group

    def check(self) -> None:
        """Raise a UserError if options make no sense."""
        check_percentiles(self.percentiles)
        check_projection(self.project)
        foundation.check_panel(self.genes or ["any"], self.channels)
        spacing = self.slice_spacing
        if spacing is not None and not (np.isfinite(spacing) and spacing > 0):
            raise UserError(
                f"The slice spacing {spacing:g} um makes no sense: give a positive one."
            )


def to_pixels(points: np.ndarray, matrix: np.ndarray, grid: Grid) -> np.ndarray:
    """Take places (n, 2) as (x, y) of a table to a grid's pixels (u, v)."""
    linear, shift = matrix[:2, :2], matrix[:2, 2] - grid.origin_um
    scale = linear[0, 0]
    # Divided, and not multiplied by an inverse: what lies on the edge of a bin is to stay there.
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.array_equal(linear, np.eye(2) * scale):
            moved = (points @ linear.T + shift) / grid.pixel_size
        elif scale == grid.pixel_size:
            moved = points + shift / scale
        else:
            moved = (points * scale + shift) / grid.pixel_size
    found: np.ndarray = moved
    return found


def grid_of_tables(parts: Parts, report: Report | None) -> Grid:
    """Return a grid that begins at a whole bin and holds all transcripts."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    places = Columns(parts.columns.x, parts.columns.y)
    for files in parts.tables:
        for file in files:
            for batch in read_batches(file, places):
                points = np.stack([batch.x, batch.y], axis=1)
                points = points[np.isfinite(points).all(axis=1)]
                with np.errstate(over="ignore", invalid="ignore"):
                    points = points @ parts.matrix[:2, :2].T + parts.matrix[:2, 2]
                low = np.minimum(low, points.min(axis=0, initial=np.inf))
                high = np.maximum(high, points.max(axis=0, initial=-np.inf))
                if report is not None:
                    report(f"Measuring {file.name}", batch.done, batch.total)
    if not np.isfinite([low, high]).all():
        raise UserError(
            f"{parts.tables[0][0]} has no row with a finite {places.x} and {places.y}: check the"
            " columns of coordinates."
        )
    size, side = layout.PIXEL_SIZE, layout.PIXEL_SIZE * BIN
    with np.errstate(over="ignore"):
        sides(high - low, size)
    first = np.floor(low / side)
    first -= first * side > low
    start = first * side if parts.origin_um is None else np.asarray(parts.origin_um)
    # One pixel more than there are edges, so that the outermost transcript is inside.
    down, across = sides(np.maximum(high - start, 0) + size, size)
    whole = (layout.ceil_div(down, BIN) * BIN, layout.ceil_div(across, BIN) * BIN)
    return Grid((float(start[0]), float(start[1])), size, whole)

"""Importer of plain transcript tables with any columns, and of images beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from napari_teramind.brain import foundation, layout
from napari_teramind.brain.importers.assembly import assemble
from napari_teramind.brain.importers.batches import (
    Columns,
    check_columns,
    column_names,
    files_of,
)
from napari_teramind.brain.importers.parts import Parts
from napari_teramind.brain.importers.pictures import Picture, open_picture, upright
from napari_teramind.brain.importers.report import ImportReport
from napari_teramind.brain.writer import Report
from napari_teramind.errors import UserError

GENE_COLUMNS = (
    "gene", "feature_name", "target", "genename", "gene_name", "target_name", "gene_symbol",
    "feature", "geneid", "gene_id",
)  # fmt: skip
"""Names of a column of genes that are guessed, whatever their case, best first."""
PLACE_COLUMNS = (
    ("global_x", "global_y"),
    ("x_location", "y_location"),
    ("x_um", "y_um"),
    ("x_micron", "y_micron"),
    ("x_global_px", "y_global_px"),
    ("x", "y"),
)
"""Pairs of columns of coordinates that are guessed; global ones before those of a field of view."""


def import_table(
    tables: Sequence[str | Path],
    out: str | Path,
    *,
    gene: str | None = None,
    x: str | None = None,
    y: str | None = None,
    z: str | None = None,
    slice_column: str | None = None,
    stains: Mapping[str, Sequence[str | Path]] | None = None,
    unit: Literal["um", "px"] = "um",
    pixel_size: float | None = None,
    origin: tuple[float, float] | None = None,
    project: Literal["max", "mean"] = "max",
    percentiles: tuple[float, float] = (0.1, 99.9),
    slice_spacing: float | None = None,
    genes: Sequence[str] | None = None,
    name: str | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> ImportReport:
    """Make a brain of transcript tables, and of images that show the same tissue.

    Memory grows with the number of genes, and neither with rows nor with images; see `assemble`.

    Parameters
    ----------
    tables : sequence of path
        CSV (``.gz`` too) or Parquet, or folders of Parquet parts. They are a slice each, in their
        order, unless a column tells slices apart.
    out : path
        Brain to make.
    gene, x, y : str, optional
        Columns of genes and coordinates; guessed among the common names if not given.
    z : str, optional
        Column of heights, micrometers: every different one is a slice.
    slice_column : str, optional
        Column whose different values are the slices, numbers and names in their natural order.
    stains : mapping of str to paths, optional
        Images of every stain: one a slice, or one whose z axis are the slices; planes of an image
        of one slice are projected. ``image#channel`` names or numbers a channel. Stains are black
        if there are none.
    unit : {"um", "px"}
        Unit of the coordinates, and of `origin`: pixels of the first image, or of `pixel_size`.
    pixel_size : float, optional
        Micrometers per pixel of the images, whatever they state.
    origin : tuple of float, optional
        Coordinates (x, y) of the table at the outer corner of the images' first pixel; where a
        brain without images begins.
    project : {"max", "mean"}
        How planes are projected.
    percentiles : tuple of float
        Percentiles, per stain over all slices, of the pixels that are not zero, that become 0 and
        255; 8-bit images are taken as they are.
    slice_spacing : float, optional
        Micrometers between slices; 100, or the heights of `z`, if not given.
    genes : sequence of str, optional
        Genes to keep, in this order; all that are no controls if not given.
    name : str, optional
        Name of the brain; that of the file if not given.
    overwrite : bool
        Replace a brain at `out`.
    report : callable, optional
        Progress callback.

    Returns
    -------
    ImportReport

    Raises
    ------
    UserError
        If an input is missing or malformed, or something is at `out` already.
    """
    out = Path(out)
    _check_options(unit, pixel_size, origin, z, slice_column)
    foundation.check_target(out, overwrite)
    files = [files_of(Path(table)) for table in tables]
    if not files:
        raise UserError("No table was given: name one, as transcripts.csv.")
    columns, choices = guess_columns(files[0][0], gene, x, y, z, slice_column)
    for file in (file for each in files for file in each):
        check_columns(file, columns.names, column_names(file))
    corner = None if origin is None else (0.0, 0.0)
    pictures = {
        stain: [open_picture(str(path), stain, pixel_size, corner) for path in paths]
        for stain, paths in (stains or {}).items()
    }
    warnings = []
    if unit == "um" and columns.x.lower().endswith(("_px", "_pixel")):
        warnings.append(f"The column {columns.x} seems to count pixels: say so with --unit px.")
    parts = Parts(
        format="table",
        tables=files,
        columns=columns,
        matrix=_matrix(unit, pixel_size, origin, pictures),
        stains=pictures,
        project=project,
        percentiles=percentiles,
        slice_spacing=slice_spacing,
        genes=genes,
        origin_um=corner,
        choices=choices,
        warnings=warnings,
        source={"unit": unit, "origin": origin},
    )
    return assemble(parts, out, name, overwrite, report)


def _check_options(
    unit: str,
    pixel_size: float | None,
    origin: tuple[float, float] | None,
    z: str | None,
    slice_column: str | None,
) -> None:
    if unit not in ("um", "px"):
        raise UserError(f"The unit {unit!r} makes no sense: choose 'um' or 'px'.")
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise UserError(f"The pixel size {pixel_size:g} um makes no sense: give a positive one.")
    if origin is not None and not np.isfinite(origin).all():
        raise UserError(f"The origin {origin} makes no sense: give two finite numbers.")
    if z is not None and slice_column is not None:
        raise UserError("Slices are told apart by a column of heights or of names: give one.")


def guess_columns(
    file: Path,
    gene: str | None,
    x: str | None,
    y: str | None,
    z: str | None,
    slice_column: str | None,
) -> tuple[Columns, list[str]]:
    """Return the columns that were named or can be guessed, and what to say of that.

    Raises
    ------
    UserError
        If a named one is not there, or none has a common name.
    """
    names = column_names(file)
    check_columns(file, [name for name in (gene, x, y, z, slice_column) if name], names)
    by_folded = {name.casefold(): name for name in reversed(names)}
    guessed = []
    if gene is None:
        gene = next((by_folded[n] for n in GENE_COLUMNS if n in by_folded), None)
        guessed.append(f"genes from {gene}")
    if x is None or y is None:
        # Of a pair of which one half was named, the other half is wanted.
        pairs = [
            (by_folded.get(a), by_folded.get(b))
            for a, b in PLACE_COLUMNS
            if x in (None, by_folded.get(a)) and y in (None, by_folded.get(b))
        ]
        x, y = next(((a, b) for a, b in pairs if a and b), (None, None))
        guessed.append(f"coordinates from {x} and {y}")
    if gene is None or x is None or y is None:
        missing = "genes (--gene)" if gene is None else "coordinates (--x, --y)"
        raise UserError(
            f"{file} has no column of {missing} of a common name: name it, of {', '.join(names)}."
        )
    chosen = [f"{file.name}: {', '.join(guessed)}."] if guessed else []
    return Columns(x, y, gene, z, slice_column), chosen


def _matrix(
    unit: str,
    pixel_size: float | None,
    origin: tuple[float, float] | None,
    pictures: Mapping[str, Sequence[Picture]],
) -> np.ndarray:
    """Return what takes (x, y, 1) of the tables to micrometers."""
    first = next((each[0] for each in pictures.values()), None)
    side = 1.0
    if unit == "px":
        side = first.pixel_size if first is not None else pixel_size or layout.PIXEL_SIZE
    x, y = origin or (0.0, 0.0)
    return upright(side, (-x * side, -y * side))

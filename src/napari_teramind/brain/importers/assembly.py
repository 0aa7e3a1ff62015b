"""A brain from transcript tables and images that lie in one world, whatever format said so.

Rows are read in batches, sorted by tile into a temporary folder beside the brain, and counted tile
by tile; images are read tile by tile.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_teramind.brain import foundation, layout
from napari_teramind.brain.importers.batches import Batch, Words, read_batches
from napari_teramind.brain.importers.intensity import Ramp, measure_ramp
from napari_teramind.brain.importers.parts import Parts, grid_of_tables, to_pixels
from napari_teramind.brain.importers.pictures import (
    Laid,
    Stack,
    grid_of,
    stack_of,
)
from napari_teramind.brain.importers.report import ImportReport, TranscriptCounts, total
from napari_teramind.brain.importers.resampling import Grid
from napari_teramind.brain.importers.transcripts import (
    CONTROL,
    MAX_PLANES,
    Binner,
    Panel,
    Spill,
    bins_of,
    write_genes,
)
from napari_teramind.brain.writer import BrainWriter, Report
from napari_teramind.errors import UserError

# Rows of an image in memory at a time; as many as a chunk of an OME-Zarr usually has.
_ROWS = 512
_MOST_HEIGHT_UM = 1e6


@dataclass(frozen=True)
class _Slice:
    """Where a slice's transcripts are in the spill, and how high it lies."""

    region: int
    planes: list[int]
    position: float
    name: str


@dataclass
class _State:
    parts: Parts
    grid: Grid
    panel: Panel
    spill: Spill
    report: Report | None
    counts: list[TranscriptCounts] = field(default_factory=list)
    slices: list[_Slice] = field(default_factory=list)

    def say(self, message: str, done: int, total: int) -> None:
        if self.report is not None:
            self.report(message, done, total)


def assemble(
    parts: Parts,
    out: Path,
    name: str | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> ImportReport:
    """Make a brain.

    Memory is bounded by a row of stain tiles and the counts of one gene tile: it grows with the
    number of genes, and neither with rows nor with images.

    Raises
    ------
    UserError
        If tables or images are malformed or do not fit, or something is at `out` already.
    """
    parts.check()
    foundation.check_target(out, overwrite)
    grid = grid_of(parts.stains) if parts.stains else grid_of_tables(parts, report)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        _, tile = layout.chunk_and_shard(*bins_of(grid.shape), layout.GENE_CHUNK, layout.GENE_TILE)
        panel = Panel(parts.genes, CONTROL)
        state = _State(parts, grid, panel, Spill(Path(folder), tile), report)
        _read_tables(state)
        return _write(state, out, name or out.stem, overwrite)


# Transcripts


def _read_tables(state: _State) -> None:
    """Spill the transcripts of all tables, and plan the slices."""
    parts = state.parts
    groups: dict[str, int] = {}
    told_apart = parts.told_apart
    everything = [file for files in parts.tables for file in files]
    tables = [everything] if told_apart else parts.tables
    for i, files in enumerate(tables):
        counts = TranscriptCounts()
        state.counts.append(counts)
        binner = Binner(
            state.panel,
            state.spill,
            counts,
            i,
            lambda points: to_pixels(points, parts.matrix, state.grid),
            state.grid.shape,
            told_apart or "",
        )
        for file in files:
            for batch in read_batches(file, parts.columns):
                numbered = batch
                if parts.columns.group is not None:
                    numbered = replace(batch, z=_numbered(batch, groups, parts.columns.group))
                binner.add(numbered)
                state.say(f"Reading {file.name}", batch.done, batch.total)
        state.spill.flush()
        state.slices += _plan(parts, i, binner.planes, list(groups), files[0])
    state.panel.check()
    _check_inside(state)


def _numbered(batch: Batch, groups: dict[str, int], column: str) -> np.ndarray:
    """Return the number of every row's group as its height; NaN where it has none."""
    words: Words = batch.group
    lookup = np.full(len(words.names) + 1, np.nan)
    for i, name in enumerate(words.names):
        if name:
            lookup[i] = groups.setdefault(name, len(groups))
    if len(groups) > MAX_PLANES:
        raise UserError(
            f"The column {column} has more than {MAX_PLANES} different values: it does not tell"
            " slices apart."
        )
    numbers: np.ndarray = lookup[words.codes]
    return numbers


def _plan(
    parts: Parts, region: int, heights: list[float], groups: list[str], file: Path
) -> list[_Slice]:
    """Return the slices of a region: all of it, or one a height or group, in their order."""
    spacing = parts.slice_spacing or layout.SLICE_SPACING
    if parts.told_apart is None:
        return [_Slice(region, [0], region * spacing, file.name)]
    if parts.columns.group is not None:
        ordered = sorted(range(len(heights)), key=lambda k: _natural(groups[int(heights[k])]))
        names = [groups[int(heights[k])] for k in ordered]
        return [_Slice(region, [k], i * spacing, names[i]) for i, k in enumerate(ordered)]
    ordered = sorted(range(len(heights)), key=lambda k: heights[k])
    far = max((abs(height) for height in heights), default=0.0)
    if far > _MOST_HEIGHT_UM:
        raise UserError(
            f"The column {parts.columns.z} has heights of {far:g}, which are no micrometers: name"
            " another column."
        )
    steps = parts.slice_spacing
    return [
        _Slice(region, [k], heights[k] if steps is None else i * steps, f"{heights[k]:g}")
        for i, k in enumerate(ordered)
    ]


def _natural(name: str) -> list[tuple[float, str]]:
    """Return a key that sorts numbers as numbers, and slice2 before slice10."""
    try:
        return [(float(name), "")]
    except ValueError:
        parts = re.split(r"(\d+)", name)
        return [(np.inf, "")] + [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _check_inside(state: _State) -> None:
    for counts in state.counts:
        counts.settle()
    found = total(state.counts)
    if found.inside == 0:
        first = state.parts.tables[0][0]
        raise UserError(
            f"None of the {found.rows:,} rows of {first} is a transcript inside the brain"
            f" ({found.outside:,} lie outside, {found.invalid:,} have no position or gene,"
            f" {found.blank + found.unknown:,} are controls or not in the list): check the unit,"
            " the origin and the columns."
        )


# Writing


def _write(state: _State, out: Path, name: str, overwrite: bool) -> ImportReport:
    """Make the brain; if that fails, nothing is left of it."""
    parts = state.parts
    stacks = {s: stack_of(p, len(state.slices), s) for s, p in parts.stains.items()}
    _say_what_was_done(state, stacks)
    ramps = {stain: _ramp(state, stain, stack) for stain, stack in stacks.items()}
    report = _report(state, out, ramps)
    writer = BrainWriter.create(
        out,
        name=name,
        shape=report.shape,
        genes=state.panel.genes(),
        stains=parts.channels,
        pixel_size=report.pixel_size,
        slice_positions=[item.position for item in state.slices],
        source=_source(state, report),
        overwrite=overwrite,
        report=state.report,
    )
    try:
        for z, item in enumerate(state.slices):
            if stacks:
                _write_stains(writer, state, z, stacks, ramps)
            write_genes(writer, state.panel, state.spill, z, item.region, item.planes)
            state.say("Writing slices", z + 1, len(state.slices))
        writer.write_table("import_genes", state.panel.table())
        writer.finish()
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return report


def _say_what_was_done(state: _State, stacks: dict[str, Stack]) -> None:
    parts = state.parts
    seen: set[str] = set()
    for stack in stacks.values():
        for picture, planes in stack:
            if picture.path in seen:
                continue
            seen.add(picture.path)
            if Laid(picture, state.grid).resampled:
                parts.choices.append(
                    f"{picture.path}: resampled from pixels of {picture.pixel_size:.4f} um to"
                    f" {state.grid.pixel_size:.4f} um."
                )
            if len(planes) > 1:
                parts.choices.append(
                    f"{picture.path}: {len(planes)} planes projected into one ({parts.project})."
                )
    if not stacks:
        parts.choices.append("Without images, stains are black.")


def _ramp(state: _State, stain: str, stack: Stack) -> Ramp:
    project = state.parts.project

    def blocks() -> Iterator[np.ndarray]:
        for done, (picture, planes) in enumerate(stack):
            _, height, width = picture.shape
            for y0, y1, x0, x1 in layout.tiles(0, height, 0, width, layout.STAIN_TILE):
                for y in range(y0, y1, _ROWS):
                    yield picture.read(planes, project, (y, min(y + _ROWS, y1), x0, x1))
            state.say(f"Measuring intensities of {stain}", done + 1, len(stack))

    first = stack[0][0]
    return measure_ramp(blocks, first.dtype, state.parts.percentiles, f"The image {first.path}")


def _write_stains(
    writer: BrainWriter, state: _State, z: int, stacks: dict[str, Stack], ramps: dict[str, Ramp]
) -> None:
    laid = {stain: Laid(stack[z][0], state.grid) for stain, stack in stacks.items()}
    height, width = state.grid.shape
    for box in layout.tiles(0, height, 0, width, writer.tile):
        blocks = [
            ramps[stain](laid[stain].read(stack[z][1], state.parts.project, box))
            for stain, stack in stacks.items()
        ]
        writer.write_stains(z, box[0], box[2], np.stack(blocks))


def _report(state: _State, out: Path, ramps: dict[str, Ramp]) -> ImportReport:
    return ImportReport(
        format=state.parts.format,
        path=str(out),
        shape=(len(state.slices), *state.grid.shape),
        pixel_size=state.grid.pixel_size,
        transcripts=total(state.counts),
        **state.panel.found(),
        intensities={s: [r.low, r.high] for s, r in ramps.items() if not r.identity},
        percentiles=state.parts.percentiles,
        choices=state.parts.choices,
        warnings=state.parts.warnings,
    )


def _source(state: _State, report: ImportReport) -> dict[str, Any]:
    parts = state.parts
    return {
        **parts.source,
        "import": report.to_dict(),
        "tables": [[str(file) for file in files] for files in parts.tables],
        "columns": asdict(parts.columns),
        "table_to_um": parts.matrix.tolist(),
        "origin_um": list(state.grid.origin_um),
        "images": {
            stain: [{"path": p.path, "to_um": p.matrix.tolist()} for p in pictures]
            for stain, pictures in parts.stains.items()
        },
        "transcripts": [asdict(counts) for counts in state.counts],
        "slices": [item.name for item in state.slices],
    }

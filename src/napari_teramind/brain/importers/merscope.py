"""Importer for MERSCOPE region folders: mosaics become stains, transcripts become gene bins.

Sources: Vizgen's description of its output files (detected transcripts, mosaic images, transform).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from napari_teramind.brain import foundation, layout
from napari_teramind.brain.importers.batches import MERSCOPE, read_batches
from napari_teramind.brain.importers.intensity import Ramp, check_percentiles, measure_ramp
from napari_teramind.brain.importers.manifest import SliceEntry, manifest_of
from napari_teramind.brain.importers.placing import Placed, place_regions, registrations
from napari_teramind.brain.importers.planes import plane_heights
from napari_teramind.brain.importers.projection import check_projection
from napari_teramind.brain.importers.region import Region, open_region
from napari_teramind.brain.importers.report import ImportReport, TranscriptCounts, total
from napari_teramind.brain.importers.transcripts import (
    Binner,
    Panel,
    Spill,
    bins_of,
    write_genes,
)
from napari_teramind.brain.writer import BrainWriter, Report
from napari_teramind.errors import UserError

DEFAULT_STAINS = {"DAPI": "DAPI", "PolyT": "PolyT"}
# Further from 0.108 um per pixel than this, relative, is worth a warning.
_PIXEL_TOLERANCE = 0.005
# Rows of a mosaic in memory at a time.
_ROWS = 256


@dataclass(frozen=True)
class _Slice:
    """What one slice of the brain is made of: planes of a region, and their keys in the spill."""

    region: int
    planes: list[int]
    spill: list[int]
    position: float


@dataclass
class _Options:
    stains: dict[str, str]
    planes: Literal["project", "slices"]
    project: Literal["max", "mean"]
    percentiles: tuple[float, float]
    slice_spacing: float | None
    region_spacing: float
    report: Report | None

    def say(self, message: str, done: int, total: int) -> None:
        if self.report is not None:
            self.report(message, done, total)


@dataclass
class _Import:
    """The state of one import: regions opened, transcripts spilled, slices planned."""

    options: _Options
    entries: list[SliceEntry]
    placed: list[Placed]
    panel: Panel
    spill: Spill
    shape: tuple[int, int]
    counts: list[TranscriptCounts] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    slices: list[_Slice] = field(default_factory=list)

    @property
    def regions(self) -> list[Region]:
        """The regions, in the order of the slices."""
        return [placed.region for placed in self.placed]


def import_merscope(
    regions: Sequence[str | Path],
    out: str | Path,
    *,
    stains: Mapping[str, str] | None = None,
    planes: Literal["project", "slices"] = "project",
    project: Literal["max", "mean"] = "max",
    percentiles: tuple[float, float] = (0.1, 99.9),
    slice_spacing: float | None = None,
    region_spacing: float = layout.SLICE_SPACING,
    genes: Sequence[str] | None = None,
    name: str | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> ImportReport:
    """Make a brain of MERSCOPE region folders.

    Memory is bounded by a row of stain tiles and the counts of one gene tile; tables are streamed
    and sorted by tile in a temporary folder beside `out`.

    Parameters
    ----------
    regions : sequence of path
        Region folders, in the order of the slices; or one manifest (``.toml``, see
        `manifest.Manifest`) that also says how slices are registered.
    out : path
        Brain to make.
    stains : mapping of str to str, optional
        Stain in the brain to stain in the file names, beside the defaults ``DAPI`` and ``PolyT``
        of the same names; an empty value leaves a stain out.
    planes : {"project", "slices"}
        Project the focal planes of a region into one slice with all its transcripts, or take each
        plane as a slice with the transcripts of that plane.
    project : {"max", "mean"}
        How planes are projected.
    percentiles : tuple of float
        Percentiles, per stain over all slices, of the pixels that are not zero, that become 0 and
        255; 8-bit mosaics are taken as they are.
    slice_spacing : float, optional
        Micrometers between slices. Between planes: from the table if its ``global_z`` is in
        micrometers, else 1.5; between projected regions: 100.
    region_spacing : float
        Micrometers between regions whose planes are slices.
    genes : sequence of str, optional
        Genes to keep, in this order; all that are not blank if not given.
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
    options = _Options(
        stains={k: v for k, v in {**DEFAULT_STAINS, **(stains or {})}.items() if v},
        planes=planes,
        project=project,
        percentiles=percentiles,
        slice_spacing=slice_spacing,
        region_spacing=region_spacing,
        report=report,
    )
    manifest = manifest_of(regions)
    _check_options(options)
    if genes is not None:
        foundation.check_panel(genes, [layout.stain_channel(s) for s in options.stains])
    foundation.check_target(out, overwrite)
    opened = [open_region(entry.region, options.stains) for entry in manifest.slices]
    warnings = _compare_regions(opened, manifest.registered)
    placed = place_regions(opened, manifest)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        shape = (max(p.shape[0] for p in placed), max(p.shape[1] for p in placed))
        _, tile = layout.chunk_and_shard(*bins_of(shape), layout.GENE_CHUNK, layout.GENE_TILE)
        state = _Import(
            options,
            manifest.slices,
            placed,
            Panel(genes),
            Spill(Path(folder), tile),
            shape,
            warnings=warnings,
        )
        _read_tables(state)
        return _write(state, out, name or out.stem, overwrite)


def _check_options(options: _Options) -> None:
    check_percentiles(options.percentiles)
    for what, value in (
        ("slice spacing", options.slice_spacing),
        ("region spacing", options.region_spacing),
    ):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise UserError(f"The {what} {value:g} um makes no sense: give a positive number.")
    if options.planes not in ("project", "slices"):
        raise UserError(f"Planes {options.planes!r} make no sense: choose 'project' or 'slices'.")
    check_projection(options.project)
    foundation.check_panel(["any"], [layout.stain_channel(s) for s in options.stains])


def _compare_regions(regions: Sequence[Region], registered: bool) -> list[str]:
    """Check that regions fit into one brain; return what is worth a warning."""
    warnings = []
    first = regions[0]
    if abs(first.pixel_size / layout.PIXEL_SIZE - 1) > _PIXEL_TOLERANCE:
        warnings.append(
            f"Pixels are {first.pixel_size:.4f} um, not {layout.PIXEL_SIZE} um as in the published"
            " brains: checkpoints trained on those expect other sizes."
        )
    for region in regions[1:]:
        if not registered and abs(region.pixel_size / first.pixel_size - 1) > 1e-3:
            raise UserError(
                f"{region.path} has pixels of {region.pixel_size:.4f} um but {first.path} of"
                f" {first.pixel_size:.4f} um: import them as separate brains."
            )
        for stain in first.mosaics:
            if region.dtype(stain) != first.dtype(stain):
                raise UserError(
                    f"{region.path} has {stain} in {region.dtype(stain)} but {first.path} in"
                    f" {first.dtype(stain)}: import them as separate brains."
                )
    if not registered and len({region.shape for region in regions}) > 1:
        warnings.append(
            "Regions differ in size: the smaller ones are filled up with black at the lower and"
            " right edges."
        )
    return warnings


# Transcripts


def _read_tables(state: _Import) -> None:
    """Spill the transcripts of all regions and plan the slices."""
    planes = state.options.planes == "slices"
    columns = MERSCOPE if planes else replace(MERSCOPE, z=None)
    base = 0.0
    for i, (placed, entry) in enumerate(zip(state.placed, state.entries, strict=True)):
        region, counts = placed.region, TranscriptCounts()
        state.counts.append(counts)
        binner = Binner(state.panel, state.spill, counts, i, placed.pixels, placed.shape)
        base = base if entry.position_um is None else entry.position_um
        for batch in read_batches(region.table, columns):
            binner.add(batch)
            state.options.say(f"Reading transcripts of {region.path.name}", batch.done, batch.total)
        state.spill.flush()
        if state.options.planes == "project":
            state.slices.append(_Slice(i, region.planes, [0], base))
            base += state.options.slice_spacing or layout.SLICE_SPACING
            continue
        planned = _plan_planes(state, i, region, binner.planes, base)
        state.slices += planned
        extent = planned[-1].position - base
        last = i + 1 == len(state.regions)
        if entry.position_um is None and not last and extent >= state.options.region_spacing:
            raise UserError(
                f"The planes of {region.path} span {extent:g} um, more than the"
                f" {state.options.region_spacing:g} um between regions: give a larger region"
                " spacing."
            )
        base += state.options.region_spacing
    for before, after in pairwise(state.slices):
        if after.position <= before.position:
            raise UserError(
                f"{state.regions[after.region].path} begins at {after.position:g} um, but the slice"
                f" before it lies at {before.position:g} um: give positions further apart."
            )
    state.panel.check()


def _plan_planes(
    state: _Import, index: int, region: Region, values: list[float], base: float
) -> list[_Slice]:
    """Make one slice per imaged plane, and count the transcripts of planes that are not imaged."""
    planes = region.planes
    heights = plane_heights(region, values, state.options.slice_spacing)
    slices = []
    for plane in planes:
        keys = [k for k, value in enumerate(values) if heights.plane_of(value) == plane]
        slices.append(_Slice(index, [plane], keys, base + heights.position(plane)))
    used = {key for item in slices for key in item.spill}
    for key in sorted(set(range(len(values))) - used):
        state.counts[index].without_plane += state.spill.count(index, key)
        state.missing.append(f"{region.path.name}, plane {values[key]:g} of the table")
    return slices


# Writing


def _write(state: _Import, out: Path, name: str, overwrite: bool) -> ImportReport:
    """Make the brain; if that fails, nothing is left of it."""
    ramps = {target: _ramp(state, target) for target in state.options.stains}
    report = _report(state, out, ramps)
    writer = BrainWriter.create(
        out,
        name=name,
        shape=report.shape,
        genes=state.panel.genes(),
        stains=[layout.stain_channel(target) for target in state.options.stains],
        pixel_size=report.pixel_size,
        slice_positions=[item.position for item in state.slices],
        source=_source(state, report),
        overwrite=overwrite,
        report=state.options.report,
    )
    try:
        for z, item in enumerate(state.slices):
            _write_stains(writer, state, z, item, ramps)
            state.options.say("Writing stains", z + 1, len(state.slices))
        for z, item in enumerate(state.slices):
            write_genes(writer, state.panel, state.spill, z, item.region, item.spill)
            state.options.say("Counting transcripts", z + 1, len(state.slices))
        writer.write_table("import_genes", state.panel.table())
        writer.finish()
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return report


def _ramp(state: _Import, target: str) -> Ramp:
    stain = state.options.stains[target]

    def blocks() -> Iterator[np.ndarray]:
        for z, item in enumerate(state.slices):
            region = state.regions[item.region]
            for y in range(0, region.shape[0], _ROWS):
                end = min(y + _ROWS, region.shape[0])
                box = (y, end, 0, region.shape[1])
                yield region.read(stain, item.planes, state.options.project, box)
            state.options.say(f"Measuring intensities of {target}", z + 1, len(state.slices))

    dtype = state.regions[0].dtype(stain)
    return measure_ramp(blocks, dtype, state.options.percentiles, f"The mosaic of {stain}")


def _write_stains(
    writer: BrainWriter, state: _Import, z: int, item: _Slice, ramps: Mapping[str, Ramp]
) -> None:
    """Write a slice tile by tile."""
    placed = state.placed[item.region]
    for box in layout.tiles(0, state.shape[0], 0, state.shape[1], writer.tile):
        blocks = [
            ramps[target](placed.read(stain, item.planes, state.options.project, box))
            for target, stain in state.options.stains.items()
        ]
        writer.write_stains(z, box[0], box[2], np.stack(blocks))


def _report(state: _Import, out: Path, ramps: Mapping[str, Ramp]) -> ImportReport:
    for counts in state.counts:
        counts.settle()
    return ImportReport(
        format="merscope",
        path=str(out),
        shape=(len(state.slices), *state.shape),
        pixel_size=state.regions[0].pixel_size,
        transcripts=total(state.counts),
        **state.panel.found(),
        intensities={t: [r.low, r.high] for t, r in ramps.items() if not r.identity},
        percentiles=state.options.percentiles,
        missing_planes=[i for region in state.regions for i in region.missing()] + state.missing,
        warnings=state.warnings,
    )


def _source(state: _Import, report: ImportReport) -> dict[str, object]:
    options = state.options
    return {
        "import": report.to_dict(),
        "regions": [str(region.path) for region in state.regions],
        "region_shapes": [list(region.shape) for region in state.regions],
        "transforms": [region.transform.tolist() for region in state.regions],
        "registrations": registrations(state.entries, state.placed),
        "transcripts": [asdict(counts) for counts in state.counts],
        "stains": options.stains,
        "planes": options.planes,
        "project": options.project if options.planes == "project" else None,
        "slices": [{"region": item.region, "planes": item.planes} for item in state.slices],
    }

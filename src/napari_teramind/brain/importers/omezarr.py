"""Importer that assembles a brain from separate OME-Zarr images (0.4 or 0.5)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_teramind.brain import foundation, layout
from napari_teramind.brain.importers.intensity import Ramp, check_percentiles, measure_ramp
from napari_teramind.brain.importers.ngff import (
    Source,
    find_level,
    open_image,
    pick_channel,
    split_channel,
)
from napari_teramind.brain.importers.report import ImportReport
from napari_teramind.brain.layout import BIN, LabelInfo
from napari_teramind.brain.writer import BrainWriter, Report
from napari_teramind.errors import UserError

# Pixel sizes that differ by less, relative, are one size told with more or fewer digits. What such
# a difference adds up to across the image is checked apart.
_SAME_SIZE = 0.005


@dataclass
class _Inputs:
    """The images opened, and what of them is used."""

    stains: dict[str, tuple[Source, int]]
    genes: Source
    labels: dict[str, tuple[Source, LabelInfo]]
    percentiles: tuple[float, float]
    report: Report | None
    warnings: list[str] = field(default_factory=list)

    @property
    def grid(self) -> Source:
        """The image on whose pixels all others lie."""
        return next(iter(self.stains.values()))[0]

    def say(self, message: str, done: int, total: int) -> None:
        if self.report is not None:
            self.report(message, done, total)


def import_omezarr(
    out: str | Path,
    *,
    stains: Mapping[str, str | Path],
    genes: str | Path,
    structures: str | Path | None = None,
    tissue: str | Path | None = None,
    gene_names: Sequence[str] | None = None,
    slice_positions: Sequence[float] | None = None,
    percentiles: tuple[float, float] = (0.1, 99.9),
    name: str | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> ImportReport:
    """Make a brain of separate multiscale images that lie over one another in the world.

    Of every stain the level is taken whose pixels are a sixteenth of the gene bins. Memory is
    bounded by one tile of all genes.

    Parameters
    ----------
    out : path
        Brain to make.
    stains : mapping of str to path
        Image of every stain; ``image.zarr#channel`` names or numbers a channel of several,
        otherwise the one with the stain's name is taken.
    genes : path
        Image of gene counts, a channel a gene, in bins of 16 pixels.
    structures, tissue : path, optional
        Label images whose pixels are a whole number of the stains' pixels.
    gene_names : sequence of str, optional
        Names of the channels of `genes`; its own channel labels if not given.
    slice_positions : sequence of float, optional
        True z positions in micrometers; even spacing as in the metadata if not given.
    percentiles : tuple of float
        Percentiles, per stain over all slices, of the pixels that are not zero, that become 0 and
        255; 8-bit images are taken as they are.
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
        If an image is missing or malformed, images are not aligned, genes have no names, or
        something is at `out` already.
    """
    out = Path(out)
    check_percentiles(percentiles)
    foundation.check_target(out, overwrite)
    foundation.check_panel(["any"], [layout.stain_channel(stain) for stain in stains])
    inputs = _open(stains, genes, {"structures": structures, "tissue": tissue}, percentiles, report)
    panel = _panel(inputs.genes, gene_names)
    positions = _slice_positions(inputs.grid, slice_positions)
    ramps = {stain: _ramp(inputs, stain) for stain in stains}
    result = _report(inputs, out, panel, ramps)
    writer = BrainWriter.create(
        out,
        name=name or out.stem,
        shape=result.shape,
        genes=panel,
        stains=[layout.stain_channel(stain) for stain in stains],
        pixel_size=result.pixel_size,
        slice_positions=positions,
        labels={label: info for label, (_, info) in inputs.labels.items()},
        source={"import": result.to_dict(), "images": _origins(inputs)},
        overwrite=overwrite,
        report=report,
    )
    try:
        _write(writer, inputs, panel, ramps)
        writer.update_source({"import": result.to_dict()})
        writer.finish()
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return result


# Opening and aligning


def _open(
    stains: Mapping[str, str | Path],
    genes: str | Path,
    labels: Mapping[str, str | Path | None],
    percentiles: tuple[float, float],
    report: Report | None,
) -> _Inputs:
    counts = Source(open_image(str(genes)), 0, "the gene image")
    counts.check()
    inputs = _Inputs({}, counts, {}, percentiles, report)
    for stain, location in stains.items():
        path, channel = split_channel(location)
        image = open_image(path)
        source = find_level(image, counts.pixel / BIN, f"the stain {stain}", _SAME_SIZE)
        if source is None:
            sizes = ", ".join(f"{image.scale(k)[-1]:g}" for k in range(len(image.levels)))
            raise UserError(
                f"{path} has pixels of {sizes} um, but the bins of {counts.image.path} are"
                f" {counts.pixel:g} um, which needs pixels of {counts.pixel / BIN:g} um"
                f" ({BIN} a bin): correct the scale of one of them."
            )
        inputs.stains[stain] = (source, pick_channel(source, stain, channel))
    for source, _ in inputs.stains.values():
        _check_aligned(inputs, source, 1)
    _check_aligned(inputs, counts, BIN)
    for label, place in labels.items():
        if place is not None:
            inputs.labels[label] = _open_label(inputs, label, str(place))
    return inputs


def _open_label(inputs: _Inputs, label: str, path: str) -> tuple[Source, LabelInfo]:
    source = Source(open_image(path), 0, f"the label image {label}")
    source.check()
    if source.array.dtype.kind not in "ui" or source.channels != 1:
        raise UserError(
            f"{path} has {source.channels} channels of {source.array.dtype}: {label} needs a label"
            " image of integers."
        )
    ratio = source.pixel / inputs.grid.pixel
    factor = max(1, round(ratio))
    if abs(ratio / factor - 1) > _SAME_SIZE:
        raise UserError(
            f"{path} has pixels of {source.pixel:g} um, which is {ratio:.3g} pixels of the stains"
            f" ({inputs.grid.pixel:g} um): it must be a whole number."
        )
    _check_aligned(inputs, source, factor)
    return source, LabelInfo(factor, source.image.label_rows)


def _check_aligned(inputs: _Inputs, source: Source, factor: int) -> None:
    """Check that an image begins where the stains begin, and ends where they end.

    The outer corners of the first pixels are compared, so that images told with and without the
    half-pixel shift of their pixel centres both pass.
    """
    grid = inputs.grid
    path, other = source.image.path, grid.image.path
    _check_slices(source, grid)
    # Stains share a grid; bins and labels may be off by half of one of theirs.
    limit = source.pixel / 2
    dy, dx = (a - b for a, b in zip(source.corner, grid.corner, strict=True))
    if max(abs(dy), abs(dx)) > limit * (1 + 1e-6):
        raise UserError(
            f"{path} begins {dy:+.2f} um in y and {dx:+.2f} um in x from {other}, more than half of"
            f" its pixels ({limit:.3g} um): align the images, or correct the translation."
        )
    if max(abs(dy), abs(dx)) > limit / 100 and source is not grid:
        inputs.warnings.append(
            f"{path} begins {dy:+.3f} um in y and {dx:+.3f} um in x from {other}, less than half a"
            " pixel of it: taken as aligned."
        )
    for axis, mine, its in zip("yx", source.shape[1:], grid.shape[1:], strict=True):
        end = its * grid.pixel
        drift = its / factor * source.pixel - end
        fits = mine in (its // factor, layout.ceil_div(its, factor))
        if not fits or abs(drift) > limit:
            raise UserError(
                f"{path} is {mine * source.pixel:.2f} um long in {axis} but {other} is {end:.2f} um"
                f" ({mine} and {its} pixels): the images must show the same field."
            )


def _check_slices(source: Source, grid: Source) -> None:
    path, other = source.image.path, grid.image.path
    if source.shape[0] != grid.shape[0]:
        raise UserError(
            f"{path} has {source.shape[0]} slices but {other} has {grid.shape[0]}: the images must"
            " show the same slices."
        )
    if "z" not in source.image.axes or "z" not in grid.image.axes:
        return
    count = grid.shape[0]
    shift = source.z_origin - grid.z_origin
    drift = (source.spacing - grid.spacing) * (count - 1)
    if max(abs(shift), abs(shift + drift)) > grid.spacing / 2:
        raise UserError(
            f"{path} has slices from {source.z_origin:g} um every {source.spacing:g} um but {other}"
            f" from {grid.z_origin:g} um every {grid.spacing:g} um: correct one of them."
        )


def _panel(genes: Source, names: Sequence[str] | None) -> list[str]:
    path = genes.image.path
    if names is None:
        names = [channel.name for channel in genes.image.channels]
        if not names:
            raise UserError(
                f"{path} does not name its channels: give the genes in a list of"
                f" {genes.channels} names."
            )
    if len(names) != genes.channels:
        raise UserError(
            f"{path} has {genes.channels} channels but {len(names)} genes are named: give one name"
            " a channel."
        )
    foundation.check_panel(names, [layout.stain_channel("any")])
    return list(names)


def _slice_positions(grid: Source, given: Sequence[float] | None) -> list[float]:
    depth = grid.shape[0]
    if given is None:
        return [grid.z_origin + i * grid.spacing for i in range(depth)]
    if len(given) != depth or not (np.diff(given) > 0).all():
        raise UserError(
            f"{len(given)} slice positions were given for {depth} slices: give one a slice,"
            " ascending."
        )
    return list(given)


# Writing


def _ramp(inputs: _Inputs, stain: str) -> Ramp:
    source, channel = inputs.stains[stain]
    depth, height, width = source.shape

    def blocks() -> Iterator[np.ndarray]:
        for z in range(depth):
            for y0, y1, x0, x1 in layout.tiles(0, height, 0, width, layout.STAIN_TILE):
                yield source.read(z, slice(y0, y1), slice(x0, x1), channel)
            inputs.say(f"Measuring intensities of {stain}", z + 1, depth)

    what = f"The image {source.image.path}"
    return measure_ramp(blocks, np.dtype(source.array.dtype), inputs.percentiles, what)


def _write(
    writer: BrainWriter, inputs: _Inputs, panel: Sequence[str], ramps: Mapping[str, Ramp]
) -> None:
    depth, height, width = writer.shape
    for z in range(depth):
        for y0, y1, x0, x1 in layout.tiles(0, height, 0, width, writer.tile):
            image = np.stack(
                [
                    ramps[stain](source.read(z, slice(y0, y1), slice(x0, x1), channel)[0])
                    for stain, (source, channel) in inputs.stains.items()
                ]
            )
            writer.write_stains(z, y0, x0, image)
        inputs.say("Writing stains", z + 1, depth)
    bins = layout.ceil_div(height, BIN), layout.ceil_div(width, BIN)
    whole = True
    for z in range(depth):
        for y0, y1, x0, x1 in layout.tiles(0, bins[0], 0, bins[1], writer.gene_tile):
            counts = _padded(inputs.genes, z, y0, y1, x0, x1)
            _check_counts(inputs.genes, counts, panel)
            whole = whole and bool((counts == np.rint(counts)).all())
            writer.write_genes(z, y0, x0, counts)
        inputs.say("Writing genes", z + 1, depth)
    if not whole:
        inputs.warnings.append(
            f"{inputs.genes.image.path} holds values that are not whole numbers: they are kept, but"
            " checkpoints expect transcript counts."
        )
    for label, (source, _) in inputs.labels.items():
        _write_label(writer, label, source)


def _padded(source: Source, z: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    """Read a block; where the image ends earlier, fill up with zeros."""
    block = source.read(z, slice(y0, y1), slice(x0, x1))
    missing = (y1 - y0 - block.shape[1], x1 - x0 - block.shape[2])
    return np.pad(block, ((0, 0), (0, missing[0]), (0, missing[1]))) if any(missing) else block


def _check_counts(source: Source, counts: np.ndarray, panel: Sequence[str]) -> None:
    bad = ~np.isfinite(counts) | (counts < 0)
    if bad.any():
        gene = panel[int(np.argwhere(bad.any(axis=(1, 2)))[0, 0])]
        raise UserError(
            f"{source.image.path} has negative or undefined values in the channel of {gene!r}: gene"
            " counts are zero or more."
        )


def _write_label(writer: BrainWriter, label: str, source: Source) -> None:
    height, width = writer.label_shape(label)
    for z in range(writer.shape[0]):
        for y0, y1, x0, x1 in layout.tiles(0, height, 0, width, writer.label_tile(label)):
            image = _padded(source, z, y0, y1, x0, x1)[0]
            if image.size and image.min() < 0:
                raise UserError(
                    f"{source.image.path} has negative labels: label images hold ids, 0 for none."
                )
            writer.write_label(label, z, image, y0, x0)


def _report(
    inputs: _Inputs, out: Path, panel: Sequence[str], ramps: Mapping[str, Ramp]
) -> ImportReport:
    grid = inputs.grid
    return ImportReport(
        format="omezarr",
        path=str(out),
        shape=grid.shape,
        pixel_size=grid.pixel,
        genes=len(panel),
        intensities={s: [r.low, r.high] for s, r in ramps.items() if not r.identity},
        percentiles=inputs.percentiles,
        warnings=inputs.warnings,
    )


def _origins(inputs: _Inputs) -> dict[str, dict[str, object]]:
    """Where every image came from: path, level, channel, and its corner in the source's world."""
    used = {stain: (source, channel) for stain, (source, channel) in inputs.stains.items()}
    used["genes"] = (inputs.genes, 0)
    used |= {label: (source, 0) for label, (source, _) in inputs.labels.items()}
    return {
        name: {
            "path": source.image.path,
            "level": source.level,
            "channel": channel if name in inputs.stains else None,
            "corner_um": list(source.corner),
        }
        for name, (source, channel) in used.items()
    }

"""Attention written into the brain, unit by unit; a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.attention.maps import Report, placement_of, provenance_of
from napari_teramind.attention.pairs import MapChannel
from napari_teramind.attention.regions import structure_mask
from napari_teramind.attention.tiles import Region, region_of
from napari_teramind.attention.units import Computer
from napari_teramind.brain.layout import BIN, GENE_COLORS, Channel
from napari_teramind.brain.maps import MapWriter
from napari_teramind.words import size

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind

KIND = "attention"


@dataclass(frozen=True)
class AttentionPlan:
    """What computing maps takes.

    Attributes
    ----------
    region
        Bins and slices.
    units
        Work units: tiles of 256 bins of a slice group.
    channels
        Channels of the result.
    bytes
        Size of the result's finest level before compression.
    """

    region: Region
    units: int
    channels: int
    bytes: int

    @property
    def text(self) -> str:
        """One line for people."""
        depth, height, width = self.region.shape
        slices = f"{depth} slice" + ("" if depth == 1 else "s")
        return (
            f"{height:,} x {width:,} bins x {slices}, {self.channels} channels, "
            f"{size(self.bytes)} before compression"
        )


def attention_to_store(
    brain: BrainStore,
    model: TeraMind,
    name: str,
    pairs: Sequence[Sequence[str]],
    roi: tuple[int, int, int, int] | None = None,
    slices: tuple[int, int] | None = None,
    structures: Sequence[str] | None = None,
    maps: Sequence[str] | None = None,
    report: Report | None = None,
    job: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """Compute attention and write it to ``attention/<name>`` of the brain, with provenance.

    A run that was killed goes on with the units that are not in its ledger; the result appears
    when it is complete.

    Parameters
    ----------
    name
        Name of the result.
    job
        The job's whole specification, kept in the provenance.
    overwrite
        Replace a result of that name.
    **others
        As for :func:`napari_teramind.attention`.

    Returns
    -------
    str
        Path of the OME-Zarr image written.
    """
    computer, region = prepare(brain, model, pairs, roi, slices, structures, maps)
    provenance = provenance_of(computer, region, structures)
    identity = {key: value for key, value in provenance.items() if key != "threads"}
    writer = MapWriter.begin(
        brain,
        KIND,
        name,
        shape=(len(computer.channels), *region.shape),
        channels=shown_channels(computer.channels),
        placement=placement_of(brain, region),
        identity=identity,
        overwrite=overwrite,
    )
    try:
        _fill(writer, computer, region, report)
        return writer.publish(
            result_attributes(computer.channels, region, model.config.genes),
            {"job": dict(job or {}), **provenance},
            report,
        )
    finally:
        writer.release()


def plan_attention(
    brain: BrainStore,
    model: TeraMind,
    pairs: Sequence[Sequence[str]],
    roi: tuple[int, int, int, int] | None = None,
    slices: tuple[int, int] | None = None,
    structures: Sequence[str] | None = None,
    maps: Sequence[str] | None = None,
) -> AttentionPlan:
    """Check a request and say what it takes; see :func:`attention_to_store`."""
    computer, region = prepare(brain, model, pairs, roi, slices, structures, maps)
    units = sum(1 for _ in region.units(model.config.image_slices))
    channels = len(computer.channels)
    return AttentionPlan(region, units, channels, 4 * channels * int(np.prod(region.shape)))


def prepare(
    brain: BrainStore,
    model: TeraMind,
    pairs: Sequence[Sequence[str]],
    roi: tuple[int, int, int, int] | None,
    slices: tuple[int, int] | None,
    structures: Sequence[str] | None,
    maps: Sequence[str] | None,
) -> tuple[Computer, Region]:
    """Check a request; return what computes it, and its region."""
    region, mask = region_of(brain, roi, slices), None
    if structures is not None:
        region, mask = structure_mask(brain, structures, region)
    return Computer(brain, model, pairs, maps, mask), region


def _fill(writer: MapWriter, computer: Computer, region: Region, report: Report | None) -> None:
    units = list(region.units(computer.model.config.image_slices, writer.tile))
    for count, unit in enumerate(units):
        if report is not None:
            report("Computing attention", count, len(units))
        places = [(z - region.slices[0], unit.row, unit.column) for z in unit.slices]
        todo = [level for level, place in enumerate(places) if place not in writer.done]
        if not todo:
            continue
        block = computer.compute(unit)
        for level in todo:
            writer.write(places[level], block[:, level])
        del block  # else it would stay while the next one is made
    if report is not None:
        report("Computing attention", len(units), len(units))


def result_attributes(channels: Sequence[MapChannel], region: Region, genes: int) -> dict[str, Any]:
    """What a result says of itself."""
    b0, b1, c0, c1 = region.box
    return {
        "bins": list(region.box),
        "roi": [b0 * BIN, b1 * BIN, c0 * BIN, c1 * BIN],
        "slices": list(region.slices),
        "genes": genes,
        "channels": [channel.to_dict() for channel in channels],
    }


def shown_channels(channels: Sequence[MapChannel]) -> list[Channel]:
    """Names and colours: genes take distinct ones, attention is white."""
    found, genes = [], 0
    for channel in channels:
        color = "FFFFFF"
        if channel.kind == "expression":
            color, genes = GENE_COLORS[genes % len(GENE_COLORS)], genes + 1
        found.append(Channel(channel.name, color))
    return found

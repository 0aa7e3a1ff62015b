"""Generating into a brain: shard by shard, by one process or several, resumable at any instant.

The region is cut into units: the slices of a group, some columns of shards (a lane), some rows of
shards. A unit owns whole shards and can be done in any order, anywhere; what it computes beyond its
border is exactly what its own values depend on (DESIGN 4.3).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_teramind.brain.pyramid import Unit
from napari_teramind.brain.result import ResultReader, ResultWriter
from napari_teramind.model import kernels
from napari_teramind.model.network import TeraMind
from napari_teramind.simulate.batches import Batches
from napari_teramind.simulate.region import PatchBox
from napari_teramind.simulate.request import LANE, Layout, Request, lanes, lay_out
from napari_teramind.simulate.roi import GroupRun, Preview, Report, to_uint8
from napari_teramind.simulate.tissue import ActivePatches
from napari_teramind.simulate.trace import Traces

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

Warn = Callable[[str], None]


@dataclass(frozen=True)
class WorkUnit:
    """Shards that are generated together: slices of a group, rows and columns of shards."""

    first: int
    rows: tuple[int, int]
    columns: tuple[int, int]


def work_units(result: ResultReader, layout: Layout, workers: int = 1) -> list[WorkUnit]:
    """Cut what is not written yet into units; rows that belong together stay together.

    Parameters
    ----------
    result
        What is there already.
    layout
        Of the run.
    workers
        Lanes are made narrower where there would be fewer units than workers.
    """
    rows, columns = result.grid
    wide = LANE
    while wide > 1 and len(layout.groups) * -(-columns // wide) < workers:
        wide //= 2
    units = []
    for first in layout.groups:
        slices = [z - layout.request.slices[0] for z in layout.wanted(first)]
        for left, right in lanes(columns, wide):
            lacking = [
                any((z, row, c) not in result.done for z in slices for c in range(left, right))
                for row in range(rows)
            ]
            for top, bottom in _runs(lacking):
                units.append(WorkUnit(first, (top, bottom), (left, right)))
    return units


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of every run of True."""
    start = None
    for i, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = i
        elif not flag and start is not None:
            yield start, i
            start = None


def unit_target(writer: ResultReader, unit: WorkUnit, patch: int) -> PatchBox:
    """Patches that cover a unit's shards."""
    top, _, left, _ = writer.region((0, unit.rows[0], unit.columns[0]))
    _, bottom, _, right = writer.region((0, unit.rows[1] - 1, unit.columns[1] - 1))
    return PatchBox.covering((top, bottom, left, right), patch)


def generate_unit(
    run: GroupRun, writer: ResultReader, unit: WorkUnit
) -> Iterator[tuple[Unit, np.ndarray]]:
    """Yield the shards of a unit that are not written yet, as they become complete.

    Bands wait in memory until a row of shards is complete.
    """
    layout = run.layout
    target = unit_target(writer, unit, layout.patch)
    slices = [z - layout.request.slices[0] for z in layout.wanted(unit.first)]
    y0, _, x0, _ = writer.region((0, unit.rows[0], unit.columns[0]))
    _, y1, _, x1 = writer.region((0, unit.rows[1] - 1, unit.columns[1] - 1))
    inside = layout.wanted(unit.first)
    z = slice(inside.start - unit.first, inside.stop - unit.first)
    waiting: list[np.ndarray] = []
    at = y0
    row = unit.rows[0]
    for patch_row, rows in run.rows(unit.first, target):
        top, left = patch_row * layout.patch, target.left * layout.patch
        ys = slice(max(y0 - top, 0), min(y1 - top, rows.shape[2]))
        if ys.stop <= ys.start:
            continue
        band = to_uint8(rows[:, z, ys, x0 - left : x1 - left]).cpu().numpy()
        waiting.append(band)
        at += band.shape[2]
        while row < unit.rows[1] and at >= (end := writer.region((0, row, 0))[1]):
            start = writer.region((0, row, 0))[0]
            strip = np.concatenate(waiting, axis=2)
            waiting = [strip[:, :, end - start :]]
            for column in range(*unit.columns):
                left, right = writer.region((0, row, column))[2:]
                for k, shard_z in enumerate(slices):
                    if (shard_z, row, column) not in writer.done:
                        shard = strip[:, k, : end - start, left - x0 : right - x0]
                        yield (shard_z, row, column), np.ascontiguousarray(shard)
            row += 1


def simulate_to_store(
    brain: BrainStore,
    model: TeraMind,
    name: str,
    request: Request,
    report: Report | None = None,
    preview: Preview | None = None,
    warn: Warn | None = None,
    job: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """Generate a region into ``simulations/<name>`` of the brain, with provenance.

    Parameters
    ----------
    brain
        The brain, on this computer.
    model
        The network.
    name
        Name of the result inside the store.
    request
        What to generate.
    report, preview
        As for :func:`~napari_teramind.simulate.simulate`.
    warn
        Told what the user should know, as when memory runs short.
    job
        The job's whole specification, kept in the provenance; `resume` needs it.
    overwrite
        Replace a result of that name; it is kept aside until this one is complete.

    Returns
    -------
    str
        Path of the OME-Zarr image written.

    Raises
    ------
    UserError
        If the request cannot be met, the name is taken or being written, or the disk is full.
    """
    layout = lay_out(brain, model.config, request, model.device.type)
    with begun(brain, name, layout, describe(model, layout, job), overwrite) as writer:
        return complete(brain, model, writer, layout, report, preview, warn)


@contextmanager
def begun(
    brain: BrainStore,
    name: str,
    layout: Layout,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> Iterator[ResultWriter]:
    """Begin a result for a ``with`` block; one that fails before its first shard is not kept.

    Parameters
    ----------
    brain, name, overwrite
        As for `simulate_to_store`.
    layout
        Of the run.
    provenance
        From `describe`.
    """
    request = layout.request
    writer = ResultWriter.create(brain, name, request.roi, request.slices, provenance, overwrite)
    with writer:
        try:
            yield writer
        except BaseException:
            if not writer.done:
                writer.discard()
            raise


def complete(
    brain: BrainStore,
    model: TeraMind,
    writer: ResultWriter,
    layout: Layout,
    report: Report | None = None,
    preview: Preview | None = None,
    warn: Warn | None = None,
    active: ActivePatches | None = None,
    traces: Traces | None = None,
) -> str:
    """Generate what a result lacks, in this process, and make it complete."""
    active = active or ActivePatches(brain, layout)

    def halved(size: int) -> None:
        writer.update_provenance({"batch_halved_to": size})
        if warn is not None:
            warn(
                f"Memory ran out, so that {size} patches are computed at a time from here on; the "
                "result may differ in the last digit from a run with more memory."
            )

    units = work_units(writer, layout)
    total = sum(
        active.evaluations_of(unit.first, unit_target(writer, unit, layout.patch)) for unit in units
    )
    batches = Batches(layout.settings.batch, halved)
    run = GroupRun(brain, model, layout, batches, report, preview, total, active, traces)
    for unit in units:
        for shard, block in generate_unit(run, writer, unit):
            writer.write(shard, block)
    return writer.finish()


def describe(
    model: TeraMind, layout: Layout, job: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the provenance of a run."""
    request = layout.request
    return {
        "job": dict(job or {}),
        "request": request.to_dict(),
        "roi_px": list(request.roi),
        "slices": list(request.slices),
        "seed": request.seed,
        "steps": request.steps,
        "sampler": request.sampler,
        "halo": request.halo,
        "noise": request.noise,
        "where": request.where,
        "checkpoint_sha256": model.sha256,
        "model": model.config.to_dict(),
        "genes_matched": "by name" if model.gene_names else "by position",
        **computation(model),
        "cut": asdict(layout.settings),
    }


def computation(model: TeraMind) -> dict[str, Any]:
    """Return what bit-equality of results depends on besides the job (DESIGN 4.9)."""
    from napari_teramind import __version__

    device = model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "versions": {
            "napari-teramind": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": f"{device.type}: {name or platform.machine()}",
        "precision": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "kernels": kernels.chosen(device.type),
    }

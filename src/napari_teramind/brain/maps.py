"""Maps that are written into a brain shard by shard, and can go on after a kill.

A result grows in a hidden folder beside the finished ones. Which shards are done stands in its
ledger with their checksums; the folder's name holds a hash of what is computed, so that only the
same job goes on with it. It gets its own name in one step, when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_teramind.brain import layout, multiscale, pyramid
from napari_teramind.brain.layout import Channel, Placement
from napari_teramind.brain.ledger import LEDGER, Entry, Ledger, checksum, recorded
from napari_teramind.brain.pyramid import Unit
from napari_teramind.brain.runs import RunFolder, disk_errors, local_folder
from napari_teramind.brain.writer import Report
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.brain.store import BrainStore

_ON_FULL_DISK = "start it again: it goes on where it was"

# Channels read at a time.
_AT_ONCE = 32


class MapWriter:
    """Writes one float32 result (c, z, y, x) of a brain. Make it with `begin`.

    Attributes
    ----------
    done : set of tuple
        Shards (slice, row, column), counted from the result's corner, that are written.
    """

    def __init__(
        self, folder: Path, run: RunFolder, channels: Sequence[Channel], placement: Placement
    ) -> None:
        self._folder, self._run = folder, run
        self._channels, self._placement = list(channels), placement
        self._group = zarr.open_group(str(folder), mode="r+")
        count = _levels(self._array(0).shape)
        self._levels = [self._array(level) for level in range(count)]
        self._ledger = Ledger(folder)
        self.done: set[Unit] = set()
        self._ledger.rewrite([entry for entry in self._ledger.read() if self._recover(entry)])

    def _recover(self, entry: Entry) -> bool:
        if entry.unit in self.done or recorded(self._levels[0], entry) is None:
            return False
        self.done.add(entry.unit)
        return True

    @classmethod
    def begin(
        cls,
        brain: BrainStore,
        kind: str,
        name: str,
        *,
        shape: tuple[int, int, int, int],
        channels: Sequence[Channel],
        placement: Placement,
        identity: Mapping[str, Any],
        tile: int = layout.GENE_TILE,
        overwrite: bool = False,
    ) -> MapWriter:
        """Begin a result, or go on with one that was interrupted.

        Parameters
        ----------
        brain : BrainStore
            A brain on this computer.
        kind : str
            Group of the result, as ``attention``.
        name : str
            Its name.
        shape : tuple of int
            (c, z, y, x).
        channels : sequence of Channel
            Names and colours; their windows are set at the end.
        placement : Placement
            Where it lies.
        identity : mapping
            All that the values depend on; JSON.
        tile : int
            Side of a shard.
        overwrite : bool
            Allow to replace a result of that name, when this one is complete.

        Raises
        ------
        UserError
            If the name is not allowed or taken, the brain is remote, its disk full, or another run
            is writing this very result.
        """
        layout.check_name(name, "result")
        run = RunFolder(local_folder(brain) / kind / name)
        root = zarr.open_group(brain.path, mode="r+")
        root.require_group(kind)
        text = json.dumps([name, list(shape), dict(identity)], sort_keys=True)
        key = f".{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        folder = run.result.with_name(key)
        run.acquire()
        try:
            if run.result.exists() and not overwrite:
                raise UserError(
                    f"The brain has a result {name!r} in {kind} already: choose another name, or"
                    " allow overwriting."
                )
            with disk_errors(run.result, _ON_FULL_DISK):
                if not (folder / LEDGER).exists():  # the last thing that is made
                    shutil.rmtree(folder, ignore_errors=True)
                    group = root.create_group(f"{kind}/{key}")
                    multiscale.create_levels(group, shape, _levels(shape), np.float32, tile, tile)
                return cls(folder, run, channels, placement)
        except BaseException:
            run.release()
            raise

    def _array(self, level: int) -> zarr.Array[Any]:
        node = self._group[str(level)]
        assert isinstance(node, zarr.Array)
        return node

    @property
    def tile(self) -> int:
        """Side of a shard of the finest level."""
        return pyramid.tile_side(self._levels[0])

    def write(self, unit: Unit, block: np.ndarray) -> None:
        """Write a whole shard (c, y, x) of one slice, and note it in the ledger.

        Raises
        ------
        UserError
            If the disk is full.
        """
        if unit in self.done:
            raise ValueError(f"shard {unit} was already written")
        block = np.ascontiguousarray(block, dtype=np.float32)
        with disk_errors(self._run.result, _ON_FULL_DISK):
            pyramid.put_shard(self._levels[0], unit, block)
            self._ledger.append("0", unit, checksum(block))
        self.done.add(unit)

    def release(self) -> None:
        """Let another run go on with what is written so far."""
        self._run.release()

    def publish(
        self,
        attributes: Mapping[str, Any],
        provenance: Mapping[str, Any],
        report: Report | None = None,
    ) -> str:
        """Build the coarser levels and give the result its name.

        Parameters
        ----------
        attributes : mapping
            What the result says of itself, besides.
        provenance : mapping
            How it was made.
        report : callable, optional
            Progress callback.

        Raises
        ------
        UserError
            If the disk is full.

        Returns
        -------
        str
            Path of the result.
        """
        with disk_errors(self._run.result, _ON_FULL_DISK):
            self._build_levels(report)
            made = multiscale.image_attributes(
                self._run.result.name, len(self._levels), self._placement, self._windows(), 1.0
            )
            made["teramind"] = {
                **attributes,
                "complete": True,
                "provenance": dict(provenance),
            }
            self._group.attrs.update(made)
            self._run.put(self._folder)
        self._run.close()
        return str(self._run.result)

    def _build_levels(self, report: Report | None) -> None:
        units: list[Unit] = sorted(self.done)
        work = []
        for level in range(1, len(self._levels)):
            units = pyramid.coarser_units(units)
            work += [(level, unit) for unit in units]
        for count, (level, unit) in enumerate(work):
            fine, coarse = self._levels[level - 1], self._levels[level]
            pyramid.build_unit(fine, coarse, unit, pyramid.mean_halve)
            if report is not None:
                report("Building pyramids", count + 1, len(work))

    def _windows(self) -> list[Channel]:
        """Channels with windows up to the 99.5th percentile of what is not zero."""
        coarsest = self._levels[-1]
        found = []
        for index, channel in enumerate(self._channels):
            if index % _AT_ONCE == 0:
                block = np.asarray(coarsest[index : index + _AT_ONCE])
            values = block[index % _AT_ONCE]
            positive = values[values > 0]
            top = float(np.percentile(positive, 99.5)) if positive.size else 1.0
            found.append(replace(channel, window=(0.0, top)))
        return found


def _levels(shape: tuple[int, ...]) -> int:
    return layout.n_levels(shape[-2], shape[-1], smallest=8)

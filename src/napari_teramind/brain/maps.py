"""Maps that are written into a brain shard by shard, and can go on after a kill.

A result grows in a hidden folder beside the finished ones. Which shards are done stands in its
ledger with their checksums; the folder's name holds a hash of what is computed, so that only the
same job goes on with it. It gets its own name in one step, when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import zarr

from napari_teramind.brain import layout, multiscale, pyramid
from napari_teramind.brain.layout import Channel, Placement
from napari_teramind.brain.ledger import LEDGER, Ledger, checksum
from napari_teramind.brain.pyramid import Unit
from napari_teramind.brain.writer import Report
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.brain.store import BrainStore

_LOCK = "lock"

# Channels read at a time.
_AT_ONCE = 32


class MapWriter:
    """Writes one float32 result (c, z, y, x) of a brain. Make it with `begin`.

    Attributes
    ----------
    done : set of tuple
        Shards (slice, row, column), counted from the result's corner, that are written.
    resumed : bool
        Whether an earlier run had begun.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        channels: Sequence[Channel],
        placement: Placement,
        lock: filelock.BaseFileLock,
    ) -> None:
        self._folder, self._name, self._lock = folder, name, lock
        self._channels, self._placement = list(channels), placement
        self._group = zarr.open_group(str(folder), mode="r+")
        count = _levels(self._array(0).shape)
        self._levels = [self._array(level) for level in range(count)]
        self._ledger = Ledger(folder)
        self.done: set[Unit] = set()
        entries, kept = self._ledger.read(), []
        for entry in entries:
            block = np.asarray(self._levels[0][pyramid.unit_region(self._levels[0], entry.unit)])
            if checksum(block) == entry.crc32 and entry.unit not in self.done:
                self.done.add(entry.unit)
                kept.append(entry)
        self.resumed = bool(kept)
        if kept != entries:
            self._ledger.rewrite(kept)
        (folder / LEDGER).touch()

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
            If the name is not allowed or taken, the brain is remote, or another process is
            writing this very result.
        """
        layout.check_name(name, "result")
        if "://" in brain.path:
            raise UserError(
                f"{brain.path} is remote, and results are kept in the brain: copy the brain to this"
                " computer."
            )
        parent = Path(brain.path) / kind
        if (parent / name).exists() and not overwrite:
            raise UserError(
                f"The brain has a result {name!r} in {kind} already: choose another name, or allow"
                " overwriting."
            )
        root = zarr.open_group(brain.path, mode="r+")
        root.require_group(kind)
        text = json.dumps([name, list(shape), dict(identity)], sort_keys=True)
        key = f".{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        folder = parent / key
        if not (folder / LEDGER).exists():  # the last thing that is made
            shutil.rmtree(folder, ignore_errors=True)
            group = root.create_group(f"{kind}/{key}")
            multiscale.create_levels(group, shape, _levels(shape), np.float32, tile, tile)
        lock = _locked(folder, name)
        try:
            return cls(folder, name, channels, placement, lock)
        except BaseException:
            lock.release()
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
        """Write a whole shard (c, y, x) of one slice, and note it in the ledger."""
        if unit in self.done:
            raise ValueError(f"shard {unit} was already written")
        block = np.ascontiguousarray(block, dtype=np.float32)
        self._levels[0][pyramid.unit_region(self._levels[0], unit)] = block
        self._ledger.append("0", unit, checksum(block))
        self.done.add(unit)

    def release(self) -> None:
        """Let another process go on with what is written so far."""
        self._lock.release()

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

        Returns
        -------
        str
            Path of the result.
        """
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
        made = multiscale.image_attributes(
            self._name, len(self._levels), self._placement, self._windows(), 1.0
        )
        made["teramind"] = {
            **attributes,
            "complete": True,
            "provenance": dict(provenance),
        }
        self._group.attrs.update(made)
        target = self._folder.with_name(self._name)
        old = self._folder.with_name(f".{uuid.uuid4().hex}.old")
        if target.exists():
            target.rename(old)
        self.release()  # a folder with an open file cannot be renamed everywhere
        (self._folder / _LOCK).unlink(missing_ok=True)
        self._folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        return str(target)

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


def _locked(folder: Path, name: str) -> filelock.BaseFileLock:
    """Take the lock of a folder; the system lets it go when a process ends, however it ends."""
    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"Another process is computing {name!r} just now; wait for it, or choose another name."
        ) from None
    return lock

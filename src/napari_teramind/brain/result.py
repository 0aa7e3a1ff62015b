"""Results that grow inside a brain: shards written once, in any order, by runs that may die.

A result lies at ``simulations/<name>`` from its first shard on, marked incomplete until the last.
What a run needs to go on lies beside it (:mod:`napari_teramind.brain.runs`), and goes when the
result is complete: the ledger of finished shards with their checksums, and the result that this one
replaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr

from napari_teramind.brain import foundation, layout, multiscale
from napari_teramind.brain.growth import GrowingPyramid
from napari_teramind.brain.layout import Placement
from napari_teramind.brain.ledger import Entry, checksum, recorded
from napari_teramind.brain.pyramid import Unit, put_shard, tile_side, unit_region
from napari_teramind.brain.runs import RunFolder, disk_errors, local_folder
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.brain.store import BrainStore

Roi = tuple[int, int, int, int]
Range = tuple[int, int]

_SMALL, _SMALL_TILE = 16384, 1024
_KIND = "simulations"
_ON_FULL_DISK = "go on with 'teramind resume'"


def result_tile(height: int, width: int) -> int:
    """Side of a result's shards: small for small results, so that they grow and resume finely."""
    return layout.STAIN_TILE if max(height, width) > _SMALL else _SMALL_TILE


class ResultReader:
    """Geometry of a result, and its arrays: all that a worker process needs.

    Attributes
    ----------
    path : Path
        Folder of the result.
    roi, slices : tuple of int
        Region that it stands for, pixels and slices, half open.
    provenance : dict
        How it is made.
    levels : list of zarr.Array
        Its arrays, finest first.
    tile : int
        Side of a shard in px.
    done : set
        Shards (slice within the result, row, column) that are known to be finished.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._group = zarr.open_group(str(path), mode="r+")
        meta = foundation.attributes(self._group)["teramind"]
        self.provenance: dict[str, Any] = meta["provenance"]
        self.roi: Roi = tuple(meta["roi"])
        self.slices: Range = tuple(meta["slices"])
        levels = multiscale.MultiscaleImage(self._group, str(path)).levels
        self.levels = [zarr.open_array(self.path / level.basename, mode="r+") for level in levels]
        self.tile = tile_side(self.levels[0])
        self.done: set[Unit] = set()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (stains, z, y, x)."""
        stains, z, y, x = self.levels[0].shape
        return stains, z, y, x

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of shards."""
        return -(-self.shape[2] // self.tile), -(-self.shape[3] // self.tile)

    def units(self) -> Iterator[Unit]:
        """All shards."""
        rows, columns = self.grid
        for z in range(self.shape[1]):
            for row in range(rows):
                for column in range(columns):
                    yield z, row, column

    def region(self, unit: Unit) -> Roi:
        """Pixels (y0, y1, x0, x1) of a shard on the brain's grid."""
        _, row, column = unit
        top, left = self.roi[0] + row * self.tile, self.roi[2] + column * self.tile
        bottom, right = min(top + self.tile, self.roi[1]), min(left + self.tile, self.roi[3])
        return top, bottom, left, right


class ResultWriter(ResultReader):
    """Writes one simulation. Make it with `create` or `resume`; use it as a context manager.

    Leaving the ``with`` block gives the lock back; what was written stays, and `resume` goes on
    with it. `finish` makes the result complete.

    Attributes
    ----------
    name : str
        Its name.
    """

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.result)
        self.name, self._run = run.result.name, run
        self._growth = GrowingPyramid(self.levels)

    @classmethod
    def create(
        cls,
        brain: BrainStore,
        name: str,
        roi: Roi,
        slices: Range,
        provenance: Mapping[str, Any],
        overwrite: bool = False,
    ) -> ResultWriter:
        """Begin a result.

        Parameters
        ----------
        brain
            The brain, on this computer.
        name
            Name of the result.
        roi, slices
            Region that will be generated.
        provenance
            How it is made; JSON.
        overwrite
            Replace a result of that name. A complete one is kept aside until this one is complete;
            see `discard`.

        Raises
        ------
        UserError
            If the name is not allowed or taken, another run writes it, or the brain is remote.
        """
        layout.check_name(name, "simulation")
        brain.check_roi(roi, slices)
        run = RunFolder(local_folder(brain) / _KIND / name)
        zarr.open_group(brain.path, mode="r+").require_group(_KIND)
        run.acquire()
        try:
            if run.result.exists() and not overwrite:
                raise UserError(_taken(brain, name))
            with run.making() as new, disk_errors(run.result, "start it again"):
                cls._create_empty(brain, new, name, roi, slices, provenance)
                run.ledger.rewrite([])  # of a run that is not gone on with
                run.put(new)
            return cls(run)
        except BaseException:
            run.release()
            raise

    @staticmethod
    def _create_empty(
        brain: BrainStore,
        path: Path,
        name: str,
        roi: Roi,
        slices: Range,
        provenance: Mapping[str, Any],
    ) -> None:
        y0, y1, x0, x1 = roi
        # The brain's own nominal grid, so that the result lies over its slices.
        z_scale, z_origin = brain.stains.scale()[1], brain.stains.translation()[1]
        placement = Placement(
            brain.pixel_size, 1, z_scale, z_origin + slices[0] * z_scale, (y0, x0)
        )
        shape = (len(brain.stain_names), slices[1] - slices[0], y1 - y0, x1 - x0)
        levels = layout.n_levels(*shape[-2:])
        attributes = multiscale.image_attributes(name, levels, placement, brain.stains.channels)
        attributes["teramind"] = {
            "complete": False,
            "roi": list(roi),
            "slices": list(slices),
            "provenance": dict(provenance),
        }
        group = zarr.create_group(str(path), zarr_format=3, attributes=attributes)
        tile = result_tile(*shape[-2:])
        chunk = min(layout.STAIN_CHUNK, tile)
        multiscale.create_levels(group, shape, levels, np.uint8, chunk, tile)

    @classmethod
    def resume(cls, brain: BrainStore, name: str) -> ResultWriter:
        """Go on with a result whose run was interrupted.

        Shards in the ledger are read again and compared with their checksums; those that differ
        count as not written.

        Raises
        ------
        UserError
            If there is no such result, it is complete, or another run writes it.
        """
        run = RunFolder(local_folder(brain) / _KIND / layout.check_name(name, "simulation"))
        run.acquire()
        try:
            if name in brain.simulations:
                raise UserError(f"The simulation '{name}' is complete: there is nothing to resume.")
            if not (run.result / "zarr.json").exists():
                raise UserError(
                    f"The brain has no simulation '{name}' to resume; start it with 'simulate'."
                )
            writer = cls(run)
            run.ledger.rewrite([entry for entry in run.ledger.read() if writer._recover(entry)])
        except BaseException:
            run.release()
            raise
        return writer

    def _recover(self, entry: Entry) -> bool:
        if entry.unit in self.done:
            return False
        block = recorded(self.levels[0], entry)
        if block is None:
            return False
        self._finished(entry.unit, block)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run.release()

    def write(self, unit: Unit, block: np.ndarray) -> None:
        """Write a whole shard and record it.

        Parameters
        ----------
        unit
            Slice within the result, row, column.
        block : ndarray of uint8, (stains, h, w)

        Raises
        ------
        UserError
            If the disk is full.
        """
        if unit in self.done:
            raise ValueError(f"shard {unit} was already written")
        with disk_errors(self.path, _ON_FULL_DISK):
            write_shard(self.levels[0], unit, block)
            self._run.ledger.append("0", unit, checksum(block))
            self._finished(unit, block)

    def adopt(self, entry: Entry) -> None:
        """Take over a shard that another process wrote with `write_shard`.

        Raises
        ------
        ValueError
            If it is not what that process says it wrote.
        """
        block = recorded(self.levels[0], entry)
        if block is None:
            raise ValueError(f"shard {entry.unit} is not what its worker wrote")
        with disk_errors(self.path, _ON_FULL_DISK):
            self._run.ledger.append("0", entry.unit, entry.crc32)
            self._finished(entry.unit, block)

    def _finished(self, unit: Unit, block: np.ndarray) -> None:
        self.done.add(unit)
        self._growth.add(unit, block)

    def update_provenance(self, values: Mapping[str, Any]) -> None:
        """Add entries to the provenance."""
        self.provenance.update(values)
        self._set(complete=False)

    def _set(self, complete: bool) -> None:
        meta = foundation.attributes(self._group)["teramind"]
        meta |= {"provenance": self.provenance, "complete": complete}
        with disk_errors(self.path, _ON_FULL_DISK):
            self._group.attrs["teramind"] = meta

    def finish(self) -> str:
        """Mark the result complete, clear away what the run needed, and return the path."""
        missing = next((unit for unit in self.units() if unit not in self.done), None)
        if missing is not None:
            raise ValueError(f"shard {missing} was never written")
        for left_over in self.path.rglob("*.partial"):  # of writers that were killed
            left_over.unlink(missing_ok=True)
        self._set(complete=True)
        self._run.close()
        return str(self.path)

    def discard(self) -> None:
        """Remove a result that is not worth keeping, and put back the one it was to replace."""
        self._run.put_back()


def write_shard(level: zarr.Array[Any], unit: Unit, block: np.ndarray) -> None:
    """Write one whole shard of level 0: what a worker process does."""
    region = unit_region(level, unit)
    expected = tuple(
        len(range(size)[index]) if isinstance(index, slice) else 1
        for index, size in zip(region, level.shape, strict=True)
    )
    if block.dtype != np.uint8 or block.shape != (expected[0], *expected[2:]):
        raise ValueError(f"block {block.shape} {block.dtype} for shard {unit} of {level.shape}")
    put_shard(level, unit, block)


def _taken(brain: BrainStore, name: str) -> str:
    if name in brain.simulations:
        return (
            f"The brain has a simulation '{name}' already; choose another name or allow "
            "overwriting."
        )
    return (
        f"The brain has an unfinished simulation '{name}'; go on with it by 'teramind resume', "
        "choose another name or allow overwriting."
    )

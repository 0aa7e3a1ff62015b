"""Making a brain: shards written once, pyramids built at the end, completion marked last."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr

from napari_teramind.brain import foundation, layout, multiscale, promotion, pyramid
from napari_teramind.brain.layout import Channel, LabelInfo
from napari_teramind.brain.ledger import Entry, Ledger, checksum, recorded
from napari_teramind.brain.pyramid import Unit
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from napari_teramind.brain.store import BrainStore

Report = Callable[[str, int, int], None]
"""Progress callback: message, how many are done, how many there are."""


class BrainWriter:
    """Writes one brain. Make it with `create` or `resume`; use it as a context manager.

    Leaving the ``with`` block without an exception calls `finish`; after an exception the store
    stays marked incomplete, and `resume` can go on with it.

    Blocks given to the ``write_`` methods begin at multiples of `tile` (pixels) or `gene_tile`
    (bins) and are whole numbers of tiles, except at the far edges; each tile is written once.
    What is never written is zero.

    Attributes
    ----------
    path : Path
        Folder of the store.
    shape : tuple of int
        (z, y, x) of the brain in full-resolution pixels.
    tile : int
        Side in pixels of a shard of the stains.
    gene_tile : int
        Side in bins of a shard of the genes.
    report : callable or None
        Progress callback of `finish`.
    """

    def __init__(self, path: Path, root: zarr.Group, report: Report | None) -> None:
        self.path = path
        self.report = report
        self._root = root
        self._meta: dict[str, Any] = foundation.attributes(root)["teramind"]
        z, y, x = self._meta["shape"]
        self.shape: tuple[int, int, int] = (z, y, x)
        self.genes: tuple[str, ...] = tuple(
            channel.name
            for channel in multiscale.MultiscaleImage(self._group("genes"), "").channels
        )
        self._labels = {
            name: self._meta["images"][name]
            for name in self._meta["images"]
            if name not in ("stains", "genes")
        }
        self.tile = pyramid.tile_side(self._array("stains"))
        self.gene_tile = pyramid.tile_side(self._array("genes"))
        self._ledger = Ledger(path)
        self._written: dict[str, set[Unit]] = {name: set() for name in self._meta["images"]}
        self._totals = np.zeros((len(self.genes), self.shape[0]))
        self._maxima = np.zeros(len(self.genes))

    # Making and resuming

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        name: str,
        shape: tuple[int, int, int],
        genes: Sequence[str],
        stains: Sequence[Channel] = layout.DEFAULT_STAINS,
        pixel_size: float = layout.PIXEL_SIZE,
        slice_positions: Sequence[float] | None = None,
        labels: Mapping[str, LabelInfo] | None = None,
        source: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        report: Report | None = None,
    ) -> BrainWriter:
        """Create an empty brain, marked incomplete.

        Parameters
        ----------
        path : str or Path
            Folder to make.
        name : str
            Name of the animal.
        shape : tuple of int
            (z, y, x) in slices and full-resolution pixels.
        genes : sequence of str
            Gene symbols, in the order of the panel.
        stains : sequence of Channel
            Stains, with colour and contrast.
        pixel_size : float
            Micrometers per pixel.
        slice_positions : sequence of float, optional
            Ascending z positions in micrometers, one per slice; every 100 um if not given.
        labels : mapping of str to LabelInfo, optional
            Label images to make room for: ``structures``, ``tissue``, ``nuclei``.
        source : mapping, optional
            Provenance, free JSON.
        overwrite : bool
            Replace a brain (and nothing else) that is at `path`.
        report : callable, optional
            Progress callback of `finish`.

        Raises
        ------
        UserError
            If something is at `path` already, or a gene is listed twice.
        ValueError
            If shapes or positions make no sense.
        """
        path = Path(path)
        positions = foundation.checked_positions(slice_positions, shape)
        rows = layout.label_rows(labels or {})
        foundation.check_panel(genes, stains)
        foundation.check_target(path, overwrite)
        if path.exists():
            # Renamed first: a kill leaves the old brain, or none, but never half of one.
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            path.rename(old)
            shutil.rmtree(old)
        meta = {
            "format": layout.FORMAT,
            "complete": False,
            "name": name,
            "pixel_size_um": float(pixel_size),
            "slice_positions_um": positions,
            "shape": list(shape),
            "images": {
                "stains": "stains",
                "genes": "genes",
                **{label: f"stains/labels/{label}" for label in rows},
            },
            "source": dict(source or {}),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        root = zarr.create_group(str(path), zarr_format=3, attributes={"teramind": meta})
        foundation.create_images(root, meta, genes, stains, rows)
        return cls(path, root, report)

    @classmethod
    def resume(cls, path: str | Path, report: Report | None = None) -> BrainWriter:
        """Go on with a brain whose making was interrupted.

        Tiles in the ledger are read again and compared with their checksums; those that differ
        count as not written. See `written`.

        Raises
        ------
        UserError
            If there is no incomplete brain at `path`.
        """
        path = Path(path)
        meta = foundation.about_brain(foundation.open_root(str(path)), str(path))
        if meta["complete"]:
            raise UserError(f"{path} is complete: there is nothing to resume.")
        promotion.settle(path, meta["images"]["genes"])
        try:
            writer = cls(path, zarr.open_group(str(path), mode="r+"), report)
        except (KeyError, UserError) as error:
            raise UserError(
                f"{path} was interrupted before its images were made: make it again, overwriting"
                " it."
            ) from error
        kept = [entry for entry in writer._ledger.read() if writer._recover(entry)]
        writer._ledger.rewrite(kept)
        return writer

    def _recover(self, entry: Entry) -> bool:
        if entry.unit in self._written[entry.image]:
            return False
        dtype = np.float32 if entry.image == "genes" else None
        block = recorded(self._array(entry.image), entry, dtype)
        if block is None:
            return False
        self._written[entry.image].add(entry.unit)
        if entry.image == "genes":
            self._count(block, entry.unit[0])
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self._meta["complete"]:
            self.finish()

    # Writing

    def write_stains(self, z: int, y: int, x: int, image: np.ndarray) -> None:
        """Write whole tiles of all stains of a slice.

        Parameters
        ----------
        z, y, x : int
            Slice, and pixel of the block's corner: multiples of `tile`.
        image : ndarray of uint8, (stains, h, w)
        """
        if image.dtype != np.uint8:
            raise ValueError(f"stains are uint8, not {image.dtype}")
        self._write("stains", z, y, x, image)

    def write_genes(self, z: int, y: int, x: int, counts: np.ndarray) -> None:
        """Write whole tiles of all genes of a slice.

        Parameters
        ----------
        z, y, x : int
            Slice, and bin of the block's corner: multiples of `gene_tile`.
        counts : ndarray, (genes, h, w)
            Counts, not negative. The volume is float16 until a value does not fit it exactly
            (beyond 2,048, or a fraction), and float32 from then on.
        """
        if not np.isfinite(counts).all() or (counts < 0).any():
            raise ValueError("gene counts are finite and not negative")
        narrow = self._array("genes").dtype == np.float16
        if narrow and not promotion.fits_float16(counts):
            image = self._meta["images"]["genes"]
            promotion.promote(self.path, self._root, image, sorted(self._written["genes"]))
        self._write("genes", z, y, x, counts.astype(np.float32))

    def write_label(self, name: str, z: int, image: np.ndarray, y: int = 0, x: int = 0) -> None:
        """Write a slice of a label image, or whole tiles of it.

        Parameters
        ----------
        name : str
            Name given to `create`.
        z : int
            Slice.
        image : ndarray of integers, (h, w)
            Ids, 0 for background, at the label's own finest resolution.
        y, x : int
            Corner of the block in label pixels: multiples of ``label_tile(name)``.
        """
        if name not in self._labels:
            raise ValueError(f"no label image {name!r} was created")
        if not np.issubdtype(image.dtype, np.integer) or (image.size and image.min() < 0):
            raise ValueError("labels are integers, not negative")
        self._write(name, z, y, x, image.astype(np.uint32))

    def label_tile(self, name: str) -> int:
        """Side in label pixels of a shard of a label image."""
        return pyramid.tile_side(self._array(name))

    def label_shape(self, name: str) -> tuple[int, int]:
        """Shape (y, x) of a slice of a label image at its finest resolution."""
        height, width = self._array(name).shape[-2:]
        return height, width

    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        """Keep a table as ``tables/<name>.parquet``; an older one is replaced."""
        folder = self.path / "tables"
        folder.mkdir(exist_ok=True)
        file = folder / f"{layout.check_name(name, 'table')}.parquet"
        partial = file.with_suffix(".partial")
        frame.to_parquet(partial, index=False)
        partial.replace(file)

    def written(self, image: str) -> frozenset[Unit]:
        """Tiles (slice, row, column) of ``stains``, ``genes`` or a label that are written."""
        return frozenset(self._written[image])

    def update_source(self, source: Mapping[str, Any]) -> None:
        """Add entries to the provenance."""
        self._meta["source"].update(source)
        self._root.attrs["teramind"] = self._meta

    def finish(self) -> BrainStore:
        """Build the pyramids and the table of gene totals, mark the brain complete and open it."""
        from napari_teramind.brain.store import open_brain

        work = self._pyramid_work()
        done, total = 0, sum(len(units) for _, _, units in work)
        for image, level, units in work:
            reduce = pyramid.majority_halve if image in self._labels else pyramid.mean_halve
            source, target = self._array(image, level - 1), self._array(image, level)
            for unit in units:
                pyramid.build_unit(source, target, unit, reduce)
                done += 1
                if self.report:
                    self.report("Building pyramids", done, total)
        self._write_totals()
        self._meta["complete"] = True
        self._root.attrs["teramind"] = self._meta
        return open_brain(self.path)

    # Inside

    def _group(self, image: str) -> zarr.Group:
        node = self._root[self._meta["images"][image]]
        assert isinstance(node, zarr.Group)
        return node

    def _array(self, image: str, level: int = 0) -> zarr.Array[Any]:
        node = self._root[f"{self._meta['images'][image]}/{level}"]
        assert isinstance(node, zarr.Array)
        return node

    def _write(self, image: str, z: int, y: int, x: int, block: np.ndarray) -> None:
        array = self._array(image)
        side = pyramid.tile_side(array)
        _check_block(array, side, z, y, x, block)
        height, width = block.shape[-2:]
        for y0, y1, x0, x1 in layout.tiles(y, y + height, x, x + width, side):
            unit = (z, y0 // side, x0 // side)
            if unit in self._written[image]:
                raise ValueError(f"tile {unit} of {image} was already written")
            tile = block[..., y0 - y : y1 - y, x0 - x : x1 - x]
            pyramid.put_shard(array, unit, tile)
            self._ledger.append(image, unit, checksum(tile))
            self._written[image].add(unit)
            if image == "genes":
                self._count(tile, z)

    def _count(self, block: np.ndarray, z: int) -> None:
        self._totals[:, z] += block.sum(axis=(1, 2), dtype=np.float64)
        np.maximum(self._maxima, block.max(axis=(1, 2), initial=0), out=self._maxima)

    def _levels(self, image: str) -> int:
        return len(multiscale.MultiscaleImage(self._group(image), image).levels)

    def _pyramid_work(self) -> list[tuple[str, int, list[Unit]]]:
        work = []
        for image in self._meta["images"]:
            units = list(self._written[image])
            for level in range(1, self._levels(image)):
                units = pyramid.coarser_units(units)
                work.append((image, level, units))
        return work

    def _write_totals(self) -> None:
        import pandas as pd

        slices = range(self.shape[0])
        frame = pd.DataFrame(self._totals, index=list(self.genes), columns=list(slices))
        long = frame.rename_axis("gene").reset_index()
        long = long.melt("gene", var_name="slice", value_name="total")
        self.write_table("gene_totals", long)
        group = self._group("genes")
        ome = foundation.attributes(group)["ome"]
        channels = layout.gene_channels(self.genes, self._maxima.tolist())
        ome["omero"] = {"channels": multiscale.omero_channels(channels, 1.0)}
        group.attrs["ome"] = ome


def _check_block(
    array: zarr.Array[Any], side: int, z: int, y: int, x: int, block: np.ndarray
) -> None:
    if block.shape[:-2] != array.shape[: array.ndim - 3]:
        raise ValueError(f"block of shape {block.shape} for an image of shape {array.shape}")
    if not 0 <= z < array.shape[-3]:
        raise ValueError(f"slice {z} of {array.shape[-3]}")
    for start, length, size in zip((y, x), block.shape[-2:], array.shape[-2:], strict=True):
        end = start + length
        whole = end == size or (end < size and end % side == 0)
        if start % side or start < 0 or length < 1 or not whole:
            raise ValueError(f"[{start}, {end}) of {size} is not a whole number of tiles of {side}")

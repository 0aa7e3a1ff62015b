"""Reading a brain: images, gene bins, tables, results."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_teramind.brain import layout
from napari_teramind.brain.foundation import about_brain, is_zip, open_root
from napari_teramind.brain.multiscale import MultiscaleImage
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Roi = tuple[int, int, int, int]
Range = tuple[int, int]


class Results(Mapping[str, MultiscaleImage]):
    """The complete results of one kind in a brain, by name; read anew on every access."""

    def __init__(self, root: zarr.Group, kind: str, path: str) -> None:
        self._root, self._kind, self._path = root, kind, path

    def _group(self) -> zarr.Group | None:
        node = self._root.get(self._kind)
        return node if isinstance(node, zarr.Group) else None

    def __iter__(self) -> Iterator[str]:
        group = self._group()
        return iter(sorted(name for name, complete in self._listed(group) if complete))

    def unfinished(self) -> list[str]:
        """Names of results that a run is writing, or that a run left half made."""
        return sorted(name for name, complete in self._listed(self._group()) if not complete)

    def _listed(self, group: zarr.Group | None) -> Iterator[tuple[str, bool]]:
        """Yield names and whether each is complete; those with a dot in front are no results."""
        for name, node in () if group is None else group.groups():
            if not name.startswith("."):
                yield name, self._complete(node)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> MultiscaleImage:
        if not self._complete(self._node(name)):
            raise KeyError(name)
        return self.growing(name)

    def growing(self, name: str) -> MultiscaleImage:
        """Return a result, be it complete or not.

        Raises
        ------
        KeyError
            If there is none.
        """
        return MultiscaleImage(self._node(name), f"{self._path}/{self._kind}/{name}")

    def _node(self, name: str) -> zarr.Group:
        group = self._group()
        known = group is not None and "/" not in name and not name.startswith(".")
        node = group.get(name) if group is not None and known else None
        if not isinstance(node, zarr.Group):
            raise KeyError(name)
        return node

    @staticmethod
    def _complete(node: zarr.Group) -> bool:
        meta = node.attrs.asdict().get("teramind")
        return not (isinstance(meta, dict) and meta.get("complete") is False)


class BrainStore:
    """A brain opened for reading. Make it with `open_brain`.

    Opening reads a few small metadata files; arrays are opened when first used.

    Attributes
    ----------
    path : str
        Path or address of the store.
    name : str
        Name of the animal.
    shape : tuple of int
        (z, y, x) in slices and full-resolution pixels.
    pixel_size : float
        Micrometers per full-resolution pixel.
    slice_positions : ndarray
        True z position of every slice in micrometers.
    source : dict
        Provenance.
    """

    def __init__(self, path: str, root: zarr.Group, meta: Mapping[str, Any]) -> None:
        self.path = path
        self._root = root
        self._images: dict[str, str] = dict(meta["images"])
        self.name: str = meta["name"]
        z, y, x = meta["shape"]
        self.shape: tuple[int, int, int] = (z, y, x)
        self.pixel_size: float = meta["pixel_size_um"]
        self.slice_positions = np.asarray(meta["slice_positions_um"], dtype=float)
        self.source: dict[str, Any] = dict(meta.get("source", {}))
        self.simulations = Results(root, "simulations", path)
        self.attention = Results(root, "attention", path)

    def __repr__(self) -> str:
        z, y, x = self.shape
        return f"BrainStore({self.path!r}: {self.name}, {z} slices of {y} x {x} px)"

    def _image(self, name: str) -> MultiscaleImage:
        path = self._images[name]
        node = self._root.get(path)
        if not isinstance(node, zarr.Group):
            raise UserError(f"{self.path} lacks its image {path!r}: copy or make the brain again.")
        return MultiscaleImage(node, f"{self.path}/{path}")

    @cached_property
    def stains(self) -> MultiscaleImage:
        """Stain images, (c, z, y, x) uint8."""
        return self._image("stains")

    @cached_property
    def genes(self) -> MultiscaleImage:
        """Gene bins, (c, z, y, x): counts at level 0, means above."""
        return self._image("genes")

    @cached_property
    def labels(self) -> dict[str, MultiscaleImage]:
        """Label images by name, (z, y, x) uint32."""
        return {name: self._image(name) for name in self._images if name not in ("stains", "genes")}

    @property
    def structures(self) -> MultiscaleImage | None:
        """Atlas structures, or None if the brain has none."""
        return self.labels.get("structures")

    @property
    def tissue(self) -> MultiscaleImage | None:
        """Tissue mask, or None if the brain has none."""
        return self.labels.get("tissue")

    @property
    def structure_table(self) -> pd.DataFrame | None:
        """Structures: id, acronym, name, color_hex, parent_id; None if the brain has none."""
        if self.structures is None:
            return None
        import pandas as pd

        columns = ["id", "acronym", "name", "color_hex", "parent_id"]
        return pd.DataFrame(self.structures.label_rows).reindex(columns=columns)

    @cached_property
    def stain_names(self) -> tuple[str, ...]:
        """Names of the stains."""
        return tuple(channel.name for channel in self.stains.channels)

    @cached_property
    def gene_names(self) -> tuple[str, ...]:
        """Gene symbols in the order of the panel."""
        return tuple(channel.name for channel in self.genes.channels)

    def check_roi(self, roi: Roi, slices: Range) -> None:
        """Raise a UserError unless a region lies within the brain and is not empty."""
        depth, height, width = self.shape
        try:
            y0, y1, x0, x1 = (int(value) for value in roi)
        except (TypeError, ValueError):
            raise UserError(
                f"The region {roi!r} is not four whole numbers (y0, y1, x0, x1) in pixels."
            ) from None
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise UserError(
                f"The region y {y0}-{y1}, x {x0}-{x1} px is empty or leaves the brain, "
                f"which is {height} x {width} px; choose one inside."
            )
        try:
            z0, z1 = (int(value) for value in slices)
        except (TypeError, ValueError):
            raise UserError(f"The slices {slices!r} are not two whole numbers (z0, z1).") from None
        if not 0 <= z0 < z1 <= depth:
            raise UserError(
                f"The slices {z0} to {z1} are empty or leave the brain, which has {depth} slices "
                f"(0 to {depth - 1}); choose slices inside."
            )

    def read_stains(self, roi: Roi, slices: Range) -> np.ndarray:
        """Read stain images at full resolution.

        Parameters
        ----------
        roi : tuple of int
            (y0, y1, x0, x1), half open, pixels.
        slices : tuple of int
            (z0, z1), half open.

        Returns
        -------
        ndarray of uint8, (stains, z, y, x)

        Raises
        ------
        UserError
            If the region is not within the brain.
        """
        self.check_roi(roi, slices)
        y0, y1, x0, x1 = roi
        return np.asarray(self.stains.levels[0][:, slice(*slices), y0:y1, x0:x1])

    def read_genes(
        self, bins: Roi, slices: Range, genes: Sequence[str] | None = None
    ) -> np.ndarray:
        """Read gene counts of any range of bins; beyond the brain there are none.

        Parameters
        ----------
        bins : tuple of int
            (b0, b1, c0, c1), half open, rows and columns of bins; may reach beyond the brain.
        slices : tuple of int
            (z0, z1), half open; may reach beyond the brain.
        genes : sequence of str, optional
            Genes in the order wanted; the whole panel if not given.

        Returns
        -------
        ndarray of float32, (genes, z, y, x)

        Raises
        ------
        UserError
            If a gene is not in the panel.
        """
        array = self.genes.levels[0]
        picked = None if genes is None else layout.check_genes(genes, self.gene_names)
        ranges = (slices, bins[:2], bins[2:])
        if any(end < start for start, end in ranges):
            raise ValueError(f"bins {bins} or slices {slices} end before they begin")
        count = array.shape[0] if picked is None else len(picked)
        out = np.zeros((count, *(end - start for start, end in ranges)), dtype=np.float32)
        inner = [
            (max(start, 0), min(end, size))
            for (start, end), size in zip(ranges, array.shape[1:], strict=True)
        ]
        if any(end <= start for start, end in inner) or count == 0:
            return out
        place = tuple(
            slice(a - start, b - start) for (a, b), (start, _) in zip(inner, ranges, strict=True)
        )
        region = tuple(slice(a, b) for a, b in inner)
        out[(slice(None), *place)] = _read_channels(array, picked, region)
        return out

    def table(self, name: str) -> pd.DataFrame:
        """Read a table that lies beside the images, as ``gene_totals``.

        Raises
        ------
        UserError
            If there is no such table.
        """
        import pandas as pd

        layout.check_name(name, "table")
        try:
            if is_zip(self.path):
                with zipfile.ZipFile(self.path) as packed:
                    return pd.read_parquet(io.BytesIO(packed.read(f"tables/{name}.parquet")))
            return pd.read_parquet(f"{self.path}/tables/{name}.parquet")
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self.path} has no table {name!r} that can be read: see its folder 'tables'."
            ) from error


def open_brain(path: str | Path) -> BrainStore:
    """Open a brain for reading, local or remote.

    Parameters
    ----------
    path : str or Path
        Folder, zip file, or an address that fsspec understands (``https://...``, ``s3://...``).

    Raises
    ------
    UserError
        If there is no brain, or its making was not finished.
    """
    return brain_in(open_root(str(path)), str(path))


def brain_in(root: zarr.Group, path: str) -> BrainStore:
    """Return the brain in a group that was opened for reading; see `open_brain`."""
    meta = about_brain(root, path)
    if not meta["complete"]:
        raise UserError(
            f"{path} is only half made: its making was interrupted; make it again, overwriting it."
        )
    return BrainStore(path, root, meta)


def _read_channels(
    array: zarr.Array[Any], picked: Sequence[int] | None, region: tuple[slice, ...]
) -> np.ndarray:
    if picked is None:
        return np.asarray(array[(slice(None), *region)])
    # Slices of what lies close together: orthogonal selection takes longer, and 20 MB for what
    # comes out as half a megabyte.
    unique, order = np.unique(np.asarray(picked, dtype=int), return_inverse=True)
    blocks = [
        np.asarray(array[(slice(unique[first], unique[end - 1] + 1), *region)])[
            unique[first:end] - unique[first]
        ]
        for first, end in layout.runs(unique)
    ]
    block = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return block if np.array_equal(order, np.arange(len(block))) else block[order]

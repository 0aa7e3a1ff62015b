"""Importer of the published training tiles: sparse gene counts, and images, of parts of a plane.

A file ``<t>_<b>_<l>_<r>_<pt>_<pb>_<pl>_<pr>`` holds all slices of a square of pixels. Its first
pixel is the plane's (t - pt, l - pl), whichever of its pixels were counted as padding; its inner
half, a square of its own, is imported, as that of the next tile begins where it ends. Gene tiles
are pydata/sparse COO arrays (y, x, slice * genes + gene) saved by ``sparse.save_npz``, with
transcripts at pixels, which are added up in bins of 16 px; image tiles are zipped Zarr arrays
(stain * slices + slice, y, x) in 8 bit.

Source: Wu et al. 2025, data at the Brain Image Library; code github.com/CTPLab/Tera-MIND.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_teramind.brain import foundation, layout
from napari_teramind.brain.importers.report import ImportReport
from napari_teramind.brain.layout import BIN
from napari_teramind.brain.writer import BrainWriter, Report
from napari_teramind.errors import UserError

STAINS = ("DAPI", "PolyT")
_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)\.(npz|zip)")
_MOST_BYTES = 1 << 31
"""Of a file's array in memory; a published one has a few megabytes."""
_MOST_SIDE = 1 << 22
_PARTS = ("coords", "data", "shape")

Place = tuple[int, int]
"""(y, x) of the first pixel of a tile's inner half on the plane."""


class _Corrupt(Exception):
    """A file is not what its name says."""


@dataclass
class _Study:
    """What is imported.

    Attributes
    ----------
    genes, images
        Files by place.
    side
        Side of a tile's inner half.
    names
        Genes.
    slices
        Number of slices.
    """

    genes: dict[Place, Path]
    images: dict[Place, Path]
    side: int
    names: Sequence[str]
    slices: int
    corrupt: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> Place:
        """First pixel of the brain on the plane."""
        places = [*self.genes, *self.images]
        return min(y for y, _ in places), min(x for _, x in places)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) of the brain."""
        places = np.array([*self.genes, *self.images])
        height, width = np.ptp(places, axis=0) + self.side
        return self.slices, int(height), int(width)

    def within(self, files: Mapping[Place, Path], box: tuple[int, int, int, int]) -> list[Any]:
        """Return the tiles of a box of the brain: corners in it, and files."""
        top, left = self.origin
        found = []
        for (y, x), path in files.items():
            row, column = y - top, x - left
            if box[0] <= row < box[1] and box[2] <= column < box[3]:
                found.append((row - box[0], column - box[2], path))
        return found


def import_tiles(
    gene_folder: str | Path,
    out: str | Path,
    *,
    genes: Sequence[str],
    images: str | Path | None = None,
    stains: Sequence[str] = STAINS,
    name: str | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> ImportReport:
    """Make a brain of published tiles.

    Memory is bounded by the counts of one slice of a gene tile of the brain (256 x 256 bins), the
    bins with transcripts of all slices of it, and one file; images pass through a temporary file
    beside `out`.

    Parameters
    ----------
    gene_folder : path
        Folder of gene tiles, as ``gene_638850``.
    out : path
        Brain to make.
    genes : sequence of str
        Names of the genes, in the tiles' order, since tiles carry none.
    images : path, optional
        Folder of image tiles, as ``img_638850``; stains are black if not given.
    stains : sequence of str
        What the images show, slowest axis first.
    name : str, optional
        Name of the brain; that of the file if not given.
    overwrite : bool
        Replace a brain at `out`.
    report : callable, optional
        Progress callback.

    Returns
    -------
    ImportReport
        Missing and corrupt tiles are named; the rest is imported.

    Raises
    ------
    UserError
        If there are no tiles, names do not fit, or something is at `out` already.
    """
    out = Path(out)
    channels = [layout.stain_channel(stain) for stain in stains]
    foundation.check_panel(genes, channels)
    foundation.check_target(out, overwrite)
    study = _open(Path(gene_folder), None if images is None else Path(images), genes)
    _check_size(study)
    writer = BrainWriter.create(
        out,
        name=name or out.stem,
        shape=study.shape,
        genes=genes,
        stains=channels,
        source={"tiles": str(gene_folder), "images": str(images), "origin": list(study.origin)},
        overwrite=overwrite,
        report=report,
    )
    try:
        _write_genes(writer, study, report)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            _write_stains(writer, study, len(channels), Path(folder), report)
        found = _report(study, out, images is not None)
        writer.update_source({"import": found.to_dict()})
        writer.finish()
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return found


# Finding


def _open(gene_folder: Path, images: Path | None, names: Sequence[str]) -> _Study:
    sizes: set[int] = set()
    genes = _files(gene_folder, "npz", sizes)
    pictures = {} if images is None else _files(images, "zip", sizes)
    if len(sizes) > 1:
        raise UserError(
            f"{gene_folder} has tiles of {' and '.join(map(str, sorted(sizes)))} px: import those"
            " of one size."
        )
    study = _Study(genes, pictures, sizes.pop() // 2, names, 0)
    steps = {place[axis] % study.side for place in (*genes, *pictures) for axis in (0, 1)}
    if study.side % BIN or len(steps) > 2:
        raise UserError(
            f"The tiles of {gene_folder} do not lie side by side, {study.side} px apart: they are"
            " not the published ones."
        )
    study.slices = _count_slices(study, gene_folder)
    return study


def _files(folder: Path, ending: str, sizes: set[int]) -> dict[Place, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of tiles: choose one, as gene_638850.")
    found: dict[Place, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None or match[9] != ending:
            continue
        t, b, left, right, pt, pb, pl, pr = (int(match[i]) for i in range(1, 9))
        height, width = b - t + pt + pb, right - left + pl + pr
        if height != width or height <= 0 or height % 2 or max(b, right) > _MOST_SIDE:
            raise UserError(
                f"{path} is named after a part of {height} x {width} px, which is no tile: remove"
                " it, or copy the folder again."
            )
        sizes.add(height)
        found[t - pt + height // 4, left - pl + width // 4] = path
    if not found:
        raise UserError(
            f"{folder} has no tiles named <t>_<b>_<l>_<r>_<pt>_<pb>_<pl>_<pr>.{ending}: choose"
            " another folder."
        )
    return found


def _count_slices(study: _Study, folder: Path) -> int:
    """Return the number of slices by the first tile that can be read."""
    for path in study.genes.values():
        try:
            channels = _read_sparse(path, 2 * study.side)[2]
        except _Corrupt:
            continue
        if channels % len(study.names):
            raise UserError(
                f"{path} has {channels} channels, which is no multiple of the {len(study.names)}"
                " genes of the list: give the list that belongs to these tiles."
            )
        return channels // len(study.names)
    raise UserError(f"No tile of {folder} can be read: copy the folder again.")


def _check_size(study: _Study) -> None:
    _, height, width = study.shape
    if height * width > 64 * study.side**2 * (len(study.genes) + len(study.images)):
        raise UserError(
            f"The tiles lie scattered over {height:,} x {width:,} px, most of which they do not"
            " cover: check whether all belong to one plane."
        )


# Reading


def _read_sparse(path: Path, side: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return coordinates (3, n), values (n) and the number of channels of a sparse array."""
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > _MOST_BYTES:
                raise _Corrupt("it unpacks to more than 2 GB")
        with np.load(path, allow_pickle=False) as parts:
            coords, data, shape = (np.asarray(parts[name]) for name in _PARTS)
            fill = np.asarray(parts["fill_value"]) if "fill_value" in parts else np.asarray(0)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _Corrupt(str(error).splitlines()[0] if str(error) else "it is cut off") from error
    if (
        shape.shape != (3,)
        or shape.dtype.kind not in "iu"
        or coords.dtype.kind not in "iu"
        or data.dtype.kind not in "iuf"
        or coords.shape != (3, data.size)
        or fill.size != 1
        or fill.ravel()[0] != 0
    ):
        raise _Corrupt("it is not a sparse array of three axes")
    height, width, channels = (int(length) for length in shape)
    if (height, width) != (side, side) or channels < 1:
        raise _Corrupt(f"it has {height} x {width} px, not {side} x {side}")
    coords = coords.astype(np.int64)
    if coords.size and ((coords < 0).any() or (coords >= shape[:, None]).any()):
        raise _Corrupt("it has values outside its own shape")
    if not np.isfinite(data).all() or (data < 0).any():
        raise _Corrupt("it has counts that are negative or not finite")
    return coords, data.astype(np.float64).ravel(), channels


def _binned(path: Path, study: _Study) -> tuple[np.ndarray, np.ndarray]:
    """Return (channel, row, column) of bins with transcripts (3, n), and their counts."""
    side = study.side
    coords, counts, channels = _read_sparse(path, 2 * side)
    if channels != study.slices * len(study.names):
        raise _Corrupt(f"it has {channels} channels, not {study.slices * len(study.names)}")
    y, x = coords[0] - side // 2, coords[1] - side // 2
    inner = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    bins = side // BIN
    key = (coords[2][inner] * bins + y[inner] // BIN) * bins + x[inner] // BIN
    places, inverse = np.unique(key, return_inverse=True)
    total = np.bincount(inverse, counts[inner], minlength=len(places))
    return np.stack([places // bins**2, places // bins % bins, places % bins]), total


def _read_image(path: Path, study: _Study, channels: int) -> np.ndarray:
    """Return the inner half of an image tile, (channels, y, x)."""
    import zarr
    from zarr.storage import ZipStore

    side = study.side
    try:
        with ZipStore(path, mode="r") as store:
            node: Any = zarr.open(store, mode="r")
            if isinstance(node, zarr.Group):
                (node,) = (array for _, array in node.arrays())
            wanted = (channels, 2 * side, 2 * side)
            if node.shape != wanted or node.dtype != np.uint8:
                raise _Corrupt(
                    f"it holds {' x '.join(map(str, node.shape))} of {node.dtype}, not "
                    f"{' x '.join(map(str, wanted))} of uint8"
                )
            inner = slice(side // 2, side // 2 + side)
            return np.asarray(node[:, inner, inner])
    except _Corrupt:
        raise
    except Exception as error:  # every codec fails in a way of its own
        raise _Corrupt(str(error).splitlines()[0] if str(error) else "it is cut off") from error


# Writing


def _write_genes(writer: BrainWriter, study: _Study, report: Report | None) -> None:
    done = 0
    _, height, width = study.shape
    tile = writer.gene_tile
    for y0, y1, x0, x1 in layout.tiles(0, height // BIN, 0, width // BIN, tile):
        box = (y0 * BIN, y1 * BIN, x0 * BIN, x1 * BIN)
        places, values = [np.zeros((3, 0), np.int64)], [np.zeros(0)]
        for row, column, path in study.within(study.genes, box):
            try:
                place, counts = _binned(path, study)
            except _Corrupt as error:
                study.corrupt[path.name] = str(error)
            else:
                place[1] += row // BIN
                place[2] += column // BIN
                places.append(place)
                values.append(counts)
            done += 1
            if report is not None:
                report("Reading gene tiles", done, len(study.genes))
        channel, rows, columns = np.concatenate(places, axis=1)
        counted = np.concatenate(values)
        order = np.argsort(channel, kind="stable")
        ends = np.searchsorted(channel[order], np.arange(study.slices + 1) * len(study.names))
        for z in range(study.slices):
            part = order[ends[z] : ends[z + 1]]
            block = np.zeros((len(study.names), y1 - y0, x1 - x0))
            block[channel[part] - z * len(study.names), rows[part], columns[part]] = counted[part]
            if part.size:
                writer.write_genes(z, y0, x0, block)


def _write_stains(
    writer: BrainWriter, study: _Study, stains: int, folder: Path, report: Report | None
) -> None:
    done, side = 0, study.side
    _, height, width = study.shape
    for y0, y1, x0, x1 in layout.tiles(0, height, 0, width, writer.tile):
        files = study.within(study.images, (y0, y1, x0, x1))
        if not files:
            continue
        shape = (stains * study.slices, y1 - y0, x1 - x0)
        path = folder / "band.u8"
        band = np.memmap(path, np.uint8, "w+", shape=shape)
        for row, column, file in files:
            try:
                tile = _read_image(file, study, shape[0])
            except _Corrupt as error:
                study.corrupt[file.name] = str(error)
            else:
                band[:, row : row + side, column : column + side] = tile
            done += 1
            if report is not None:
                report("Reading image tiles", done, len(study.images))
        for z in range(study.slices):
            writer.write_stains(z, y0, x0, np.asarray(band[z :: study.slices]))
        del band
        path.unlink()


def _report(study: _Study, out: Path, with_images: bool) -> ImportReport:
    missing = []
    if with_images:
        missing += [f"image of {study.genes[p].name}" for p in study.genes.keys() - study.images]
        missing += [f"genes of {study.images[p].name}" for p in study.images.keys() - study.genes]
    warnings = [f"{name} could not be read ({why})." for name, why in study.corrupt.items()]
    _, height, width = study.shape
    holes = height // study.side * (width // study.side) - len({*study.genes, *study.images})
    if holes:
        warnings.append(f"{holes} of the places within these tiles have none: they are empty.")
    return ImportReport(
        format="tiles",
        path=str(out),
        shape=study.shape,
        pixel_size=layout.PIXEL_SIZE,
        genes=len(study.names),
        missing_tiles=sorted(missing),
        corrupt_tiles=dict(study.corrupt),
        warnings=warnings,
    )

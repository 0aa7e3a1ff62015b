"""How a brain is laid out: words, grids, shapes of levels, chunks and shards, checked names.

Everything here is plain arithmetic on shapes and coordinates: no file is touched.

World coordinates are in micrometers, axes (z, y, x). The centre of full-resolution pixel (0, 0)
of the stains lies at world (0, 0); see ``docs/store.md``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_teramind.errors import UserError

FORMAT = "1"
BIN = 16
"""Side of a gene bin in full-resolution pixels."""
PIXEL_SIZE = 0.108
"""Micrometers per full-resolution pixel of a MERSCOPE mosaic."""
SLICE_SPACING = 100.0
"""Micrometers between slices whose positions nobody stated."""

# Measured: benchmarks/chunks.py, results in benchmarks/results/chunks.json.
STAIN_CHUNK, STAIN_TILE = 512, 4096
GENE_CHUNK, GENE_TILE = 256, 256

# Full-resolution side below which no further level is made; 3D views show the coarsest level.
_COARSEST = 512
_MIN_LEVELS = 3

# Okabe and Ito's colours, which survive the common colour blindnesses (black left out).
GENE_COLORS = ("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7")

_NAME = re.compile(r"[^\W_][\w .,+()=-]{0,119}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Channel:
    """A channel of an image.

    Attributes
    ----------
    name : str
        What the channel shows: a stain or a gene symbol.
    color : str
        Six hexadecimal digits, as ``"0000FF"``.
    window : tuple of float
        Intensities shown as black and as full colour.
    """

    name: str
    color: str = "FFFFFF"
    window: tuple[float, float] = (0.0, 255.0)


DEFAULT_STAINS = (Channel("DAPI", "0000FF"), Channel("PolyT", "FF8000"))
_STAIN_COLORS = {channel.name: channel.color for channel in DEFAULT_STAINS}


def stain_channel(name: str) -> Channel:
    """Give a stain its usual colour: DAPI blue, PolyT orange, others white."""
    return Channel(name, _STAIN_COLORS.get(name, "FFFFFF"))


def gene_channels(genes: Sequence[str], maxima: Sequence[float] | None = None) -> list[Channel]:
    """Make one channel per gene, with distinct colours and a window up to its largest count."""
    tops = [1.0] * len(genes) if maxima is None else [max(1.0, float(top)) for top in maxima]
    return [
        Channel(gene, GENE_COLORS[i % len(GENE_COLORS)], (0.0, tops[i]))
        for i, gene in enumerate(genes)
    ]


@dataclass(frozen=True)
class LabelInfo:
    """What a label image is made of.

    Attributes
    ----------
    factor : int
        Full-resolution pixels per label pixel at the finest label level.
    properties : list of dict
        One row per label: ``id``, ``acronym``, ``name``, ``color_hex``, ``parent_id``.
    """

    factor: int = BIN
    properties: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Placement:
    """Where the levels of an image lie in the world.

    Attributes
    ----------
    pixel_size : float
        Micrometers per full-resolution pixel.
    factor : int
        Full-resolution pixels per pixel of level 0 of this image.
    z_spacing, z_origin : float
        Micrometers between slices and position of slice 0.
    corner : tuple of int
        Full-resolution pixel (y, x) at which the image begins.
    """

    pixel_size: float
    factor: int = 1
    z_spacing: float = 1.0
    z_origin: float = 0.0
    corner: tuple[int, int] = (0, 0)

    def scale(self, level: int) -> tuple[float, float, float]:
        """Pixel size (z, y, x) of a level in micrometers."""
        side = self.pixel_size * self.factor * 2**level
        return (self.z_spacing, side, side)

    def translation(self, level: int) -> tuple[float, float, float]:
        """World position (z, y, x) of the centre of a level's first pixel, in micrometers."""
        # The centre of a block of n pixels lies (n - 1) / 2 pixels from the centre of its first.
        inset = (self.factor * 2**level - 1) / 2
        y, x = self.corner
        return (self.z_origin, (y + inset) * self.pixel_size, (x + inset) * self.pixel_size)


def nominal_spacing(positions: Sequence[float]) -> float:
    """Median distance between slices in micrometers."""
    if len(positions) < 2:
        return SLICE_SPACING
    return float(np.median(np.diff(np.asarray(positions, dtype=float))))


def ceil_div(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)


def n_levels(height: int, width: int, smallest: int = 64) -> int:
    """Count the pyramid levels of an image: down to 512 px a side, and three where there is room.

    Parameters
    ----------
    height, width : int
        Shape of level 0.
    smallest : int
        No level is made from one whose longer side is below twice this.
    """
    count, side = 1, max(height, width)
    while side > _COARSEST or (count < _MIN_LEVELS and side >= 2 * smallest):
        count, side = count + 1, ceil_div(side, 2)
    return count


def level_shape(height: int, width: int, level: int) -> tuple[int, int]:
    """Shape of a level: halved, rounded up, once per level."""
    return max(1, ceil_div(height, 2**level)), max(1, ceil_div(width, 2**level))


def chunk_and_shard(height: int, width: int, chunk: int, tile: int) -> tuple[int, int]:
    """Clamp the sides of chunk and shard to an image that is smaller than they are."""
    side = max(height, width)
    chunk = min(chunk, ceil_div(side, BIN) * BIN)
    return chunk, min(tile, ceil_div(side, chunk) * chunk)


def tiles(y0: int, y1: int, x0: int, x1: int, tile: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a rectangle whose corner lies on the tile grid into tiles (y0, y1, x0, x1)."""
    for y in range(y0, y1, tile):
        for x in range(x0, x1, tile):
            yield y, min(y + tile, y1), x, min(x + tile, x1)


def check_name(name: str, what: str) -> str:
    """Return a name that is safe as a folder name on every platform.

    Raises
    ------
    UserError
        If the name could leave its folder or is not portable.
    """
    if not _NAME.fullmatch(name) or name[-1] in " ." or _RESERVED.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a {what}: use letters, digits, spaces and . , + - _ = "
            "() (starting with a letter or digit, at most 120 characters)."
        )
    return name


def check_genes(wanted: Sequence[str], known: Sequence[str]) -> list[int]:
    """Find genes in a panel.

    Returns
    -------
    list of int
        Index of each wanted gene.

    Raises
    ------
    UserError
        If a gene is not in the panel; names it and near spellings.
    """
    index = {gene: i for i, gene in enumerate(known)}
    missing = [gene for gene in wanted if gene not in index]
    if missing:
        raise UserError(f"{_describe_missing(missing, known)} this brain has {len(known)} genes.")
    return [index[gene] for gene in wanted]


def runs(
    places: Sequence[int] | np.ndarray, longest: int | None = None, gap: int = 4
) -> list[tuple[int, int]]:
    """Cut ascending places into runs that lie close together, to be read as slices.

    Parameters
    ----------
    places
        Indices along an axis, ascending.
    longest
        Most places that a run may span.
    gap
        Most places not asked for that may lie between two of a run.

    Returns
    -------
    list of (int, int)
        First and end of every run, as positions in `places`.
    """
    found, first = [], 0
    for end in range(1, len(places) + 1):
        if (
            end == len(places)
            or places[end] - places[end - 1] > gap + 1
            or (longest is not None and places[end] - places[first] >= longest)
        ):
            found.append((first, end))
            first = end
    return found


def _describe_missing(missing: Sequence[str], known: Sequence[str]) -> str:
    first = missing[0]
    folded = {gene.casefold(): gene for gene in known}
    near = difflib.get_close_matches(first.casefold(), folded, n=3, cutoff=0.6)
    hint = f" (did you mean {' or '.join(folded[name] for name in near)}?)" if near else ""
    others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"Gene {first!r}{others} is not in the panel{hint}:"


def label_rows(info: Mapping[str, LabelInfo]) -> dict[str, LabelInfo]:
    """Check the label images asked for.

    Raises
    ------
    ValueError
        If a factor is not a positive integer or a row has no id.
    """
    for name, label in info.items():
        if label.factor < 1:
            raise ValueError(f"label {name!r}: factor {label.factor} is not positive")
        if any("id" not in row for row in label.properties):
            raise ValueError(f"label {name!r}: a row of properties has no id")
    return dict(info)

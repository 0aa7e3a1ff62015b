"""Images of a stain, TIFF or OME-Zarr, wherever they lie: planes of pixels, and a map to the world.

Of an OME-Zarr the coarsest level is taken whose pixels are no larger than a brain's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_teramind.brain import layout
from napari_teramind.brain.importers.ngff import Source, open_image, pick_channel, split_channel
from napari_teramind.brain.importers.projection import projected
from napari_teramind.brain.importers.resampling import Box, Grid, Resampler
from napari_teramind.brain.importers.tiffs import PLAUSIBLE_UM, TiffPixels
from napari_teramind.errors import UserError

SAME_SIZE = 0.005
"""Pixel sizes that differ by less, relative, are one size told with more or fewer digits."""
_TIFF = (".tif", ".tiff", ".btf", ".tf8", ".qptiff")
_STILL = 1e-3
"""Pixels that an image may lie off a grid and still be taken as lying on it."""


@dataclass(frozen=True)
class Picture:
    """One channel of an image.

    Attributes
    ----------
    path : str
        Where it is, for messages.
    shape : tuple of int
        (z, y, x).
    dtype : dtype
    matrix : ndarray, (3, 3)
        Takes its coordinates (u, v, 1) to micrometers (x, y, 1); its pixel i covers [i, i + 1).
    plane : callable
        ``plane(z, box)`` reads pixels of a plane.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    matrix: np.ndarray
    plane: Callable[[int, Box], np.ndarray]

    @property
    def pixel_size(self) -> float:
        """Micrometers per pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    @property
    def corners(self) -> np.ndarray:
        """Its corners, (4, 2) as (x, y), micrometers."""
        _, height, width = self.shape
        points = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
        found: np.ndarray = points @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        return found

    def read(self, planes: Sequence[int], project: str, box: Box) -> np.ndarray:
        """Read pixels of some planes, projected into one."""
        return projected([partial(self.plane, z) for z in planes], project, box)


class Laid:
    """A picture on the pixels of a grid: taken as they are where it lies so, else resampled."""

    def __init__(self, picture: Picture, grid: Grid) -> None:
        self.picture = picture
        back = np.linalg.inv(picture.matrix)
        self._linear, self._shift = back[:2, :2], back[:2, 2]
        _, height, width = picture.shape
        self._resampler = Resampler(grid, self._sources, (height, width))
        # Where the picture's own corners lie among the grid's pixels.
        corners = (picture.corners - grid.origin_um) / grid.pixel_size
        first = np.rint(corners[0])
        upright = first + np.array([[0, 0], [width, 0], [0, height], [width, height]])
        still = bool((np.abs(corners - upright) < _STILL).all())
        self._first = (int(first[1]), int(first[0])) if still else None

    @property
    def resampled(self) -> bool:
        """Whether pixels are made anew."""
        return self._first is None

    def _sources(self, points: np.ndarray) -> np.ndarray:
        found: np.ndarray = points @ self._linear.T + self._shift
        return found

    def read(self, planes: Sequence[int], project: str, box: Box) -> np.ndarray:
        """Read a box of the grid's pixels; black outside the picture."""
        picture = self.picture
        if self._first is None:
            return self._resampler.read(
                box, picture.dtype, lambda window: picture.read(planes, project, window)
            )
        _, height, width = picture.shape
        (y0, y1), (x0, x1) = (
            (box[2 * i] - self._first[i], box[2 * i + 1] - self._first[i]) for i in (0, 1)
        )
        block = np.zeros((y1 - y0, x1 - x0), picture.dtype)
        window = (max(y0, 0), min(y1, height), max(x0, 0), min(x1, width))
        if window[0] < window[1] and window[2] < window[3]:
            rows, columns = (
                slice(window[0] - y0, window[1] - y0),
                slice(window[2] - x0, window[3] - x0),
            )
            block[rows, columns] = picture.read(planes, project, window)
        return block


def open_picture(
    location: str,
    stain: str,
    pixel_size: float | None = None,
    origin_um: tuple[float, float] | None = None,
) -> Picture:
    """Open an image.

    Parameters
    ----------
    location : str
        A TIFF, or an OME-Zarr image, local or remote; ``#channel`` after it names or numbers one of
        several channels, of which otherwise the one with the stain's name is taken.
    stain : str
        What it shows.
    pixel_size : float, optional
        Micrometers per pixel, whatever the image states.
    origin_um : tuple of float, optional
        (x, y) of its first pixel's outer corner, whatever it states. Otherwise the corner of a TIFF
        and of an image without a translation lies at (0, 0); a translation is that of the first
        pixel's centre (NGFF).

    Raises
    ------
    UserError
        If it cannot be read, or neither it nor the user states the size of its pixels.
    """
    path, channel = split_channel(location)
    if Path(path).suffix.lower() in _TIFF:
        return _tiff(Path(path), stain, channel, pixel_size, origin_um or (0.0, 0.0))
    return _omezarr(path, stain, channel, pixel_size, origin_um)


def upright(pixel_size: float, corner: tuple[float, float]) -> np.ndarray:
    """Return the matrix (3, 3) of pixels of a size that begin at a corner (x, y)."""
    return np.array([[pixel_size, 0, corner[0]], [0, pixel_size, corner[1]], [0, 0, 1.0]])


# TIFF


def _tiff(
    path: Path,
    stain: str,
    channel: str | None,
    pixel_size: float | None,
    corner: tuple[float, float],
) -> Picture:
    if not path.is_file():
        raise UserError(f"There is no image at {path}: check the path.")
    pixels = TiffPixels(path)
    axes = _explained(pixels.axes, channel)
    sizes = dict(zip(axes, pixels.shape, strict=True))
    others = [axis for axis in axes if axis not in "CZYX" and sizes[axis] != 1]
    if not {"Y", "X"} <= set(axes) or len(set(axes)) != len(axes) or others:
        raise UserError(
            f"{path} has the axes {pixels.axes} of {' x '.join(map(str, pixels.shape))}: a stain"
            " needs y and x, and at most channels and z besides."
        )
    picked = _pick(path, sizes.get("C", 1), pixels.channels, stain, channel)
    size = pixel_size or _side(path, pixels.pixel_size)

    def plane(z: int, box: Box) -> np.ndarray:
        at: dict[str, int | slice] = {
            "C": picked,
            "Z": z,
            "Y": slice(*box[:2]),
            "X": slice(*box[2:]),
        }
        block = pixels.read(tuple(at.get(axis, 0) for axis in axes))
        return block if axes.index("Y") < axes.index("X") else block.T

    shape = (sizes.get("Z", 1), sizes["Y"], sizes["X"])
    return _checked(Picture(str(path), shape, pixels.dtype, upright(size, corner), plane))


def _explained(axes: str, channel: str | None) -> str:
    """Take colours for channels, and pages for channels where one is named, else for planes."""
    axes = axes.replace("S", "C") if "C" not in axes else axes
    pages = "C" if channel is not None and "C" not in axes else "Z"
    for unknown in "QI":
        if pages not in axes:
            axes = axes.replace(unknown, pages)
    return axes


def _pick(path: Path, count: int, names: Sequence[str], stain: str, channel: str | None) -> int:
    if channel is None and count == 1:
        return 0
    wanted = (channel or stain).casefold()
    folded = [name.casefold() for name in names[:count]]
    if wanted in folded:
        return folded.index(wanted)
    if wanted.isdecimal() and int(wanted) < count:
        return int(wanted)
    listed = f" ({', '.join(names)})" if names else ""
    raise UserError(
        f"{path} has {count} channels{listed} and none is named {channel or stain!r}: name or"
        f" number one, as {path}#0."
    )


def _side(path: Path, stated: tuple[float, float] | None) -> float:
    if stated is None:
        raise UserError(f"{path} does not state the size of its pixels: give --pixel-size in um.")
    y, x = stated
    if abs(x / y - 1) > 1e-3:
        raise UserError(f"{path} has pixels of {y:g} x {x:g} um: pixels must be square.")
    return x


# OME-Zarr


def _omezarr(
    path: str,
    stain: str,
    channel: str | None,
    pixel_size: float | None,
    origin_um: tuple[float, float] | None,
) -> Picture:
    image = open_image(path)
    finest = Source(image, 0, f"the stain {stain}")
    finest.check()
    block = image.attributes.get("ome", image.attributes)["multiscales"][0]
    unit = any(axis.get("unit") for axis in block["axes"] if axis["name"] in "yx")
    if pixel_size is None and not unit and finest.pixel == 1:
        raise UserError(f"{path} does not state the size of its pixels: give --pixel-size in um.")
    side = pixel_size or finest.pixel
    steps = [*block["datasets"][0]["coordinateTransformations"]]
    steps += block.get("coordinateTransformations", [])
    placed = any(step["type"] == "translation" for step in steps)
    corner = origin_um or ((finest.corner[1], finest.corner[0]) if placed else (0.0, 0.0))
    level = coarsest([side * image.scale(k)[-1] / image.scale(0)[-1] for k in _levels(image)])
    source = Source(image, level, f"the stain {stain}")
    source.check()
    matrix = upright(side * source.pixel / finest.pixel, corner)
    return zarr_picture(source, pick_channel(source, stain, channel), matrix)


def _levels(image: Any) -> range:
    return range(len(image.levels))


def coarsest(sizes: Sequence[float]) -> int:
    """Return the number of the coarsest level with pixels no larger than a brain's, else 0."""
    fine = [k for k, size in enumerate(sizes) if size <= layout.PIXEL_SIZE * (1 + SAME_SIZE)]
    return max(fine, key=lambda k: sizes[k], default=0)


def zarr_picture(source: Source, channel: int, matrix: np.ndarray) -> Picture:
    """Return a channel of one level of a multiscale image, placed by a matrix."""

    def plane(z: int, box: Box) -> np.ndarray:
        found: np.ndarray = source.read(z, slice(*box[:2]), slice(*box[2:]), channel)[0]
        return found

    dtype = np.dtype(source.array.dtype)
    return _checked(Picture(source.image.path, source.shape, dtype, matrix, plane))


def _checked(picture: Picture) -> Picture:
    low, high = PLAUSIBLE_UM
    if not np.isfinite(picture.matrix).all() or not low <= picture.pixel_size <= high:
        raise UserError(
            f"{picture.path} has pixels of {picture.pixel_size:g} um, which no microscope has:"
            " give their true size."
        )
    if picture.dtype.kind not in "uif":
        raise UserError(
            f"{picture.path} has pixels of {picture.dtype}: convert them to 8- or 16-bit integers."
        )
    if min(picture.shape) < 1:
        raise UserError(f"{picture.path} has no pixels: export the image again.")
    return picture


# Slices

Stack = list[tuple[Picture, list[int]]]
"""Of every slice the picture that shows it, and the planes to project."""


def stack_of(pictures: Sequence[Picture], slices: int, stain: str) -> Stack:
    """Say which picture, or which plane of the only one, shows which slice.

    Raises
    ------
    UserError
        If they do not fit the number of slices, or differ in type.
    """
    first = pictures[0]
    if len({picture.dtype for picture in pictures}) > 1:
        raise UserError(
            f"The images of {stain} differ in type ({first.dtype} and others): convert them to one."
        )
    if len(pictures) == slices:
        return [(picture, list(range(picture.shape[0]))) for picture in pictures]
    if len(pictures) == 1 and first.shape[0] == slices:
        return [(first, [z]) for z in range(slices)]
    shown = f"{len(pictures)} images" if len(pictures) > 1 else f"one image of {first.shape[0]}"
    raise UserError(
        f"{stain} has {shown}{'' if len(pictures) > 1 else ' planes'}, but the tables have {slices}"
        " slices: give an image a slice, or one whose z axis are the slices."
    )


def grid_of(stains: Mapping[str, Sequence[Picture]]) -> Grid:
    """Return the grid that holds all pictures.

    Its pixels are those of the first picture if they have a brain's size, so that it is taken as it
    is; otherwise they have that size, and pictures are resampled.
    """
    pictures = [picture for each in stains.values() for picture in each]
    own = pictures[0].pixel_size
    size = own if abs(own / layout.PIXEL_SIZE - 1) <= SAME_SIZE else layout.PIXEL_SIZE
    corners = np.concatenate([picture.corners for picture in pictures])
    low, high = corners.min(axis=0), corners.max(axis=0)
    return Grid((float(low[0]), float(low[1])), size, sides(high - low, size))


def sides(wide: np.ndarray, size: float) -> tuple[int, int]:
    """Return the pixels (y, x) that cover some micrometers (x, y).

    Raises
    ------
    UserError
        If they are more than any slide has.
    """
    if not (np.isfinite(wide).all() and wide.max() / size <= MOST_SIDE):
        raise UserError(
            f"The slices spread over {wide[0]:.3g} x {wide[1]:.3g} um, more than any slide: check"
            " the unit and the columns of coordinates, and look for rows far off."
        )
    # What is left of a rounding error must not make a row of its own.
    across, down = (max(1, int(np.ceil(side / size - 1e-6))) for side in wide)
    return down, across


MOST_SIDE = 1 << 21
"""Pixels of a brain's side: 226 mm."""

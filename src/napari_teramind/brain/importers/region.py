"""A MERSCOPE region folder: its table, transform and mosaics, checked before anything is read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_teramind.brain.importers.projection import projected
from napari_teramind.brain.importers.tiffs import TiffPixels
from napari_teramind.errors import UserError

TRANSFORM = "micron_to_mosaic_pixel_transform.csv"
_MOSAIC = re.compile(r"mosaic_(?P<stain>.+)_z(?P<plane>\d+)\.tiff?", re.IGNORECASE)


class Mosaic:
    """One mosaic image, read in parts so that memory does not grow with its size.

    Parameters
    ----------
    path : Path
        A TIFF with one two-dimensional image.

    Raises
    ------
    UserError
        If the file is not one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pixels = TiffPixels(path)
        self.shape, self.dtype = self._pixels.shape, self._pixels.dtype
        if len(self.shape) != 2:
            raise UserError(
                f"{path} has the shape {self.shape}: a mosaic is one grey image of two dimensions."
            )

    def read(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """Read the pixels (y0, y1, x0, x1)."""
        y0, y1, x0, x1 = box
        return self._pixels.read((slice(y0, y1), slice(x0, x1)))


@dataclass(frozen=True)
class Region:
    """A region folder as the instrument writes it.

    Attributes
    ----------
    path : Path
        The folder.
    table : Path
        ``detected_transcripts.parquet`` or ``.csv``.
    transform : ndarray, (3, 3)
        From micrometers (x, y, 1) to mosaic pixels.
    mosaics : dict
        Images by stain name in the files, then by focal plane.
    shape : tuple of int
        (y, x) of every mosaic.
    """

    path: Path
    table: Path
    transform: np.ndarray
    mosaics: dict[str, dict[int, Mosaic]]
    shape: tuple[int, int]

    @property
    def pixel_size(self) -> float:
        """Micrometers per pixel."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.transform[:2, :2]))))

    @property
    def planes(self) -> list[int]:
        """Focal planes that some mosaic shows, ascending."""
        return sorted({plane for planes in self.mosaics.values() for plane in planes})

    def missing(self) -> list[str]:
        """Names of the images that are missing between the first and the last plane."""
        return [
            f"{self.path.name}/images/mosaic_{stain}_z{plane}.tif"
            for stain, planes in self.mosaics.items()
            for plane in range(self.planes[0], self.planes[-1] + 1)
            if plane not in planes
        ]

    def to_mosaic(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) places (x, y), micrometers, to the mosaic's coordinates (u, v).

        The mosaic's pixel i covers [i, i + 1).
        """
        a = self.transform
        return np.asarray(points @ a[:2, :2].T + a[:2, 2])

    def from_mosaic(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) of the mosaic's coordinates (u, v) to places (x, y), micrometers."""
        a = np.linalg.inv(self.transform)
        return np.asarray(points @ a[:2, :2].T + a[:2, 2])

    def read(
        self, stain: str, planes: list[int], project: str, box: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Read a part of one stain, of several planes projected into one image.

        Parameters
        ----------
        stain : str
            Name in the files.
        planes : list of int
            Planes to project; those without an image are left out.
        project : str
            ``max`` or ``mean``.
        box : tuple of int
            (y0, y1, x0, x1).

        Returns
        -------
        ndarray, (y1 - y0, x1 - x0)
            Zeros if no plane has an image.
        """
        images = [self.mosaics[stain][p] for p in planes if p in self.mosaics[stain]]
        if not images:
            return np.zeros((box[1] - box[0], box[3] - box[2]), self.dtype(stain))
        return projected([image.read for image in images], project, box)

    def dtype(self, stain: str) -> np.dtype[Any]:
        """Type of the pixels of a stain."""
        return next(iter(self.mosaics[stain].values())).dtype


def open_region(path: Path, stains: Mapping[str, str]) -> Region:
    """Find and check the parts of a region folder.

    Parameters
    ----------
    path : Path
        Region folder.
    stains : mapping of str to str
        Stain in the brain to stain in the file names.

    Raises
    ------
    UserError
        If a part is missing or malformed, or images differ in size.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: choose a MERSCOPE region folder, as region_0.")
    table = _table(path)
    transform = read_transform(path / "images" / TRANSFORM)
    files = _mosaic_files(path / "images")
    for target, stain in stains.items():
        if stain not in files:
            raise UserError(
                f"{path} has no mosaic of {stain!r} for {target}, only of"
                f" {', '.join(sorted(files))}: name the one to use, as --stain"
                f" {target}={sorted(files)[0]}."
            )
    mosaics = {
        stain: {plane: Mosaic(file) for plane, file in sorted(files[stain].items())}
        for stain in dict.fromkeys(stains.values())
    }
    return Region(path, table, transform, mosaics, _common_shape(mosaics))


def _table(path: Path) -> Path:
    for suffix in (".parquet", ".csv"):
        table = path / f"detected_transcripts{suffix}"
        if table.is_file():
            return table
    inner = sorted(p.parent.name for p in path.glob("*/detected_transcripts.*"))
    hint = f"choose one of its folders {', '.join(inner[:4])}" if inner else "check the path"
    raise UserError(f"{path} has no detected_transcripts.csv or .parquet: {hint}.")


def _mosaic_files(folder: Path) -> dict[str, dict[int, Path]]:
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _MOSAIC.fullmatch(file.name)
        if match:
            found.setdefault(match["stain"], {})[int(match["plane"])] = file
    if not found:
        raise UserError(
            f"{folder} has no images named mosaic_<stain>_z<plane>.tif: export the mosaics too."
        )
    return found


def _common_shape(mosaics: Mapping[str, Mapping[int, Mosaic]]) -> tuple[int, int]:
    images = [image for planes in mosaics.values() for image in planes.values()]
    first = images[0]
    for image in images:
        if image.shape != first.shape:
            raise UserError(
                f"{image.path} is {image.shape[0]} x {image.shape[1]} px but {first.path.name} is"
                f" {first.shape[0]} x {first.shape[1]} px: the mosaics of a region must have one"
                " size."
            )
        if image.dtype != first.dtype:
            raise UserError(
                f"{image.path} has pixels of {image.dtype} but {first.path.name} of {first.dtype}:"
                " the mosaics of a region must have one type."
            )
    height, width = first.shape
    return height, width


def read_transform(path: Path) -> np.ndarray:
    """Read and check the transform from micrometers to mosaic pixels.

    Returns
    -------
    ndarray, (3, 3)

    Raises
    ------
    UserError
        If it is missing, not a 3 x 3 matrix of numbers, or not a similarity of positive scale.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing: without it transcripts cannot be placed; copy it from the export."
        )
    try:
        with warnings.catch_warnings():
            # An empty file is reported below.
            warnings.simplefilter("ignore", UserWarning)
            text = path.read_text(encoding="utf-8").replace(",", " ")
            matrix = np.loadtxt(text.splitlines(), ndmin=2)
    except ValueError as error:
        raise UserError(f"{path} is not a table of numbers ({error}): copy it again.") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise UserError(
            f"{path} holds a matrix of shape {matrix.shape}, not 3 x 3 finite numbers: copy it"
            " again."
        )
    scale_x, scale_y = np.linalg.norm(matrix[:2, 0]), np.linalg.norm(matrix[:2, 1])
    if not np.allclose(matrix[2], (0, 0, 1)) or np.linalg.det(matrix[:2, :2]) == 0:
        raise UserError(f"{path} is not an affine transform that can be undone: copy it again.")
    if abs(scale_x / scale_y - 1) > 1e-3:
        raise UserError(
            f"{path} has {scale_x:.4f} px per um along x but {scale_y:.4f} along y: pixels must be"
            " square."
        )
    return matrix

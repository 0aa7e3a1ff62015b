"""Annotation volumes: which structure lies where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.atlas.structures import StructureTable, read_structures
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIFF = (".tif", ".tiff")
_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Atlas:
    """An annotated brain.

    Attributes
    ----------
    name : str
        What to call it.
    annotation : array of int
        Structure ids with the axes (anterior to posterior, superior to inferior, left to right);
        0 is outside the brain.
    resolution_um : tuple of float
        Edge of a voxel along each of those axes, micrometre.
    table : StructureTable
        The structures that the ids stand for.
    """

    name: str
    annotation: NDArray[np.integer]
    resolution_um: tuple[float, float, float]
    table: StructureTable

    def __post_init__(self) -> None:
        if self.annotation.ndim != 3:
            raise UserError(
                f"The annotation of {self.name} has {self.annotation.ndim} axes; "
                "it needs three: front to back, top to bottom, left to right."
            )
        import pandas as pd

        # By hashing: sorting a whole volume would take ten times as long.
        ids = pd.unique(np.ascontiguousarray(self.annotation).ravel())
        unknown = sorted({int(i) for i in ids} - {0, *self.table})
        if unknown:
            raise UserError(
                f"The annotation of {self.name} holds the id {unknown[0]}"
                f"{f' and {len(unknown) - 1} more' if unknown[1:] else ''} "
                f"that {self.table.origin} does not list; give the table that belongs to it."
            )

    @property
    def extent_um(self) -> tuple[float, float, float]:
        """Size of the volume along its axes, micrometre."""
        ap, dv, ml = (
            n * step for n, step in zip(self.annotation.shape, self.resolution_um, strict=True)
        )
        return ap, dv, ml

    def at(
        self, ap: float, dv: NDArray[np.floating], ml: NDArray[np.floating]
    ) -> NDArray[np.uint32]:
        """Find the structures at points of one coronal plane.

        Parameters
        ----------
        ap : float
            Distance from the front face of the volume, micrometre.
        dv, ml : arrays of float
            Distances from the top and from the left face, micrometre; they broadcast.

        Returns
        -------
        array of uint32
            Ids of the voxels that hold the points; 0 outside the volume.
        """
        steps = self.resolution_um
        plane = int(ap // steps[0])
        rows = np.floor(np.asarray(dv) / steps[1]).astype(np.int64)
        columns = np.floor(np.asarray(ml) / steps[2]).astype(np.int64)
        rows, columns = np.broadcast_arrays(rows, columns)
        n_ap, n_dv, n_ml = self.annotation.shape
        inside = (rows >= 0) & (rows < n_dv) & (columns >= 0) & (columns < n_ml)
        ids = np.zeros(rows.shape, np.uint32)
        if 0 <= plane < n_ap:
            ids[inside] = self.annotation[plane, rows[inside], columns[inside]]
        return ids


def read_annotation(
    volume: str | Path,
    structures: str | Path | None = None,
    resolution_um: float | Sequence[float] | None = None,
) -> Atlas:
    """Read an annotation volume and its table of structures.

    Parameters
    ----------
    volume : path
        A TIFF or NIfTI file with the axes (front to back, top to bottom, left to right), or a
        folder that holds exactly one such file and ``structures.csv``.
    structures : path, optional
        The CSV table; ``structures.csv`` beside the volume when not given.
    resolution_um : float or three floats, optional
        Edge of a voxel, micrometre. When not given it is read from the file's name, as in
        ``annotation_25um.tif``, or from a NIfTI header.

    Raises
    ------
    UserError
        When a file is missing or unreadable, or the resolution is unknown.
    """
    path = _find_volume(Path(volume))
    table = read_structures(
        structures if structures is not None else path.parent / "structures.csv"
    )
    if path.name.lower().endswith(_TIFF):
        annotation, header_um = _read_tiff(path), None
    else:
        annotation, header_um = _read_nifti(path)
    steps = _resolution(path, resolution_um, header_um)
    return Atlas(path.name.split(".")[0], annotation, steps, table)


def open_atlas(source: str | Path, report: Any = None) -> Atlas:
    """Open an annotation volume by its path, or an atlas by BrainGlobe's name.

    Parameters
    ----------
    source : path or str
        A path with a separator, a dot or an existing file or folder; anything else is a name.
    report : callable, optional
        Progress of a download.

    Raises
    ------
    UserError
        When it cannot be had.
    """
    text = str(source)
    if Path(text).exists() or any(character in text for character in "/\\."):
        return read_annotation(text)
    from napari_teramind.atlas.brainglobe import load_brainglobe

    return load_brainglobe(text, report=report)


def _find_volume(path: Path) -> Path:
    suffixes = _TIFF + _NIFTI
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.lower().endswith(suffixes))
        if len(found) != 1:
            raise UserError(
                f"The folder {path} holds {len(found)} TIFF or NIfTI files; "
                "give the path of the annotation volume itself."
            )
        return found[0]
    if not path.is_file():
        raise UserError(f"There is no annotation volume at {path}; give a TIFF or NIfTI file.")
    if not path.name.lower().endswith(suffixes):
        raise UserError(
            f"The annotation volume {path} is neither TIFF nor NIfTI; convert it first."
        )
    return path


def _read_tiff(path: Path) -> NDArray[np.integer]:
    import tifffile

    try:
        data = tifffile.imread(path)
    except (tifffile.TiffFileError, OSError, ValueError) as error:
        raise UserError(f"The annotation volume {path} cannot be read ({error}).") from error
    return _integers(path, data)


def _read_nifti(path: Path) -> tuple[NDArray[np.integer], tuple[float, float, float]]:
    try:
        nibabel: Any = import_module("nibabel")
        orientations: Any = import_module("nibabel.orientations")
    except ImportError as error:
        raise UserError(
            f"Reading {path} needs the package nibabel; install it or give the volume as TIFF."
        ) from error
    try:
        image = nibabel.load(path)
        # The header says how the axes lie: turn them to posterior, inferior, right.
        wanted = orientations.axcodes2ornt(("P", "I", "R"))
        turn = orientations.ornt_transform(orientations.io_orientation(image.affine), wanted)
        image = image.as_reoriented(turn)
        data = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError) as error:
        raise UserError(f"The annotation volume {path} cannot be read ({error}).") from error
    # NIfTI states lengths in millimetre.
    zooms = [float(z) * 1000 for z in image.header.get_zooms()[:3]]
    return _integers(path, data), (zooms[0], zooms[1], zooms[2])


def _integers(path: Path, data: NDArray[Any]) -> NDArray[np.integer]:
    if np.issubdtype(data.dtype, np.integer):
        return data
    whole = data.astype(np.int64)
    if not np.array_equal(whole, data):
        raise UserError(
            f"The volume {path} holds fractions, so it is no annotation; "
            "give the volume of structure ids."
        )
    return whole


def _resolution(
    path: Path,
    given: float | Sequence[float] | None,
    header: tuple[float, float, float] | None,
) -> tuple[float, float, float]:
    if given is None:
        named = re.search(r"(\d+(?:\.\d+)?)\s*um", path.name)
        given = header if named is None else float(named.group(1))
    if given is None:
        raise UserError(
            f"The size of the voxels of {path} is unknown; "
            "state the resolution in micrometre or name the file like annotation_25um.tif."
        )
    steps = [float(given)] * 3 if isinstance(given, int | float) else [float(v) for v in given]
    if len(steps) != 3 or min(steps) <= 0:
        raise UserError(
            f"A resolution is one or three positive numbers in micrometre, not {given}."
        )
    return steps[0], steps[1], steps[2]

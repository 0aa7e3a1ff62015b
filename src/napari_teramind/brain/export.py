"""Images for other programs: pyramidal OME-TIFF, NIfTI, OME-Zarr."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.brain.multiscale import MultiscaleImage

FORMS = (".ome.tif", ".ome.tiff", ".nii", ".nii.gz", ".zarr")
"""Endings of files that `export_image` writes."""

_TILE = 512

Read = Callable[[int, int, slice, slice], np.ndarray]
"""read(channel, slice, rows, columns) -> (y, x)."""


@dataclass(frozen=True)
class Level:
    """One level of an image as it is written.

    Attributes
    ----------
    shape : tuple of int
        (c, z, y, x).
    scale, translation : tuple of float
        Size of a pixel and centre of the first one, (z, y, x) in micrometers.
    read : callable
        Reads a part of one channel and slice.
    """

    shape: tuple[int, int, int, int]
    scale: tuple[float, float, float]
    translation: tuple[float, float, float]
    read: Read


def export_image(
    image: MultiscaleImage,
    path: Path,
    *,
    channels: Sequence[str] | None = None,
    level: int = 0,
    slices: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an image of a brain to a file that other programs read.

    Parameters
    ----------
    image : MultiscaleImage
        Any image of a brain: stains, genes, a result, labels.
    path : Path
        ``.ome.tif`` (all levels from `level` on), ``.nii`` or ``.nii.gz`` (that level), or
        ``.zarr`` (a copy of the whole image).
    channels : sequence of str, optional
        Names of channels; all if not given.
    level : int
        Finest level to write.
    slices : tuple of int, optional
        (z0, z1) of the image, half open; all if not given.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    UserError
        If the form is unknown, a channel or level is missing, or something is there already.
    """
    form = check_target(path, overwrite)
    if form == ".zarr":
        if channels is not None or level or slices is not None:
            raise UserError(
                "An OME-Zarr copy holds the whole image; choose channels, level and slices for"
                " OME-TIFF or NIfTI only."
            )
        return _copy(Path(image.path), path)
    names = [channel.name for channel in image.channels] or [image.name]
    wanted = list(names) if channels is None else list(channels)
    for name in wanted:
        if name not in names:
            raise UserError(
                f"{image.path} has no channel {name!r}; it has {', '.join(names[:12])}"
                f"{', ...' if len(names) > 12 else ''}."
            )
    if not 0 <= level < len(image.levels):
        raise UserError(f"{image.path} has no level {level}; it has 0 to {len(image.levels) - 1}.")
    depth = image.levels[0].shape[-3]
    z0, z1 = slices if slices is not None else (0, depth)
    if not 0 <= z0 < z1 <= depth:
        raise UserError(
            f"Slices {z0}:{z1} are empty or leave the image of {depth} slices; choose others."
        )
    picked = [names.index(name) for name in wanted]
    levels = [_stored_level(image, k, picked, z0, z1) for k in range(level, len(image.levels))]
    colors = {channel.name: channel.color for channel in image.channels}
    with staged(path) as partial:
        if form.startswith(".ome"):
            write_ome_tiff(
                partial, levels, wanted, image.name, [colors.get(name) for name in wanted]
            )
        else:
            write_nifti(partial, levels[0], wanted)
    return path


def check_target(path: Path, overwrite: bool, forms: Sequence[str] = FORMS) -> str:
    """Return the ending that says in which form to write.

    Raises
    ------
    UserError
        If it is none of `forms`, or something is there that may not be replaced.
    """
    name = path.name.lower()
    form = next((ending for ending in sorted(forms, key=len)[::-1] if name.endswith(ending)), None)
    if form is None:
        raise UserError(f"{path.name} says no form to write; end it in {', '.join(forms)}.")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already: choose another name, or allow overwriting.")
    if path.is_dir() != (form == ".zarr") and path.exists():
        raise UserError(f"{path} is not what would be written: choose another name.")
    if form == ".zarr" and path.exists() and not (path / "zarr.json").exists():
        raise UserError(f"{path} is no OME-Zarr image, so it is not replaced: choose another name.")
    return form


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a name beside the target, renamed to it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: it tells the libraries what to write.
    partial = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield partial
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise
    if path.is_dir():
        old = partial.with_suffix(".old")
        path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.replace(path)


def _copy(source: Path, target: Path) -> Path:
    if not source.is_dir():
        raise UserError(f"{source} is remote; only images on this computer are copied.")
    with staged(target) as partial:
        shutil.copytree(source, partial)
        (partial / "ledger.jsonl").unlink(missing_ok=True)
    return target


def _stored_level(
    image: MultiscaleImage, level: int, picked: Sequence[int], z0: int, z1: int
) -> Level:
    array = image.levels[level]
    scale, origin = image.scale(level)[-3:], image.translation(level)[-3:]
    labels = array.ndim == 3

    def read(channel: int, z: int, rows: slice, columns: slice) -> np.ndarray:
        place = (z0 + z, rows, columns)
        return np.asarray(array[place if labels else (picked[channel], *place)])

    return Level(
        (len(picked), z1 - z0, array.shape[-2], array.shape[-1]),
        (scale[0], scale[1], scale[2]),
        (origin[0] + z0 * scale[0], origin[1], origin[2]),
        read,
    )


def write_ome_tiff(
    path: Path,
    levels: Sequence[Level],
    channels: Sequence[str],
    name: str,
    colors: Sequence[str | None],
) -> None:
    """Write a tiled OME-TIFF, coarser levels as SubIFDs, tile by tile.

    Parameters
    ----------
    path : Path
        The file.
    levels : sequence of Level
        From fine to coarse.
    channels : sequence of str
        Names.
    name : str
        Name of the image.
    colors : sequence of str or None
        Six hexadecimal digits a channel.
    """
    import tifffile

    first = levels[0]
    kind = _dtype(first)
    size = int(np.prod(first.shape)) * kind.itemsize
    metadata = {
        "axes": "CZYX",
        "Name": name,
        "PhysicalSizeX": first.scale[2],
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": first.scale[1],
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": first.scale[0],
        "PhysicalSizeZUnit": "µm",
        "Channel": {"Name": list(channels), "Color": [_rgba(color) for color in colors]},
        "Plane": {
            "PositionX": [first.translation[2]] * (first.shape[0] * first.shape[1]),
            "PositionXUnit": ["µm"] * (first.shape[0] * first.shape[1]),
            "PositionY": [first.translation[1]] * (first.shape[0] * first.shape[1]),
            "PositionYUnit": ["µm"] * (first.shape[0] * first.shape[1]),
        },
    }
    options: dict[str, Any] = {
        "tile": (_TILE, _TILE),
        "photometric": "minisblack",
        "compression": "zlib",
        "predictor": kind.kind in "ui",
        "dtype": kind,
    }
    with tifffile.TiffWriter(path, ome=True, bigtiff=size > 2**31) as file:
        file.write(
            _tiles(first, kind),
            shape=first.shape,
            subifds=len(levels) - 1,
            metadata=metadata,
            resolution=(1e4 / first.scale[2], 1e4 / first.scale[1]),
            resolutionunit="CENTIMETER",
            **options,
        )
        for level in levels[1:]:
            file.write(
                _tiles(level, kind),
                shape=level.shape,
                subfiletype=1,
                metadata=None,
                resolution=(1e4 / level.scale[2], 1e4 / level.scale[1]),
                resolutionunit="CENTIMETER",
                **options,
            )


def _dtype(level: Level) -> np.dtype[Any]:
    kind = level.read(0, 0, slice(0, 1), slice(0, 1)).dtype
    # Neither OME-TIFF nor NIfTI knows half floats.
    return np.dtype(np.float32) if kind == np.float16 else np.dtype(kind)


def _rgba(color: str | None) -> int:
    """A colour as OME writes it: red, green, blue, alpha in a signed 32-bit number."""
    value = int(f"{color or 'FFFFFF'}FF", 16)
    return value - 2**32 if value >= 2**31 else value


def _tiles(level: Level, kind: np.dtype[Any]) -> Iterator[np.ndarray]:
    channels, depth, height, width = level.shape
    for channel in range(channels):
        for z in range(depth):
            for y in range(0, height, _TILE):
                # A row of tiles at once: chunks are at least as high as a tile.
                band = level.read(channel, z, slice(y, min(y + _TILE, height)), slice(0, width))
                for x in range(0, width, _TILE):
                    yield np.ascontiguousarray(band[:, x : x + _TILE], dtype=kind)


def write_nifti(path: Path, level: Level, channels: Sequence[str]) -> None:
    """Write one level as NIfTI-1: axes (x, y, z), and channels as the fourth where there are many.

    The affine takes voxels to millimeters in the order that NIfTI wants (right, anterior,
    superior), for coronal sections from front to back with their top up: x goes right, rows go
    down, slices go back.
    """
    # Imported by name: nibabel's own types are partial.
    nibabel: Any = import_module("nibabel")
    count, depth, height, width = level.shape
    kind = _dtype(level)
    data = np.empty((width, height, depth, count), kind, order="F")
    for channel in range(count):
        for z in range(depth):
            data[:, :, z, channel] = level.read(channel, z, slice(0, height), slice(0, width)).T
    if count == 1:
        data = data[..., 0]
    header = nibabel.Nifti1Header()
    header.set_data_dtype(kind)
    image = nibabel.Nifti1Image(data, nifti_affine(level), header, dtype=kind)
    image.header.set_xyzt_units("mm")
    image.set_sform(nifti_affine(level), code="aligned")
    image.set_qform(nifti_affine(level), code="aligned")
    image.header["descrip"] = ", ".join(channels).encode("ascii", "replace")[:79]
    comment = nibabel.nifti1.Nifti1Extension("comment", "\n".join(channels).encode())
    image.header.extensions.append(comment)
    nibabel.save(image, path)


def nifti_affine(level: Level) -> np.ndarray:
    """Voxel (x, y, z) to millimeters (right, anterior, superior), 4 x 4."""
    (dz, dy, dx), (z, y, x) = level.scale, level.translation
    affine = np.array([[dx, 0, 0, x], [0, 0, -dz, -z], [0, -dy, 0, -y], [0, 0, 0, 1000.0]])
    return affine / 1000

"""TIFF images read in parts, so that memory does not grow with their size; and what they state."""

from __future__ import annotations

import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from napari_teramind.errors import UserError

PLAUSIBLE_UM = (0.01, 10.0)
"""Micrometers that a microscope's pixel may have: a printer's 72 dots an inch are none."""
_UNITS = {
    "nm": 1e-3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "mm": 1e3,
    "cm": 1e4,
}
_RESOLUTION_UNITS = {2: 25_400.0, 3: 10_000.0}
"""Micrometers of the TIFF tag ResolutionUnit: inch and centimetre (TIFF 6.0, page 38)."""


class TiffPixels:
    """The first image of a TIFF: BigTIFF, tiled, compressed, of several pages, OME or not.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    axes : str
        A letter an axis, as tifffile names them; ``Q`` and ``I`` are pages nobody explained.
    shape : tuple of int
    dtype : dtype
    pixel_size : tuple of float or None
        Micrometers (y, x) of a pixel, if the file states them.
    channels : list of str
        Names of its channels, if it states them.

    Raises
    ------
    UserError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import tifffile
        import zarr

        self.path = path
        try:
            tiff = tifffile.TiffFile(path)
            weakref.finalize(self, tiff.close)
            series = tiff.series[0]
            self.axes = str(series.axes)
            self.shape = tuple(int(side) for side in series.shape)
            self.dtype = np.dtype(series.dtype)
            self.pixel_size, self.channels = _stated(tiff)
            if series.dataoffset is not None:
                self._pixels: Any = tifffile.memmap(path, mode="r")
            else:
                self._pixels = zarr.open_array(series.aszarr(level=0), mode="r")
        except (ValueError, OSError, IndexError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not a TIFF that can be read ({error}): export the image again."
            ) from error

    def read(self, index: tuple[int | slice, ...]) -> np.ndarray:
        """Read a part: an index or a range for every axis."""
        try:
            return np.asarray(self._pixels[index])
        except (ValueError, OSError, zlib.error) as error:
            # Compressions that tifffile itself cannot undo say that imagecodecs is needed.
            raise UserError(
                f"{self.path} cannot be decoded ({error}): copy the file again, or install"
                " imagecodecs if it asks for that."
            ) from error


def _stated(tiff: Any) -> tuple[tuple[float, float] | None, list[str]]:
    """Return micrometers (y, x) of a pixel and names of channels, as far as a file states them."""
    if tiff.is_ome:
        return _ome(tiff.ome_metadata)
    tags = tiff.pages[0].tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None, []
    if tiff.is_imagej:
        unit = _UNITS.get(str((tiff.imagej_metadata or {}).get("unit", "")))
    else:
        unit = _RESOLUTION_UNITS.get(
            int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 1
        )
    if unit is None:
        return None, []
    sides = []
    for name in ("YResolution", "XResolution"):
        dots, per = tags[name].value
        sides.append(unit * per / dots if dots and per else 0.0)
    return _plausible(sides[0], sides[1]), []


def _ome(text: str) -> tuple[tuple[float, float] | None, list[str]]:
    """Read the first image of OME-XML (OME schema 2016-06, element Pixels)."""
    import tifffile

    try:
        known = tifffile.xml2dict(text)["OME"]["Image"]
        first = known[0] if isinstance(known, list | tuple) else known
        pixels = first["Pixels"]
    except (KeyError, TypeError, IndexError, ValueError, SyntaxError):
        return None, []
    found = pixels.get("Channel", [])
    channels = found if isinstance(found, list | tuple) else [found]
    names = [str(each.get("Name", "")) for each in channels if isinstance(each, dict)]
    sides = []
    for axis in "YX":
        unit = _UNITS.get(str(pixels.get(f"PhysicalSize{axis}Unit", "um")))
        size = pixels.get(f"PhysicalSize{axis}")
        if unit is None or not isinstance(size, int | float):
            return None, names
        sides.append(float(size) * unit)
    return _plausible(sides[0], sides[1]), names


def _plausible(y: float, x: float) -> tuple[float, float] | None:
    low, high = PLAUSIBLE_UM
    return (y, x) if low <= y <= high and low <= x <= high else None

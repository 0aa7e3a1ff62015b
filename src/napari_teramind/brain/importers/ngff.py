"""Multiscale images of any axis order, seen as planes (channel, y, x) of a world in micrometers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_teramind.brain import foundation
from napari_teramind.brain.multiscale import MultiscaleImage
from napari_teramind.errors import UserError

_CHANNEL = re.compile(r"(?P<path>.+)#(?P<channel>[^/\\#]+)")


def split_channel(location: str | Path) -> tuple[str, str | None]:
    """Split ``image.zarr#channel`` into its parts; a path that exists is left whole."""
    text = str(location)
    match = _CHANNEL.fullmatch(text)
    if match is None or Path(text).exists():
        return text, None
    return match["path"], match["channel"]


def open_image(path: str) -> MultiscaleImage:
    """Open a multiscale image, local or remote; of a bioformats2raw collection the first.

    Raises
    ------
    UserError
        If there is none.
    """
    try:
        group = zarr.open_group(path, mode="r")
    except (ValueError, KeyError, TypeError, OSError) as error:
        if "://" not in path and not Path(path).exists():
            raise UserError(f"There is no image at {path}: check the path.") from error
        raise UserError(
            f"{path} is not a Zarr group ({error}): choose an OME-Zarr image."
        ) from error
    found = foundation.attributes(group)
    if "teramind" in found and "images" in found["teramind"]:
        raise UserError(
            f"{path} is a brain already: name one of the images in it, as {path}/stains."
        )
    if "bioformats2raw.layout" in found.get("ome", found) and isinstance(
        group.get("0"), zarr.Group
    ):
        return open_image(f"{path}/0")
    return MultiscaleImage(group, path)


@dataclass(frozen=True)
class Source:
    """One level of a multiscale image.

    Attributes
    ----------
    image : MultiscaleImage
        The image; its axes are t, c, z, y, x or some of them, y and x among them, in any order.
    level : int
        The level.
    what : str
        What the image is for, for messages.
    """

    image: MultiscaleImage
    level: int
    what: str

    @property
    def array(self) -> zarr.Array[Any]:
        """Array of the level."""
        return self.image.levels[self.level]

    def _size(self, axis: str) -> int:
        axes = self.image.axes
        return int(self.array.shape[axes.index(axis)]) if axis in axes else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x); z is 1 without a z axis."""
        return self._size("z"), self._size("y"), self._size("x")

    @property
    def channels(self) -> int:
        """Number of channels; 1 without a channel axis."""
        return self._size("c")

    @property
    def pixel(self) -> float:
        """Side of a pixel in micrometers."""
        return self._along(self.image.scale(self.level), "y")

    @property
    def spacing(self) -> float:
        """Micrometers between slices."""
        return self._along(self.image.scale(self.level), "z", 1.0)

    @property
    def z_origin(self) -> float:
        """Position of the first slice in micrometers."""
        return self._along(self.image.translation(self.level), "z", 0.0)

    @property
    def corner(self) -> tuple[float, float]:
        """World position (y, x) of the outer corner of the first pixel, in micrometers."""
        shift = self.image.translation(self.level)
        return (
            self._along(shift, "y") - self.pixel / 2,
            self._along(shift, "x") - self.pixel / 2,
        )

    def _along(self, values: tuple[float, ...], axis: str, default: float = 0.0) -> float:
        axes = self.image.axes
        return values[axes.index(axis)] if axis in axes else default

    def check(self) -> None:
        """Raise a UserError unless the axes are known, pixels square, and there is one time."""
        axes, path = self.image.axes, self.image.path
        if not {"y", "x"} <= set(axes) <= set("tczyx") or len(set(axes)) != len(axes):
            raise UserError(
                f"{path} has the axes {', '.join(axes)}: {self.what} needs y and x, and at most t,"
                " c and z besides."
            )
        if self._size("t") != 1:
            raise UserError(
                f"{path} has {self._size('t')} time points: {self.what} needs an image of one."
            )
        across = self._along(self.image.scale(self.level), "x")
        if abs(across / self.pixel - 1) > 1e-3:
            raise UserError(
                f"{path} has pixels of {self.pixel:g} x {across:g} um: pixels must be square."
            )

    def read(self, z: int, y: slice, x: slice, channel: int | slice = slice(None)) -> np.ndarray:
        """Read part of a slice.

        Returns
        -------
        ndarray, (channels, y, x)

        Raises
        ------
        UserError
            If the data are damaged.
        """
        if isinstance(channel, int):
            channel = slice(channel, channel + 1)
        picks: dict[str, int | slice] = {"t": 0, "c": channel, "z": z, "y": y, "x": x}
        axes = self.image.axes
        try:
            block = np.asarray(self.array[tuple(picks[axis] for axis in axes)])
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(
                f"{self.image.path} cannot be decoded ({error}): copy the image again."
            ) from error
        left = [axis for axis in axes if axis in "cyx"]
        block = block.transpose([left.index(axis) for axis in "cyx" if axis in left])
        return block if "c" in left else block[np.newaxis]


def find_level(image: MultiscaleImage, pixel: float, what: str, tolerance: float) -> Source | None:
    """Find the level whose pixels have a given side, in micrometers."""
    for level in range(len(image.levels)):
        source = Source(image, level, what)
        source.check()
        if abs(source.pixel / pixel - 1) <= tolerance:
            return source
    return None


def pick_channel(source: Source, target: str, wanted: str | None) -> int:
    """Choose the channel of an image that shows a stain.

    Parameters
    ----------
    source : Source
        The image.
    target : str
        Name of the stain.
    wanted : str or None
        Name or number of the channel, if the user gave one.

    Raises
    ------
    UserError
        If there is no such channel, or several and none was named.
    """
    names = [channel.name for channel in source.image.channels]
    if wanted is None:
        if source.channels == 1:
            return 0
        wanted = target
    folded = [name.casefold() for name in names[: source.channels]]
    if wanted.casefold() in folded:
        return folded.index(wanted.casefold())
    if wanted.isdecimal() and int(wanted) < source.channels:
        return int(wanted)
    listed = f" ({', '.join(names)})" if names else ""
    raise UserError(
        f"{source.image.path} has {source.channels} channels{listed} and none is named {wanted!r}:"
        f" name or number one, as {source.image.path}#0."
    )

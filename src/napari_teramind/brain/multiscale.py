"""Multiscale images: NGFF metadata written (0.5) and read (0.4 and 0.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BloscShuffle

from napari_teramind.brain.layout import Channel, Placement, ceil_div, chunk_and_shard
from napari_teramind.errors import UserError

VERSION = "0.5"
_HEX = re.compile(r"[0-9A-Fa-f]{6}")
MICROMETERS = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
"""Of the units that NGFF has."""


def image_attributes(
    name: str,
    levels: int,
    placement: Placement,
    channels: Sequence[Channel] | None,
    dtype_max: float = 255.0,
) -> dict[str, Any]:
    """Build the attributes of an image group (NGFF 0.5, sections axes, multiscales, omero).

    Parameters
    ----------
    name : str
        Name of the image.
    levels : int
        Number of pyramid levels, at paths "0", "1", ...
    placement : Placement
        Where the levels lie.
    channels : sequence of Channel or None
        Channels of a (c, z, y, x) image; None for a (z, y, x) label image.
    dtype_max : float
        Largest intensity that a channel's window can be opened to.
    """
    space = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    lead: list[dict[str, str]] = []
    ones: list[float] = []
    zeros: list[float] = []
    if channels is not None:
        lead, ones, zeros = [{"name": "c", "type": "channel"}], [1.0], [0.0]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": ones + list(placement.scale(level))},
                {"type": "translation", "translation": zeros + list(placement.translation(level))},
            ],
        }
        for level in range(levels)
    ]
    ome: dict[str, Any] = {
        "version": VERSION,
        "multiscales": [{"name": name, "axes": lead + space, "datasets": datasets}],
    }
    if channels is not None:
        ome["omero"] = {"channels": omero_channels(channels, dtype_max)}
    return {"ome": ome}


def omero_channels(channels: Sequence[Channel], dtype_max: float) -> list[dict[str, Any]]:
    """Build the channel list of the omero block."""
    return [
        {
            "label": channel.name,
            "color": channel.color,
            "active": True,
            "window": {
                "min": 0.0,
                "max": max(dtype_max, float(channel.window[1])),
                "start": float(channel.window[0]),
                "end": float(channel.window[1]),
            },
        }
        for channel in channels
    ]


def label_attributes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the image-label block (NGFF 0.5, section labels) from rows with id, color_hex, ..."""
    block: dict[str, Any] = {"version": VERSION, "source": {"image": "../../"}}
    if rows:
        block["properties"] = [
            {"label-value": int(row["id"]), **{k: v for k, v in row.items() if k != "id"}}
            for row in rows
        ]
        colors = {int(row["id"]): str(row.get("color_hex")) for row in rows}
        block["colors"] = [
            {"label-value": label, "rgba": [*bytes.fromhex(color), 255]}
            for label, color in colors.items()
            if _HEX.fullmatch(color)
        ]
    return block


def create_levels(
    group: zarr.Group,
    shape: tuple[int, ...],
    levels: int,
    dtype: Any,
    chunk: int,
    tile: int,
) -> list[zarr.Array[Any]]:
    """Create the empty arrays of a pyramid.

    Parameters
    ----------
    group : zarr.Group
        The image's group.
    shape : tuple of int
        (c, z, y, x) or (z, y, x) of level 0.
    levels : int
        Number of levels.
    dtype : dtype
        Type of all levels.
    chunk, tile : int
        Sides in y, x of chunk and shard. A chunk holds one channel of one slice; a shard holds
        all channels of one slice.
    """
    return [
        create_level(group, str(k), halved(shape, k), dtype, chunk, tile) for k in range(levels)
    ]


def halved(shape: tuple[int, ...], level: int) -> tuple[int, ...]:
    """Shape of a level: y and x halved and rounded up, other axes as they are."""
    return (*shape[:-2], *(max(1, ceil_div(side, 2**level)) for side in shape[-2:]))


def create_level(
    group: zarr.Group, path: str, shape: tuple[int, ...], dtype: Any, chunk: int, tile: int
) -> zarr.Array[Any]:
    """Create one empty sharded array; see `create_levels`."""
    chunk, tile = chunk_and_shard(shape[-2], shape[-1], chunk, tile)
    ones = (1,) * (len(shape) - 2)
    itemsize = np.dtype(dtype).itemsize
    shuffle = BloscShuffle.noshuffle if itemsize == 1 else BloscShuffle.shuffle
    return group.create_array(
        path,
        shape=shape,
        dtype=dtype,
        chunks=(*ones, chunk, chunk),
        shards=(*shape[:-3], 1, tile, tile),
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=shuffle),
        fill_value=0,
        dimension_names=list("czyx"[-len(shape) :]),
    )


class MultiscaleImage:
    """A read view of one multiscale image, OME-Zarr 0.4 or 0.5.

    Opening reads the group's metadata only; arrays are opened when asked for.

    Parameters
    ----------
    group : zarr.Group
        Group that carries the ``multiscales`` metadata.
    path : str
        Where the group lies, for messages and for other tools.
    placed
        Whether the metadata place the image in the world as NGFF has it. If not, as where another
        format's own transformations do, those of the whole multiscale and the units are left out.

    Raises
    ------
    UserError
        If the group is not a multiscale image that we can place in the world.

    Attributes
    ----------
    path : str
        Path or address of the image.
    axes : tuple of str
        Axis names, as ``("c", "z", "y", "x")``.
    name : str
        Name in the metadata.
    """

    def __init__(self, group: zarr.Group, path: str, placed: bool = True) -> None:
        self.path = path
        self._group = group
        attributes = group.attrs.asdict()
        ome = attributes.get("ome", attributes)
        self._ome: dict[str, Any] = ome if isinstance(ome, dict) else {}
        try:
            block = self._ome["multiscales"][0]
            self.axes: tuple[str, ...] = tuple(axis["name"] for axis in block["axes"])
            self._units = [_unit(axis) if placed else 1.0 for axis in block["axes"]]
            self._paths = [dataset["path"] for dataset in block["datasets"]]
            common = block.get("coordinateTransformations", ()) if placed else ()
            self._affines = [self._affine(dataset, common) for dataset in block["datasets"]]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is not a multiscale image in OME-Zarr 0.4 or 0.5 ({error!r}): "
                "choose the group that holds the 'multiscales' metadata."
            ) from error
        self.name = str(block.get("name", ""))

    def _affine(
        self, dataset: Mapping[str, Any], common: Sequence[Mapping[str, Any]]
    ) -> tuple[np.ndarray, np.ndarray]:
        scale, translation = np.ones(len(self.axes)), np.zeros(len(self.axes))
        # The transformations of a dataset come first, those of the whole multiscale after them.
        for step in (*dataset["coordinateTransformations"], *common):
            if step["type"] == "scale":
                factor = np.asarray(step["scale"], dtype=float)
                scale, translation = scale * factor, translation * factor
            elif step["type"] == "translation":
                translation = translation + np.asarray(step["translation"], dtype=float)
            elif step["type"] != "identity":
                raise ValueError(f"transformation {step['type']!r}")
        if scale.shape != (len(self.axes),) or not (scale > 0).all():
            raise ValueError(f"scale {scale.tolist()}")
        units = np.asarray(self._units)
        return scale * units, translation * units

    def __repr__(self) -> str:
        return (
            f"MultiscaleImage({self.path!r}, axes={''.join(self.axes)}, levels={len(self._paths)})"
        )

    @cached_property
    def levels(self) -> list[zarr.Array[Any]]:
        """Arrays from fine to coarse."""
        arrays = []
        for path in self._paths:
            node = self._group.get(path)
            if not isinstance(node, zarr.Array) or node.ndim != len(self.axes):
                raise UserError(
                    f"{self.path} lacks the level {path!r} that its metadata list: "
                    "copy the image again."
                )
            arrays.append(node)
        return arrays

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of level 0, in the order of `axes`."""
        return tuple(self.levels[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of level 0."""
        return np.dtype(self.levels[0].dtype)

    def scale(self, level: int = 0) -> tuple[float, ...]:
        """Size of a pixel of a level along every axis; micrometers for z, y, x."""
        return tuple(float(v) for v in self._affines[level][0])

    def translation(self, level: int = 0) -> tuple[float, ...]:
        """World position of the centre of a level's first pixel along every axis; micrometers."""
        return tuple(float(v) for v in self._affines[level][1])

    def has_window(self, channel: int) -> bool:
        """Whether the image says which values of a channel are black and fully bright."""
        entries = self._ome.get("omero", {}).get("channels", [])
        return channel < len(entries) and {"start", "end"} <= set(
            entries[channel].get("window", {})
        )

    @cached_property
    def channels(self) -> list[Channel]:
        """Channels as the omero block names them; empty if there is none."""
        found = self._ome.get("omero", {}).get("channels", [])
        return [_channel(i, entry) for i, entry in enumerate(found)]

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes of the image's group."""
        return dict(self._group.attrs.asdict())

    @property
    def provenance(self) -> dict[str, Any]:
        """How a result was made; empty for an image that states nothing."""
        return dict(self.attributes.get("teramind", {}).get("provenance", {}))

    @property
    def label_rows(self) -> list[dict[str, Any]]:
        """Rows of a label image's properties, with ``id`` and ``color_hex``; [] if it has none."""
        block = self._ome.get("image-label", {})
        colors = {
            entry["label-value"]: bytes(entry["rgba"][:3]).hex().upper()
            for entry in block.get("colors", [])
            if "rgba" in entry
        }
        rows = {value: {"id": value, "color_hex": color} for value, color in colors.items()}
        for entry in block.get("properties", []):
            value = entry["label-value"]
            own = {key: item for key, item in entry.items() if key != "label-value"}
            rows[value] = rows.get(value, {"id": value}) | own
        return list(rows.values())


def _unit(axis: Mapping[str, Any]) -> float:
    if axis.get("type") != "space":
        return 1.0
    unit = axis.get("unit", "micrometer")
    if unit not in MICROMETERS:
        raise ValueError(f"unit {unit!r}")
    return MICROMETERS[unit]


def _channel(index: int, entry: Mapping[str, Any]) -> Channel:
    window = entry.get("window", {})
    return Channel(
        name=str(entry.get("label", f"channel {index}")),
        color=str(entry.get("color", "FFFFFF")),
        window=(float(window.get("start", 0.0)), float(window.get("end", 255.0))),
    )

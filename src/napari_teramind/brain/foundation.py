"""The root of a brain and its empty images: made, recognised, replaced."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import FsspecStore, ZipStore

from napari_teramind.brain import layout, multiscale
from napari_teramind.brain.layout import BIN, Channel, LabelInfo, Placement
from napari_teramind.errors import UserError

PATIENCE = {"total": 60.0, "sock_connect": 5.0, "sock_read": 8.0}
"""Seconds that a web server has for an answer, to connect, and between two pieces."""


def about_brain(root: zarr.Group, path: str) -> dict[str, Any]:
    """Return what a brain says about itself.

    Parameters
    ----------
    root
        As `open_root` opens it.
    path
        For messages.

    Raises
    ------
    UserError
        If it is something else than a brain.
    """
    meta = root.attrs.asdict().get("teramind")
    if not isinstance(meta, dict) or "images" not in meta or "complete" not in meta:
        raise UserError(
            f"{path} is Zarr but not a brain: import it with 'teramind import', or choose a brain"
            " made by it."
        )
    if meta.get("format") != layout.FORMAT:
        raise UserError(
            f"{path} is a brain of format {meta.get('format')!r}, which this version cannot read:"
            " update napari-teramind."
        )
    return meta


def open_root(path: str) -> zarr.Group:
    """Open a Zarr group for reading: a folder, a zip file, or a remote address.

    Raises
    ------
    UserError
        If there is none, or it cannot be read.
    """
    try:
        if is_zip(path):
            return zarr.open_group(ZipStore(path, mode="r"), mode="r")
        root = zarr.open_group(path, mode="r", storage_options=_patience(path))
    except ImportError as error:
        raise UserError(
            f"{path} needs a package that is not installed ({str(error).splitlines()[0]})."
        ) from error
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        # Zarr's own errors are ValueErrors; broken JSON and missing files come as they are.
        raise _no_group(path, error) from error
    if isinstance(root.store, FsspecStore) and hasattr(root.store.fs, "retries"):
        # s3fs tries five times, each with a time-out of its own.
        root.store.fs.retries = 1
    return root


def _patience(path: str) -> dict[str, Any] | None:
    """Return the options of an address that can keep one waiting; what the user set comes first."""
    kind = path.partition("://")[0]
    if kind in ("http", "https"):
        from aiohttp import ClientTimeout

        own = _configured("client_kwargs", "http", "https")
        return {"client_kwargs": {"timeout": ClientTimeout(**PATIENCE), **own}}
    if kind in ("s3", "s3a"):
        patience = {
            "connect_timeout": PATIENCE["sock_connect"],
            "read_timeout": PATIENCE["sock_read"],
            "retries": {"max_attempts": 1},
        }
        return {"config_kwargs": {**patience, **_configured("config_kwargs", "s3", "s3a")}}
    return None


def _configured(option: str, *kinds: str) -> dict[str, Any]:
    """Return what the user's configuration of fsspec says of an option."""
    from fsspec.config import conf  # type: ignore[import-untyped]

    return {k: v for kind in kinds for k, v in conf.get(kind, {}).get(option, {}).items()}


def is_zip(path: str) -> bool:
    """Whether a path names a zip file on this computer."""
    return "://" not in path and path.lower().endswith(".zip") and not Path(path).is_dir()


def is_there(path: str) -> bool:
    """Whether a local brain is still there; a remote one is taken to be."""
    return "://" in path or Path(path).exists()


def _no_group(path: str, error: Exception) -> UserError:
    """Say why a path could not be opened."""
    if "://" in path:
        return UserError(
            f"There is no brain that can be read at {path}: check the address and the connection."
        )
    if not Path(path).exists():
        return UserError(f"There is no brain at {path}: check the path.")
    if is_zip(path):
        return UserError(
            f"{path} is no zip file of a Zarr group: its 'zarr.json' must lie at the top of it."
        )
    if (Path(path) / "zarr.json").exists():
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return UserError(
            f"{path} is damaged or not a Zarr group ({first}): copy or make the brain again."
        )
    return UserError(
        f"{path} is not a Zarr group: choose a brain made by 'teramind import' or"
        " 'teramind phantom'."
    )


def check_target(path: Path, overwrite: bool) -> None:
    """Make sure that a brain may be made at `path`: nothing is there, or a brain to overwrite.

    Raises
    ------
    UserError
        If something is there that may not be replaced.
    """
    if not path.exists():
        return
    if not overwrite:
        raise UserError(f"{path} exists already: choose another name, or allow overwriting.")
    try:
        about_brain(open_root(str(path)), str(path))
    except UserError as error:
        raise UserError(
            f"{path} exists and is not a brain, so that it is not overwritten: choose another name."
        ) from error


def attributes(group: zarr.Group) -> dict[str, Any]:
    """Return a copy of a group's attributes."""
    found: dict[str, Any] = group.attrs.asdict()
    return found


def checked_positions(given: Sequence[float] | None, shape: tuple[int, int, int]) -> list[float]:
    """Return the slices' z positions in micrometers, or raise a ValueError if they do not fit."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"a brain has a shape (z, y, x) of positive numbers, not {shape}")
    if given is None:
        return [layout.SLICE_SPACING * i for i in range(shape[0])]
    positions = [float(v) for v in given]
    if len(positions) != shape[0] or not np.isfinite(positions).all():
        raise ValueError(f"{len(positions)} slice positions for {shape[0]} slices")
    if (np.diff(positions) <= 0).any():
        raise ValueError("slice positions must ascend")
    return positions


def check_panel(genes: Sequence[str], stains: Sequence[Channel]) -> None:
    """Raise a UserError unless there are genes and stains, each listed once."""
    for what, names in (("gene", list(genes)), ("stain", [s.name for s in stains])):
        if not names:
            raise UserError(f"A brain needs at least one {what}: none was given.")
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            raise UserError(f"The {what} {twice[0]!r} is listed twice: list every {what} once.")


def create_images(
    root: zarr.Group,
    meta: Mapping[str, Any],
    genes: Sequence[str],
    stains: Sequence[Channel],
    labels: Mapping[str, LabelInfo],
) -> None:
    """Create the empty pyramids of stains, labels and genes in the root group of a brain."""
    z, y, x = meta["shape"]
    positions = meta["slice_positions_um"]

    def place(factor: int) -> Placement:
        spacing = layout.nominal_spacing(positions)
        return Placement(meta["pixel_size_um"], factor, spacing, positions[0])

    levels = layout.n_levels(y, x)
    attributes = multiscale.image_attributes("stains", levels, place(1), stains)
    group = root.create_group("stains", attributes=attributes)
    multiscale.create_levels(
        group, (len(stains), z, y, x), levels, np.uint8, layout.STAIN_CHUNK, layout.STAIN_TILE
    )
    if labels:
        listing = {"ome": {"version": multiscale.VERSION, "labels": list(labels)}}
        group.create_group("labels", attributes=listing)
    for name, info in labels.items():
        attributes = multiscale.image_attributes(name, levels, place(info.factor), None)
        attributes["ome"]["image-label"] = multiscale.label_attributes(info.properties)
        shape = (z, layout.ceil_div(y, info.factor), layout.ceil_div(x, info.factor))
        label = group.create_group(f"labels/{name}", attributes=attributes)
        multiscale.create_levels(
            label, shape, levels, np.uint32, layout.STAIN_CHUNK, layout.STAIN_TILE
        )

    bins = (layout.ceil_div(y, BIN), layout.ceil_div(x, BIN))
    levels = layout.n_levels(*bins, smallest=8)
    channels = layout.gene_channels(genes)
    attributes = multiscale.image_attributes("genes", levels, place(BIN), channels, 1.0)
    group = root.create_group("genes", attributes=attributes)
    multiscale.create_levels(
        group, (len(genes), z, *bins), levels, np.float16, layout.GENE_CHUNK, layout.GENE_TILE
    )

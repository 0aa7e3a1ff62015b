"""The npe2 writers: layers to OME-TIFF and NIfTI, with their places and sizes.

A layer of ours stands for an image of a brain: what is written are the values stored there, at all
levels, not what is shown of them. Any other image or labels layer is written as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.brain.export import (
    Level,
    check_target,
    export_image,
    staged,
    write_nifti,
    write_ome_tiff,
)
from napari_teramind.errors import UserError
from napari_teramind.plugin.layers import TAG
from napari_teramind.plugin.remote import strictly

if TYPE_CHECKING:
    from napari_teramind.attention import StoredMaps
    from napari_teramind.brain import BrainStore, MultiscaleImage

FORMS = (".ome.tif", ".ome.tiff", ".nii", ".nii.gz")
MOST_BYTES = 4e9
"""napari stands still while a writer writes: what takes longer belongs into a job."""

FullLayer = tuple[Any, dict[str, Any], str]


def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one image or labels layer; see `write_layers`."""
    kind = "labels" if "color_mode" in meta or _kind(meta) == "structures" else "image"
    return write_layers(path, [(data, meta, kind)])


def write_layers(path: str, layers: Sequence[FullLayer]) -> list[str]:
    """Write layers that lie on one grid as the channels of one file.

    Parameters
    ----------
    path
        ``.ome.tif``, ``.nii`` or ``.nii.gz``; napari has asked before a file is replaced.
    layers
        (data, metadata, type) of every layer.

    Returns
    -------
    list of str
        What was written; empty if it could not be, which is told as a notification.
    """
    from napari import current_viewer
    from napari.utils.notifications import show_error

    try:
        with strictly():
            return [str(_write(Path(path), layers))]
    except UserError as error:
        if current_viewer() is None:
            raise
        show_error(str(error))
        return []


def _write(path: Path, layers: Sequence[FullLayer]) -> Path:
    form = check_target(path, overwrite=True, forms=FORMS)
    metas = [meta for _, meta, _ in layers]
    kinds = {_kind(meta) for meta in metas}
    source = _same({(_tag(m).get("brain"), _tag(m).get("kind"), _source(m)) for m in metas})
    if source is not None and source[0] and kinds <= {"stain", "gene", "simulation", "attention"}:
        return _export(path, source[0], metas)
    if source is not None and source[0] and kinds == {"structures"}:
        return _export(path, source[0], metas)
    return _write_shown(path, form, layers)


def _export(path: Path, brain_path: str, metas: Sequence[dict[str, Any]]) -> Path:
    """Write the stored image that layers stand for, its finest level included."""
    from napari_teramind.brain import open_brain

    image, channels = _stored(open_brain(brain_path), metas)
    count = len(channels) if channels is not None else 1
    size = float(np.prod(image.levels[0].shape[-3:])) * count * image.levels[0].dtype.itemsize
    if size > MOST_BYTES:
        raise UserError(
            f"{metas[0]['name']} has {size / 1e9:.0f} GB, and napari would stand still while it is "
            f"written: use 'teramind export', which can also write a coarser level of {image.path}."
        )
    return export_image(image, path, channels=channels, overwrite=True)


def _stored(
    brain: BrainStore, metas: Sequence[dict[str, Any]]
) -> tuple[MultiscaleImage, list[str] | None]:
    kind = _kind(metas[0])
    tags = [_tag(meta) for meta in metas]
    match kind:
        case "stain":
            return brain.stains, [tag["name"] for tag in tags]
        case "gene":
            return brain.genes, [tag["name"] for tag in tags]
        case "simulation":
            return brain.simulations[tags[0]["simulation"]], [tag["stain"] for tag in tags]
        case "attention":
            return _stored_maps(brain, tags)
        case _:
            assert brain.structures is not None
            return brain.structures, None


def _stored_maps(
    brain: BrainStore, tags: Sequence[dict[str, Any]]
) -> tuple[MultiscaleImage, list[str]]:
    """Return the stored channels that views of a result are made of."""
    from napari_teramind.attention import open_maps

    maps: StoredMaps = open_maps(brain, tags[0]["name"])
    names: list[str] = []
    for tag in tags:
        pair, shown = tuple(tag["pair"]), tag["shown"]
        for channel in maps.channels:
            of_map = (channel.pair, channel.map) == (pair, tag["map"])
            single = channel.kind == "expression" and shown in ("a", "b")
            if (of_map and channel.kind == shown) or (
                single and channel.gene == pair[shown == "b"]
            ):
                names.append(channel.name)
    return maps.image, list(dict.fromkeys(names))


def _write_shown(path: Path, form: str, layers: Sequence[FullLayer]) -> Path:
    """Write layers as they are, finest level, with their scale and place."""
    arrays = [_volume(data, meta) for data, meta, _ in layers]
    names = [str(meta.get("name", "image")) for _, meta, _ in layers]
    places = {_place(meta) for _, meta, _ in layers}
    if len({array.shape for array in arrays}) > 1 or len(places) > 1:
        raise UserError(
            f"{', '.join(names)} do not lie on one grid, so they cannot be the channels of one "
            "file: save them one by one."
        )
    scale, origin = places.pop()
    kind = np.result_type(*arrays)
    if sum(array.size for array in arrays) * kind.itemsize > MOST_BYTES:
        raise UserError(
            f"{', '.join(names)} would fill more than {MOST_BYTES / 1e9:.0f} GB: crop first."
        )

    def read(channel: int, z: int, rows: slice, columns: slice) -> np.ndarray:
        return np.asarray(arrays[channel][z, rows, columns]).astype(_plain(kind), copy=False)

    depth, height, width = arrays[0].shape
    level = Level((len(arrays), depth, height, width), scale, origin, read)
    with staged(path) as partial:
        if form.startswith(".ome"):
            write_ome_tiff(partial, [level], names, names[0], [None] * len(names))
        else:
            write_nifti(partial, level, names)
    return path


def _volume(data: Any, meta: dict[str, Any]) -> Any:
    """Return the finest level as (z, y, x)."""
    finest = data[0] if meta.get("multiscale") or isinstance(data, list | tuple) else data
    if meta.get("rgb") or finest.ndim not in (2, 3):
        raise UserError(
            f"{meta.get('name', 'The layer')} is neither a plane nor a volume of single values: "
            "save it with another plugin."
        )
    ids = _atlas_ids(meta)
    if ids is not None:
        return ids[np.asarray(finest)]
    return np.asarray(finest)[None] if finest.ndim == 2 else finest


def _atlas_ids(meta: dict[str, Any]) -> np.ndarray | None:
    """Return the atlas's id for every label, where labels were numbered anew."""
    if _kind(meta) != "structures":
        return None
    features = meta["features"]
    ids = np.asarray(features["id"], np.int64)
    return np.where(ids < 0, 0, ids).astype(np.uint32)


def _place(meta: dict[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    def three(values: Any, lead: float) -> tuple[float, float, float]:
        z, y, x = [lead, *(float(v) for v in values)][-3:]
        return z, y, x

    shear = np.asarray(meta.get("shear", 0.0))
    rotate = np.asarray(meta.get("rotate", 0.0), float)
    turned = rotate.ndim == 2 and not np.allclose(rotate, np.eye(len(rotate)))
    scale, origin = three(meta.get("scale", ()), 1.0), three(meta.get("translate", ()), 0.0)
    # napari applies the affine matrix after everything else.
    affine = np.asarray(meta.get("affine", np.eye(1)), float)
    linear, offset = affine[:-1, :-1], affine[:-1, -1]
    steps = np.diag(linear)
    if turned or np.any(shear) or not np.allclose(linear, np.diag(steps)) or (steps <= 0).any():
        raise UserError(
            f"{meta.get('name', 'The layer')} is turned or sheared, which such a file cannot say: "
            "reset its transform first."
        )
    more, shift = three(steps, 1.0), three(offset, 0.0)
    return (
        (scale[0] * more[0], scale[1] * more[1], scale[2] * more[2]),
        (
            origin[0] * more[0] + shift[0],
            origin[1] * more[1] + shift[1],
            origin[2] * more[2] + shift[2],
        ),
    )


def _plain(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type that OME-TIFF and NIfTI know."""
    if kind.kind == "b":
        return np.dtype(np.uint8)
    if kind.kind in "iu" and kind.itemsize == 8:
        return np.dtype(np.int32 if kind.kind == "i" else np.uint32)
    return np.dtype(np.float32) if kind.kind == "f" else kind


def _tag(meta: dict[str, Any]) -> dict[str, Any]:
    tag = meta.get("metadata", {}).get(TAG, {})
    return tag if isinstance(tag, dict) else {}


def _kind(meta: dict[str, Any]) -> str | None:
    return _tag(meta).get("kind")


def _source(meta: dict[str, Any]) -> str | None:
    """Which result a layer shows; None for what a brain has only one of."""
    tag = _tag(meta)
    return {"simulation": tag.get("simulation"), "attention": tag.get("name")}.get(
        str(tag.get("kind"))
    )


def _same(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None

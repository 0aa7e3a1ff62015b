"""Layers of whatever a Zarr group holds: a brain, an OME-Zarr image, SpatialData, a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zarr

from napari_teramind.brain.foundation import open_root
from napari_teramind.brain.spatialdata import is_spatialdata
from napari_teramind.brain.store import brain_in
from napari_teramind.plugin.layers import brain_layers
from napari_teramind.plugin.omezarr import image_layers, is_image
from napari_teramind.plugin.spatialdata import element_layers, spatialdata_layers

if TYPE_CHECKING:
    from napari_teramind.plugin.layers import LayerTuple


def store_layers(path: str) -> tuple[list[LayerTuple], str]:
    """Return the layers of a store, and what is to be said of what is not shown; else "".

    Parameters
    ----------
    path
        A folder, a zip file, or an address.

    Raises
    ------
    UserError
        If there is nothing that can be shown.
    """
    root = open_root(path)
    if is_image(root):
        if is_spatialdata(root):
            return element_layers(root, path, root.basename or path.rstrip("/").split("/")[-1]), ""
        return image_layers(root, path), ""
    if is_spatialdata(root):
        return spatialdata_layers(root, path)
    series = _series(root)
    if series:
        words = ""
        if len(series) > 1:
            words = (
                f"{path} holds {len(series)} images, and the first is shown: open {path}/"
                f"{series[1]} for the next."
            )
        first = root[series[0]]
        assert isinstance(first, zarr.Group)
        return image_layers(first, f"{path}/{series[0]}"), words
    return brain_layers(brain_in(root, path)), ""


def _series(root: zarr.Group) -> list[str]:
    """Return the images of a collection that bioformats2raw made, by their numbers.

    NGFF 0.5, section "bioformats2raw.layout".
    """
    attributes: dict[str, Any] = root.attrs.asdict()
    if "bioformats2raw.layout" not in attributes.get("ome", attributes):
        return []
    return sorted((name for name, _ in root.groups() if name.isdigit()), key=int)

"""SpatialData stores: their images and label images as layers, where the store says they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_teramind.brain.multiscale import MultiscaleImage
from napari_teramind.brain.spatialdata import SYSTEM, elements, matrix_of, transformations
from napari_teramind.errors import UserError
from napari_teramind.plugin.omezarr import layers_of
from napari_teramind.words import listed

if TYPE_CHECKING:
    from napari_teramind.plugin.layers import LayerTuple

SHOWN, NOT_SHOWN = ("images", "labels"), ("points", "shapes", "tables")


def spatialdata_layers(root: zarr.Group, path: str) -> tuple[list[LayerTuple], str]:
    """Return the images and label images of a store.

    Parameters
    ----------
    root
        The store's root.
    path
        Where it lies.

    Returns
    -------
    tuple
        The layers, and in sentences what the store has beside them; "" if nothing.

    Raises
    ------
    UserError
        If there is no image, or none lies where it can be shown.
    """
    layers: list[LayerTuple] = []
    said: list[str] = []
    for kind in SHOWN:
        for name, group in elements(root, kind):
            try:
                layers += element_layers(group, f"{path}/{kind}/{name}", name)
            except UserError as error:
                said.append(str(error))
    if not layers and said:
        raise UserError(said[0])
    if not layers:
        raise UserError(f"{path} is a SpatialData store without images: there is nothing to show.")
    others = [(kind, len(elements(root, kind))) for kind in NOT_SHOWN]
    counted = [f"{kind} ({n})" for kind, n in others if n]
    if counted:
        said.append(f"{path} also has {listed(counted)}, which are not shown here.")
    return layers, " ".join(said)


def element_layers(group: zarr.Group, path: str, name: str) -> list[LayerTuple]:
    """Return the layers of one image or label image.

    Parameters
    ----------
    group
        The element.
    path
        Where it lies.
    name
        What it is called.

    Raises
    ------
    UserError
        If it lies where it cannot be shown.
    """
    image = MultiscaleImage(group, path, placed=False)
    axes = [i for i, axis in enumerate(image.axes) if axis != "c"]
    matrix = _to_system(group, image.axes, path)
    keep = [*axes, len(image.axes)]
    # A pixel of SpatialData begins at its number, and napari has its centre there.
    centre = np.eye(len(keep))
    centre[:-1, -1] = 0.5
    common: dict[str, Any] = {
        "affine": matrix[np.ix_(keep, keep)] @ centre,
        "axis_labels": [image.axes[i] for i in axes],
        "metadata": {"path": path},
    }
    return layers_of(image, name, common)


def _to_system(group: zarr.Group, axes: tuple[str, ...], path: str) -> np.ndarray:
    """Return the matrix (n + 1, n + 1) from an element to the coordinate system that is shown."""
    known = transformations(group)
    if not known:
        return np.eye(len(axes) + 1)
    return matrix_of(known.get(SYSTEM, next(iter(known.values()))), axes, path)

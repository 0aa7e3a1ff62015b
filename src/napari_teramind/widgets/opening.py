"""Bringing brains and genes into a viewer, from a panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer

from napari_teramind.plugin.contents import item_layers
from napari_teramind.plugin.layers import (
    GENE_COLORS,
    TAG,
    LayerTuple,
    gene_layer,
    layer_color,
    tag_of,
)
from napari_teramind.plugin.omezarr import LEFT_OUT
from napari_teramind.plugin.remote import told
from napari_teramind.plugin.stores import store_layers
from napari_teramind.widgets.beside import Beside

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_teramind.widgets.session import Session


def open_anything(session: Session, path: str, then: Callable[[bool], None] | None = None) -> None:
    """Open a brain or any OME-Zarr image, on this computer or elsewhere; reads beside the loop.

    Parameters
    ----------
    session
        Whose viewer.
    path
        A folder, a zip file or an address.
    then
        Called with whether it was opened, in the end; if not, it was told why.
    """

    def opened(found: tuple[list[LayerTuple], str] | str) -> None:
        layers, words = (unless_told(found), "") if isinstance(found, str) else found
        _add_in_turn(session, list(layers), lambda: then(bool(layers)) if then else None)
        if words:
            show_info(words)
        if layers and (left_out := layers[0][1]["metadata"].get(LEFT_OUT)):
            show_info(
                f"{path} has {len(layers) + left_out} channels; the first {len(layers)} are shown."
            )

    Beside(session, _read_anything, path, then=opened)


def _add_in_turn(session: Session, layers: list[LayerTuple], then: Callable[[], None]) -> None:
    """Add layers one at a time, so that the window answers in between; not one that is there."""
    viewer = session.viewer
    if viewer is None:
        return
    if not layers:
        then()
        return
    data, meta, kind = layers.pop(0)
    tag = meta["metadata"].get(TAG)
    if tag is None or not any(tag_of(layer) == tag for layer in viewer.layers):
        add_layer(viewer, (data, meta, kind))
    QTimer.singleShot(0, lambda: _add_in_turn(session, layers, then))


def _read_anything(path: str) -> tuple[list[LayerTuple], str]:
    """Read layers, and what is to be said of them."""
    with told(path):
        found = store_layers(path)
        if "://" in path:
            _try_pixel(found[0][0])
    return found


def _try_pixel(layer: LayerTuple) -> None:
    """Read one pixel: whether a server can send parts of files is better known before drawing."""
    data, meta, _ = layer
    coarsest = data[-1] if meta["multiscale"] else data
    np.asarray(coarsest[tuple(slice(0, 1) for _ in coarsest.shape)])


def show_gene(session: Session, gene: str) -> Layer | None:
    """Show a gene of the session's brain: its layer if there is one, else a new one.

    Parameters
    ----------
    session
        Says which viewer and brain.
    gene
        A symbol of the brain's panel.
    """
    viewer, brain = session.viewer, session.brain
    if viewer is None or brain is None:
        return None
    layers = session.layers("gene")
    for layer in layers:
        if tag_of(layer)["name"] == gene:
            break
    else:
        taken = {layer_color(layer) for layer in layers if layer.visible}
        color = next((c for c in GENE_COLORS if c.lower() not in taken), None)
        layer = add_layer(viewer, gene_layer(brain, gene, color), at=above_genes(session, viewer))
    layer.visible = True
    viewer.layers.selection.active = layer
    return layer


def show_item(session: Session, kind: str, name: str) -> None:
    """Add the layers of a stain, a result or the structures of the session's brain.

    Parameters
    ----------
    session
        Says which viewer and brain.
    kind, name
        As in :class:`napari_teramind.plugin.contents.Item`.
    """
    brain = session.brain
    if brain is not None:
        Beside(session, item_layers, brain, kind, name, then=lambda found: _insert(session, found))


def _insert(session: Session, found: list[LayerTuple] | str) -> None:
    viewer = session.viewer
    if viewer is None:
        return
    for data, meta, kind in unless_told(found):
        at = len(viewer.layers) if kind == "labels" else above_genes(session, viewer)
        add_layer(viewer, (data, {**meta, "visible": True}, kind), at=at)


def unless_told(found: list[LayerTuple] | str) -> list[LayerTuple]:
    """Return the layers that were read; none if what went wrong was told here."""
    if isinstance(found, str):
        show_error(found)
        return []
    return found


def add_layer(
    viewer: Viewer, layer_data: tuple[Any, dict[str, Any], str], at: int | None = None
) -> Layer:
    """Add a layer, on top or at a place in the list."""
    from napari.layers import Layer

    layer = Layer.create(*layer_data)
    viewer.layers.insert(len(viewer.layers) if at is None else at, layer)
    return layer


def select_again(viewer: Viewer, selected: set[Layer]) -> None:
    """Select what was selected before a layer was added.

    Not in 3D where a labels layer was: napari fails to tell what lies under the mouse there before
    the mouse has moved.
    """
    from napari.layers import Labels

    kept = selected & set(viewer.layers)
    if viewer.dims.ndisplay == 2 or not any(isinstance(layer, Labels) for layer in kept):
        viewer.layers.selection = kept


def above_genes(session: Session, viewer: Viewer) -> int:
    """Return where a layer goes that lies over the brain's images and under its structures."""
    below = [
        layer
        for kind in ("stain", "simulation", "preview", "gene", "attention")
        for layer in session.layers(kind)
    ]
    return max((viewer.layers.index(layer) + 1 for layer in below), default=len(viewer.layers))

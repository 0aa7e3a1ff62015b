"""Attention results in a viewer: as a volume over the stains, or as the relief of a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_teramind.plugin.attention import View, attention_layer
from napari_teramind.plugin.layers import LayerTuple, tag_of
from napari_teramind.plugin.relief import KIND, relief_layers
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.camera import show_all
from napari_teramind.widgets.opening import above_genes, select_again, unless_told
from napari_teramind.widgets.session import Session

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_teramind.attention import StoredMaps
    from napari_teramind.brain import BrainStore

ANGLES = (-15.0, 30.0, 15.0)
RELIEF_ANGLES = (0.0, 0.0, -60.0)
"""A volume from the front and a little from above; a slice lying flat, its top away from us."""
SHARE, RELIEF_SHARE = 1.1, 1.25
"""More than all: what we show is round, and seen from where its diagonal lies askew."""


class AttentionLayers(QObject):
    """The layers of attention results in one viewer; what is shown of a result is one layer.

    Another view of a result takes the place of the one before; other results are hidden.
    """

    changed = Signal()
    """A layer has come, or the relief has come or gone."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._asked: object = None
        self._hidden: list[Layer] = []
        self._selected: set[Layer] = set()
        self._was_3d = False

    def show(self, brain: BrainStore, maps: StoredMaps, view: View, turn: bool = False) -> None:
        """Show a view of a result.

        Parameters
        ----------
        brain, maps
            The brain and the result.
        view
            What of it.
        turn
            Turn to 3D, if there is more than one slice.
        """
        self.hide_relief()
        asked = self._asked = object()

        def then(found: list[LayerTuple] | str) -> None:
            if asked is self._asked:
                for layer in unless_told(found):
                    self._insert(layer, turn and maps.region.shape[0] > 1)

        Beside(self, lambda: [attention_layer(brain, maps, view)], then=then)

    def _insert(self, found: LayerTuple, turn: bool) -> None:
        from napari.layers import Layer

        viewer = self._session.viewer
        if viewer is None:
            return
        data, meta, kind = found
        tag = meta["metadata"]["teramind"]
        at = None
        for layer in tuple(viewer.layers):
            known = tag_of(layer)
            if known.get("kind") != "attention":
                continue
            if known == tag:  # it is there, perhaps renamed or brightened: it stays
                at = layer
            elif (known["brain"], known["name"]) == (tag["brain"], tag["name"]):
                viewer.layers.remove(layer)
            else:
                layer.visible = False
        if at is None:
            at = Layer.create(data, meta, kind)
            selected = set(viewer.layers.selection)
            viewer.layers.insert(above_genes(self._session, viewer), at)
            select_again(viewer, selected)
        at.visible = True
        if turn:
            self._turn()
        _go_to_slices(viewer, at)
        self.changed.emit()

    def _turn(self) -> None:
        viewer = self._session.viewer
        if viewer is not None and viewer.dims.ndisplay == 2:
            viewer.dims.ndisplay = 3
            show_all(viewer, ANGLES, SHARE)

    def remove(self, brain: str, result: str) -> None:
        """Take a result's layers away, as when it is being made anew."""
        viewer = self._session.viewer
        if viewer is None:
            return
        for layer in tuple(viewer.layers):
            tag = tag_of(layer)
            if tag.get("kind") in ("attention", KIND) and (
                (tag.get("brain"), tag.get("name")) == (brain, result)
            ):
                viewer.layers.remove(layer)

    # Relief

    @property
    def has_relief(self) -> bool:
        """Whether a relief is shown."""
        return bool(self._relief())

    def _relief(self) -> list[Layer]:
        viewer = self._session.viewer
        layers = tuple(viewer.layers) if viewer is not None else ()
        return [layer for layer in layers if tag_of(layer).get("kind") == KIND]

    def show_relief(self, brain: BrainStore, maps: StoredMaps, view: View) -> None:
        """Show the relief of the slice in view, alone; `hide_relief` brings back what was there."""
        first, end = maps.region.slices
        z = min(max(self._session.region.slice_in_view(), first), end - 1)
        Beside(self, relief_layers, brain, maps, view.pair, z, then=self._insert_relief)

    def _insert_relief(self, found: list[LayerTuple] | str) -> None:
        from napari.layers import Layer

        viewer = self._session.viewer
        layers = unless_told(found)
        if viewer is None or self.has_relief or not layers:
            return
        self._selected = set(viewer.layers.selection)
        self._hidden = [layer for layer in tuple(viewer.layers) if layer.visible]
        for layer in self._hidden:
            layer.visible = False
        self._was_3d = viewer.dims.ndisplay == 3
        # Not before the others are hidden: they would all be drawn as volumes.
        viewer.dims.ndisplay = 3
        for data, meta, kind in layers:
            viewer.add_layer(Layer.create(data, meta, kind))
        show_all(viewer, RELIEF_ANGLES, RELIEF_SHARE)
        self.changed.emit()

    def hide_relief(self) -> None:
        """Take the relief away, and show again what it had hidden."""
        viewer, relief = self._session.viewer, self._relief()
        if viewer is None or not relief:
            return
        for layer in relief:
            viewer.layers.remove(layer)
        viewer.dims.ndisplay = 3 if self._was_3d else 2
        for layer in self._hidden:
            if layer in viewer.layers:
                layer.visible = True
        self._hidden = []
        select_again(viewer, self._selected)
        if self._was_3d:
            show_all(viewer, ANGLES, SHARE)
        else:
            viewer.reset_view()
        self.changed.emit()


def _go_to_slices(viewer: Viewer, layer: Layer) -> None:
    """Go to the nearest slice that a layer has; stay if it has the slice in view."""
    axis = viewer.dims.ndim - 3
    first, last = (float(layer.data_to_world(corner)[-3]) for corner in layer.extent.data)
    half, here = abs(float(layer.scale[-3])) / 2, float(viewer.dims.point[axis])
    if not first - half < here < last + half:
        viewer.dims.set_point(axis, first if here < first else last)

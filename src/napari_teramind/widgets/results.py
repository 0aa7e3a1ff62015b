"""Generated stains as layers: a preview that sharpens in place, then the stored result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_teramind.brain import BrainStore
from napari_teramind.plugin.layers import (
    AXES,
    TAG,
    UNITS,
    LayerTuple,
    brain_key,
    generated_name,
    tag_of,
)
from napari_teramind.widgets.opening import select_again

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Layer

Roi = tuple[int, int, int, int]
Slices = tuple[int, int]

LOOK = ("visible", "opacity", "contrast_limits", "gamma", "colormap", "blending")
"""What the user may have changed on a preview, and finds again on the result."""

LARGEST_PLAIN = 4096
"""Side in pixels up to which a result is shown by its preview's layer. A new layer takes napari
some tenths of a second, and one that is larger needs its levels of detail."""


class ResultLayers:
    """The layers of one generation in one viewer.

    A layer that the user removed does not come back; one that was renamed keeps its name.

    Parameters
    ----------
    viewer
        Where to show; held weakly.
    brain
        The brain that is generated from.
    roi, slices
        The region: pixels (y0, y1, x0, x1) and slices (z0, z1), half open.
    seed, edited
        For the layers' names.
    """

    def __init__(
        self,
        viewer: Viewer,
        brain: BrainStore,
        roi: Roi,
        slices: Slices,
        seed: int,
        edited: bool = False,
    ) -> None:
        self._viewer = ref(viewer)
        self._brain = brain
        self._roi, self._slices, self._seed, self._edited = roi, slices, seed, edited
        self._previews: list[Layer] | None = None

    def show_preview(self, image: np.ndarray) -> None:
        """Show or renew the preview.

        Parameters
        ----------
        image
            (stains, z, y, x) uint8 of the region.
        """
        viewer = self._viewer()
        if viewer is None:
            return
        if self._previews is None:
            self._previews = [
                self._insert(viewer, image[i], self._preview_meta(viewer, i, name))
                for i, name in enumerate(self._brain.stain_names[: len(image)])
            ]
            return
        for layer, pixels in zip(self._previews, image, strict=True):
            if layer in viewer.layers:
                layer.data = pixels

    def show_result(self, result: list[LayerTuple], also: Sequence[LayerTuple] = ()) -> list[str]:
        """Put the stored result in the place of the preview; return the names of its layers.

        Parameters
        ----------
        result
            Its layers, a stain each.
        also
            Those of another result to show above it.
        """
        viewer = self._viewer()
        if viewer is None:
            return []
        self._show_result(viewer, result)
        for data, meta, _ in also:
            self._insert(viewer, data, meta)
        tags = [meta["metadata"][TAG] for _, meta, _ in (*result, *also)]
        return [layer.name for layer in viewer.layers if tag_of(layer) in tags]

    def _show_result(self, viewer: Viewer, results: list[LayerTuple]) -> None:
        if self._previews is None:
            for i, (data, meta, _) in enumerate(results):
                stain = self._stain_layer(viewer, self._brain.stain_names[i])
                self._insert(viewer, data, meta | _look(stain, without="blending"))
            return
        for preview, (data, meta, _) in zip(self._previews, results, strict=True):
            if preview not in viewer.layers:
                continue
            finest = data[0] if meta["multiscale"] else data
            if max(finest.shape) <= LARGEST_PLAIN:
                preview.data = finest
                preview.metadata = meta["metadata"]
                if preview.name == self._named(preview):
                    preview.name = meta["name"]
            else:
                self._replace(viewer, preview, data, meta)
        self._previews = None

    def _named(self, preview: Layer) -> str:
        """Name that the preview was given, unless the user has renamed it."""
        return generated_name(tag_of(preview).get("stain", ""), self._seed, edited=self._edited)

    def _replace(self, viewer: Viewer, preview: Layer, data: Any, meta: dict[str, Any]) -> None:
        """Put a layer with all levels of detail in the place of a preview, looking like it."""
        at = viewer.layers.index(preview)
        selected = set(viewer.layers.selection)
        meta |= _look(preview) | {"name": preview.name}
        viewer.layers.remove(preview)
        result = self._insert(viewer, data, meta, at)
        select_again(viewer, {result if layer is preview else layer for layer in selected})

    def remove_preview(self) -> None:
        """Take the preview away, as when there will be no result."""
        viewer = self._viewer()
        for layer in self._previews or []:
            if viewer is not None and layer in viewer.layers:
                viewer.layers.remove(layer)
        self._previews = None

    def _preview_meta(self, viewer: Viewer, channel: int, stain: str) -> dict[str, Any]:
        brain, (y0, _, x0, _), (z0, _) = self._brain, self._roi, self._slices
        dz = brain.stains.scale(0)[-3]
        origin = brain.stains.translation(0)[-3:]
        pixel = brain.pixel_size
        tag = {
            "brain": brain_key(brain.path),
            "kind": "preview",
            "name": stain,
            "edited": self._edited,
        }
        return _look(self._stain_layer(viewer, stain), without="blending") | {
            "name": generated_name(stain, self._seed, edited=self._edited),
            "scale": (dz, pixel, pixel),
            "translate": (origin[0] + z0 * dz, origin[1] + y0 * pixel, origin[2] + x0 * pixel),
            "units": UNITS,
            "axis_labels": AXES,
            "metadata": {TAG: tag},
            "blending": "translucent_no_depth" if channel == 0 else "additive",
            "rgb": False,
        }

    def _stain_layer(self, viewer: Viewer, stain: str) -> Layer | None:
        """Return the layer of the real stain, whose look the generated one shares."""
        for layer in viewer.layers:
            tag = tag_of(layer)
            if tag.get("brain") == brain_key(self._brain.path) and (
                (tag.get("kind"), tag.get("name")) == ("stain", stain)
            ):
                return layer
        return None

    def _insert(
        self, viewer: Viewer, data: Any, meta: dict[str, Any], at: int | None = None
    ) -> Image:
        """Add an image, by default right above this brain's stains and results.

        The user's selection stays as it is: it may be the ROI, to be moved on.
        """
        from napari.layers import Image

        layer = Image(data, **meta)
        selected = set(viewer.layers.selection)
        viewer.layers.insert(self._top(viewer) if at is None else at, layer)
        select_again(viewer, selected)
        return layer

    def _top(self, viewer: Viewer) -> int:
        own = [
            i + 1
            for i, layer in enumerate(viewer.layers)
            if tag_of(layer).get("brain") == brain_key(self._brain.path)
            and tag_of(layer).get("kind") in ("stain", "simulation", "preview")
        ]
        return max(own, default=len(viewer.layers))


def _look(layer: Layer | None, without: str = "") -> dict[str, Any]:
    if layer is None:
        return {}
    look = {name: getattr(layer, name) for name in LOOK if name != without}
    return look | {"visible": True} if without else look

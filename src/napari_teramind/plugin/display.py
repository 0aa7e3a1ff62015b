"""What a viewer does for our layers as it is used: scale bar, structure names, 3D looks."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari_teramind.plugin.layers import CONTOUR, tag_of
from napari_teramind.plugin.looks import structure_names

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels, Layer

HOVER = "teramind_structure"
OPACITY_3D = 0.5
BEHIND_3D = {"structures": 0.2, "stain": 0.4}
"""Opacities in 3D behind attention: a body that hides what glows in it tells nothing."""

_displays: WeakKeyDictionary[Viewer, Display] = WeakKeyDictionary()


def follow(viewer: Viewer) -> Display:
    """Let a viewer serve our layers; calling it again returns the same object."""
    # Inside widgets napari hands out proxies of the viewer, a new one every time.
    viewer = inspect.unwrap(viewer)
    if viewer not in _displays:
        _displays[viewer] = Display(viewer)
    return _displays[viewer]


class Display:
    """Shows the name of the structure under the mouse, and structures as contours in 2D only.

    The viewer is held weakly: this object lives in its callbacks and dies with it.
    """

    def __init__(self, viewer: Viewer) -> None:
        from napari.components.overlays import TextOverlay

        self._viewer = ref(viewer)
        self._names: WeakKeyDictionary[Labels, dict[int, str]] = WeakKeyDictionary()
        self._opacity_2d: WeakKeyDictionary[Layer, float] = WeakKeyDictionary()
        self._text = TextOverlay(position="top_left", font_size=12)
        viewer.canvas.overlays[HOVER] = self._text
        viewer.canvas.overlays.scale_bar.visible = True
        viewer.mouse_move_callbacks.append(self._on_mouse_move)
        viewer.events.mouse_over_canvas.connect(self._hide_name)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        viewer.layers.events.inserted.connect(self._on_inserted)
        # What is under the mouse is another structure then, or none; the next move will tell.
        for emitter in (
            viewer.dims.events.current_step,
            viewer.scene.camera.events.center,
            viewer.scene.camera.events.zoom,
            viewer.layers.events.removed,
        ):
            emitter.connect(self._hide_name)
        for layer in self.structure_layers():
            layer.events.visible.connect(self._hide_name)

    def structure_layers(self) -> list[Labels]:
        """Structure layers of the viewer, topmost first."""
        viewer = self._viewer()
        if viewer is None:
            return []
        # A slice of napari's list would be another such list, with all its connections: 20 ms.
        layers = reversed(tuple(viewer.layers))
        return [layer for layer in layers if tag_of(layer).get("kind") == "structures"]

    def name_at(self, position: Any, dims_displayed: list[int]) -> str:
        """Return "VTA - Ventral tegmental area" for a world position, "" outside structures."""
        for layer in self.structure_layers():
            if not layer.visible:
                continue
            value = layer.get_value(position, dims_displayed=dims_displayed, world=True)
            label = value[1] if isinstance(value, tuple) else value
            if label:
                if layer not in self._names:
                    self._names[layer] = structure_names(layer)
                return self._names[layer].get(int(label), f"structure {int(label)}")
        return ""

    def _on_mouse_move(self, viewer: Viewer, event: Any) -> None:
        flat = viewer.dims.ndisplay == 2
        name = self.name_at(event.position, list(event.dims_displayed)) if flat else ""
        # An empty text is never shown: it would leave an empty box on the canvas.
        if name:
            self._text.text = name
        self._text.visible = bool(name)

    def _hide_name(self, event: Any = None) -> None:
        self._text.visible = False

    def _on_inserted(self, event: Any) -> None:
        layer, viewer = event.value, self._viewer()
        kind = tag_of(layer).get("kind")
        if viewer is None or kind not in ("structures", "stain", "attention"):
            return
        if kind == "structures":
            layer.contour = CONTOUR
            layer.events.visible.connect(self._hide_name)
            # napari would tell this in a notification at every turn to 3D; it is what we want.
            warnings.filterwarnings("ignore", "Contours are not displayed during 3D rendering")
        if viewer.dims.ndisplay == 3:
            self._make_translucent(viewer)

    def _on_ndisplay(self, event: Any) -> None:
        """Contours in 2D, a translucent body in 3D; what the user set for 2D comes back."""
        self._hide_name()
        viewer = self._viewer()
        if viewer is None:
            return
        if event.value == 3:
            self._make_translucent(viewer)
            return
        for layer in tuple(viewer.layers):
            layer.opacity = self._opacity_2d.pop(layer, layer.opacity)

    def _make_translucent(self, viewer: Viewer) -> None:
        """Fade what is behind attention; without attention, structures only."""
        layers = tuple(viewer.layers)
        glowing = any(tag_of(layer).get("kind") == "attention" for layer in layers)
        opacities = BEHIND_3D if glowing else {"structures": OPACITY_3D}
        for layer in layers:
            opacity = opacities.get(str(tag_of(layer).get("kind")))
            if opacity is not None:
                self._opacity_2d.setdefault(layer, layer.opacity)
                layer.opacity = min(opacity, layer.opacity)

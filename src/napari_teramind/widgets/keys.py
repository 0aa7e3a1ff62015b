"""Keys of a viewer: generate, cancel, and a look at the real stains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari_teramind.plugin.layers import tag_of

if TYPE_CHECKING:
    from napari import Viewer

    from napari_teramind.widgets.session import Session

GENERATE, CANCEL, DRAW, SHOW_REAL, UNEDITED = "G", "Shift-G", "Shift-D", "Q", "W"
ATTENTION = "A"
# None is taken by napari 0.9 but A, by layers of points and shapes, whose keys come first.
KEY_HELP = (
    f"{GENERATE}: generate in the current view\n"
    f"{CANCEL}: cancel\n"
    f"{DRAW}: draw where to generate\n"
    f"{SHOW_REAL} held down: show the real stains instead of the generated ones\n"
    f"{UNEDITED} held down: show what was generated without edits"
)


def bind_keys(session: Session) -> None:
    """Bind our keys on the session's viewer, where they are still free; see `KEY_HELP`."""
    viewer = session.viewer
    if viewer is None:
        return
    known = ref(session)

    def generate(_: Viewer) -> None:
        """Generate in the current view."""
        if (session := known()) is not None:
            session.region.from_view = True
            session.generate_asked.emit()

    def cancel(_: Viewer) -> None:
        """Cancel generating."""
        if (session := known()) is not None and session.generation is not None:
            session.generation.cancel()

    def draw(_: Viewer) -> None:
        """Draw where to generate."""
        if (session := known()) is not None:
            session.region.draw()

    def without(edited_only: bool) -> Iterator[None]:
        """Hide generated layers while a key is held down."""
        if (session := known()) is None:
            return
        hidden = [
            layer
            for kind in ("simulation", "preview", "difference")
            for layer in session.layers(kind)
            if layer.visible and (tag_of(layer).get("edited") or not edited_only)
        ]
        for layer in hidden:
            layer.visible = False
        yield
        for layer in hidden:
            layer.visible = True

    def show_real(_: Viewer) -> Iterator[None]:
        """Show the real stains while the key is held down."""
        yield from without(edited_only=False)

    def show_unedited(_: Viewer) -> Iterator[None]:
        """Show what was generated without edits while the key is held down."""
        yield from without(edited_only=True)

    for key, action in (
        (GENERATE, generate),
        (CANCEL, cancel),
        (DRAW, draw),
        (SHOW_REAL, show_real),
        (UNEDITED, show_unedited),
    ):
        _bind(viewer, key, action)


def bind_attention_key(session: Session) -> None:
    """Bind the key for attention of the two selected genes, where it is still free."""
    known = ref(session)

    def attention(_: Viewer) -> None:
        """Compute attention of the two selected genes."""
        if (session := known()) is not None:
            session.attention_asked.emit()

    if session.viewer is not None:
        _bind(session.viewer, ATTENTION, attention)


def _bind(viewer: Viewer, key: str, action: Callable[[Viewer], Any]) -> None:
    if not any(str(bound) == key.replace("-", "+") for bound in viewer.keymap):
        viewer.bind_key(key, action)

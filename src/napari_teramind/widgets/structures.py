"""The structures that a viewer's panels are about: which, where, what is hidden; going there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_teramind.errors import UserError
from napari_teramind.plugin.atlases import (
    StructureSet,
    structures_of_atlas,
    structures_of_brain,
    structures_on_slices,
)
from napari_teramind.plugin.layers import CONTOUR, STRUCTURE_OPACITY, brain_key, tag_of
from napari_teramind.plugin.looks import structure_colormap
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.camera import go_to

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_teramind.atlas import Atlas
    from napari_teramind.widgets.session import Session

OWN = "own"
FILLED_OPACITY = 0.4
MARKED_MS = 1500
"""How long a structure stands out after going to it."""


class Structures(QObject):
    """Structures of one viewer: the brain's own, or those of an atlas that was opened.

    Labels are read beside the event loop, the first time that somebody calls `load`.
    """

    changed = Signal()
    """Another set was chosen, is being read, or could not be read."""
    visibility_changed = Signal()
    """Structures were hidden or shown."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._sets: dict[str, StructureSet] = {}
        self._atlases: dict[str, Atlas] = {}
        self._choice = OWN
        self._wanted = False
        self._reading: set[str] = set()
        self._problems: dict[str, str] = {}
        self._hidden: dict[str, set[int]] = {}
        self._filled = False
        self._waiting: list[Callable[[], None]] = []
        self._painting = QTimer(self)
        self._painting.setSingleShot(True)
        self._painting.setInterval(0)
        self._painting.timeout.connect(self._paint)
        self._marked: frozenset[int] = frozenset()
        self._marking = QTimer(self)
        self._marking.setSingleShot(True)
        self._marking.setInterval(MARKED_MS)
        self._marking.timeout.connect(self._unmark)
        session.brains_changed.connect(self._on_brains)

    # Which

    @property
    def choice(self) -> str:
        """`OWN`, or the key of an atlas."""
        return self._choice

    @property
    def current(self) -> StructureSet | None:
        """The chosen set; None while it is read, or if there is none."""
        key = self._key()
        return None if key is None else self._sets.get(key)

    @property
    def own(self) -> StructureSet | None:
        """The brain's own structures, whatever is chosen; None while they are not read."""
        path = self._session.brain_path
        return None if path is None else self._sets.get(brain_key(path))

    @property
    def busy(self) -> bool:
        """Whether the chosen set is being read."""
        return self._key() in self._reading

    @property
    def problem(self) -> str:
        """Why there are no structures to show; "" if there are, or if that is not known yet."""
        key = self._key()
        if key is None:
            return "Or open an atlas alone: one of BrainGlobe's, or an annotation volume."
        return self._problems.get(key, "")

    def atlases(self) -> list[StructureSet]:
        """Atlases that were opened, in the order in which they came."""
        return [found for found in self._sets.values() if found.atlas is not None]

    def _key(self) -> str | None:
        if self._choice != OWN:
            return self._choice
        path = self._session.brain_path
        return None if path is None else brain_key(path)

    def load(self) -> None:
        """Read the brain's own structures, now and whenever there is another brain."""
        self._wanted = True
        self._on_brains()

    def choose(self, key: str) -> None:
        """Take the brain's own structures (`OWN`), or an atlas that was opened before."""
        self._choice = key
        self._on_brains()
        self.changed.emit()
        self.show_layer()

    def add_atlas(self, atlas: Atlas, source: str) -> None:
        """Show an atlas in its own space and choose it."""
        self._atlases[source] = atlas
        self._choice = f"atlas:{source}"
        self._read(self._choice, structures_of_atlas, atlas, source)

    def lay_over(self, path: Path) -> None:
        """Lay the chosen atlas over the slices of the brain and choose that.

        Parameters
        ----------
        path
            JSON file of transforms.

        Raises
        ------
        UserError
            If no atlas is chosen, there is no brain, or the file cannot be read.
        """
        from napari_teramind.atlas import read_transforms

        chosen, brain = self.current, self._session.brain
        if chosen is None or chosen.atlas is None:
            raise UserError("Open an atlas first; then it can be laid over the slices.")
        if brain is None:
            raise UserError("Open a brain first; then an atlas can be laid over its slices.")
        transforms, atlas = read_transforms(path), self._atlases[chosen.atlas]
        self._choice = f"atlas:{chosen.atlas}:{path}:{brain_key(brain.path)}"
        self._read(self._choice, structures_on_slices, brain, atlas, transforms, chosen.atlas, path)

    def _on_brains(self) -> None:
        brain = self._session.brain
        if self._wanted and brain is not None:
            key = brain_key(brain.path)
            if key not in self._sets and key not in self._problems:
                self._read(key, structures_of_brain, brain)
        self.changed.emit()

    def _read(self, key: str, function: Callable[..., StructureSet], *arguments: Any) -> None:
        if key in self._reading:
            return
        self._reading.add(key)
        self._problems.pop(key, None)
        Beside(self, function, *arguments, then=lambda found: self._on_read(key, found))
        self.changed.emit()

    def _on_read(self, key: str, found: StructureSet | str) -> None:
        self._reading.discard(key)
        if isinstance(found, str):
            self._problems[key] = found
            self._waiting.clear()
        else:
            self._sets[key] = found
            if found.atlas is not None and key == self._choice:
                self.show_layer()
        self.changed.emit()
        if self.current is not None:
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()

    # Layer and looks

    def layer(self) -> Labels | None:
        """Return the layer of the chosen set, if it is in the viewer."""
        viewer, chosen = self._session.viewer, self.current
        if viewer is None or chosen is None:
            return None
        for layer in tuple(viewer.layers):
            tag = tag_of(layer)
            if tag.get("kind") == "structures" and chosen.key in (
                tag.get("brain"),
                tag.get("atlas"),
            ):
                return layer
        return None

    def show_layer(self) -> Labels | None:
        """Show the layer of the chosen set, anew if the user has removed it.

        The layers of other sets are hidden: two of them would hardly be told apart.
        """
        viewer, chosen = self._session.viewer, self.current
        if viewer is None or chosen is None:
            return None
        layer = self.layer()
        if layer is None:
            from napari.layers import Layer

            layer = viewer.add_layer(Layer.create(*chosen.layer))
            self._dress(layer)
        for other in tuple(viewer.layers):
            if tag_of(other).get("kind") == "structures":
                other.visible = other is layer
        return layer

    @property
    def filled(self) -> bool:
        """Whether structures are filled in 2D; else they are outlines."""
        return self._filled

    @filled.setter
    def filled(self, value: bool) -> None:
        self._filled = value
        layer = self.show_layer()
        if layer is not None:
            self._dress(layer)

    def _dress(self, layer: Labels) -> None:
        viewer = self._session.viewer
        layer.contour = 0 if self._filled else CONTOUR
        if viewer is not None and viewer.dims.ndisplay == 2:
            layer.opacity = FILLED_OPACITY if self._filled else STRUCTURE_OPACITY
        if self.hidden:
            self._painting.start()

    @property
    def hidden(self) -> frozenset[int]:
        """Ids of structures that are hidden."""
        return frozenset(self._hidden.get(self._key() or "", ()))

    def set_visible(self, structure_id: int, visible: bool) -> None:
        """Show or hide a structure with everything inside it."""
        chosen = self.current
        if chosen is None:
            return
        within = chosen.table.within_id(structure_id)
        hidden = self.hidden
        self._hide(chosen, hidden - within if visible else hidden | within)

    def show_only(self, ids: Iterable[int]) -> None:
        """Show some structures with everything inside them, and hide all others."""
        chosen = self.current
        if chosen is not None:
            shown = frozenset[int]().union(*(chosen.table.within_id(i) for i in ids))
            self._hide(chosen, frozenset(chosen.table) - shown)

    def show_all(self) -> None:
        """Hide nothing."""
        if (chosen := self.current) is not None:
            self._hide(chosen, frozenset())

    def _hide(self, chosen: StructureSet, hidden: frozenset[int]) -> None:
        self._hidden[chosen.key] = set(hidden)
        self._painting.start()  # once, however many boxes were ticked
        self.visibility_changed.emit()

    def _paint(self) -> None:
        if self.show_layer() is not None:
            self._color()

    def _color(self) -> None:
        chosen, layer = self.current, self.layer()
        if chosen is not None and layer is not None:
            frame = chosen.table.frame()
            layer.colormap = structure_colormap(frame, self.hidden, self._marked)

    def _mark(self, ids: frozenset[int]) -> None:
        """Let structures stand out for a moment."""
        self._marked = ids
        self._color()
        self._marking.start()

    def _unmark(self) -> None:
        self._marked = frozenset()
        self._color()

    # Going there

    def when_ready(self, call: Callable[[], None]) -> None:
        """Call when the chosen set has been read; at once if it has been."""
        if self.current is not None:
            call()
        else:
            self._waiting.append(call)
            self.load()

    def go_to(self, structure_id: int) -> str:
        """Let the canvas show a structure; return what to say about it.

        In 2D the slice stays where it is if it shows the structure, and else becomes the one that
        shows most of it; there the structure is white for a moment. (In 3D a change of colours may
        take a slow computer seconds.)
        """
        viewer, chosen = self._session.viewer, self.current
        if viewer is None or chosen is None:
            return ""
        structure = chosen.table[structure_id]
        place = chosen.places.of(chosen.table.within_id(structure_id))
        if place is None:
            return _nowhere(chosen, structure.acronym)
        title = structure.title
        first, end = place.slices
        if viewer.dims.ndisplay == 3:
            y0, y1, x0, x1 = chosen.world_box(place.box)
            low, high = chosen.world_z(first - 0.5), chosen.world_z(end - 0.5)
            go_to(viewer, (low, y0, x0), (high, y1, x1))
            slices = f"slice {first}" if end - first == 1 else f"slices {first} to {end - 1}"
            return f"{title}: {slices}."
        z = self._slice_of(structure_id)
        y0, y1, x0, x1 = chosen.world_box(place.boxes[z])
        at = chosen.world_z(z)
        go_to(viewer, (at, y0, x0), (at, y1, x1))
        self._mark(chosen.table.within_id(structure_id))
        count = len(place.areas)
        return f"{title}: slice {z}, {'the only one' if count == 1 else f'one of {count}'}."

    def _slice_of(self, structure_id: int) -> int:
        """Return the slice in view if it shows the structure, else the one that shows most."""
        viewer, chosen = self._session.viewer, self.current
        assert viewer is not None
        assert chosen is not None
        place = chosen.places.of(chosen.table.within_id(structure_id))
        assert place is not None
        axis = viewer.dims.ndim - 3
        here = round((viewer.dims.point[axis] - chosen.origin[0]) / chosen.scale[0])
        return here if here in place.areas else place.largest

    def to_roi(self, structure_id: int) -> str:
        """Make the box around a structure, on one slice, the session's ROI; return what to say."""
        viewer, chosen = self._session.viewer, self.current
        if viewer is None or chosen is None:
            return ""
        structure = chosen.table[structure_id]
        place = chosen.places.of(chosen.table.within_id(structure_id))
        if place is None:
            return _nowhere(chosen, structure.acronym)
        if chosen.brain is None or chosen.brain != self._session.brain_path:
            return (
                f"{chosen.title} lies in its own space: lay it over the slices of a brain first, "
                "then its structures can be ROIs."
            )
        if viewer.dims.ndisplay == 3:
            viewer.dims.ndisplay = 2
        z = self._slice_of(structure_id)
        self.go_to(structure_id)
        box = chosen.world_box(place.boxes[z])
        self._session.region.outline(box)
        height, width = box[1] - box[0], box[3] - box[2]
        return (
            f"The ROI is the box around {structure.acronym} on slice {z}, "
            f"{height:.0f} x {width:.0f} µm; the other panels use it now."
        )


def _nowhere(chosen: StructureSet, acronym: str) -> str:
    where = "this brain" if chosen.brain is not None else "this atlas's volume"
    return f"{acronym} has no voxels in {where}: choose a structure that is not grey."

"""The part of the Simulate panel that asks where: a region, structures, or the whole brain."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_teramind.errors import UserError
from napari_teramind.widgets.acronyms import AcronymField
from napari_teramind.widgets.parts import form, micrometers, sentence
from napari_teramind.widgets.region import OUTSIDE
from napari_teramind.widgets.roi import Roi
from napari_teramind.widgets.session import Session
from napari_teramind.widgets.where import Where

REGION, STRUCTURE, BRAIN = "region", "structure", "brain"


class GenerateWhere(QWidget):
    """Where stains are generated.

    Parameters
    ----------
    session
        Whose region and structures.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.choice = QComboBox()
        for name, value in (("Region", REGION), ("Structure", STRUCTURE), ("Whole brain", BRAIN)):
            self.choice.addItem(name, value)
        self.choice.setToolTip("What you see or draw, a structure of the atlas, or everything")
        self.acronyms = AcronymField(session, "Acronym, as VTA")
        self.found = sentence()
        self.where = Where(session, shapes=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = form()
        row.addWidget(QLabel("Where"), 0, 0)
        row.addWidget(self.choice, 0, 1)
        row.addWidget(self.acronyms, 1, 1)
        row.addWidget(self.found, 2, 1)
        layout.addLayout(row)
        layout.addWidget(self.where)
        self.choice.currentIndexChanged.connect(self._on_choice)
        self.acronyms.textChanged.connect(self.refresh)
        session.region.drawing.connect(self.choose_region)
        session.region.changed.connect(self.refresh)
        session.structures.changed.connect(self.refresh)
        self.refresh()

    @property
    def kind(self) -> str:
        """`REGION`, `STRUCTURE` or `BRAIN`."""
        return str(self.choice.currentData())

    def choose_region(self) -> None:
        """Generate what is seen or drawn, not a structure or everything."""
        self.choice.setCurrentIndex(self.choice.findData(REGION))

    def _on_choice(self, _: int) -> None:
        if self.kind == STRUCTURE:
            self._session.structures.load()
        self.refresh()

    def values(self) -> dict[str, Any]:
        """Fields of a `SimulateSpec`; ``roi`` is None where `problem` says why."""
        brain, region = self._session.brain, self._session.region
        if brain is None:
            return {"roi": None, "slices": region.slices}
        if self.kind == BRAIN:
            depth, height, width = brain.shape
            return {"roi": (0, height, 0, width), "slices": (0, depth)}
        if self.kind == STRUCTURE:
            return {
                "roi": self._structure_roi(),
                "slices": region.slices,
                "structures": tuple(self.acronyms.typed()),
            }
        return {"roi": region.roi(), "slices": region.slices, "outline": region.outline_px()}

    def problem(self) -> str:
        """Why nothing can be generated there; "" if it can."""
        if self.kind == BRAIN:
            return ""
        if self.kind == REGION:
            region = self._session.region
            if region.roi() is None and region.is_drawn:
                return OUTSIDE
            if region.roi() is None:
                return "Choose where to generate: the current view, or a shape that you draw."
            return ""
        typed = self.acronyms.typed()
        if not typed:
            return "Name a structure by its acronym, as VTA, or several with commas."
        table = self.acronyms.table
        if table is None:
            return self._session.structures.problem or "The structures are being read."
        try:
            for acronym in typed:
                table.find(acronym)
        except UserError as error:
            return str(error)
        if self._structure_roi() is None:
            z0, z1 = self._session.region.slices
            which = f"slice {z0}" if z1 - z0 == 1 else f"slices {z0} to {z1 - 1}"
            holding = self._slices_that_hold()
            return (
                f"{', '.join(typed)} is not on {which}; it is on slices {holding}."
                if holding
                else f"{', '.join(typed)} has no voxels in this brain: choose another structure."
            )
        return ""

    def _boxes(self) -> dict[int, tuple[int, int, int, int]]:
        """Boxes of the structures by slice, pixels of their labels."""
        own, typed = self._session.structures.own, self.acronyms.typed()
        if own is None or not typed or not all(own.table.has(acronym) for acronym in typed):
            return {}
        ids = set().union(*(own.table.within(acronym) for acronym in typed))
        place = own.places.of(ids)
        return {} if place is None else dict(place.boxes)

    def _slices_that_hold(self) -> str:
        slices = sorted(self._boxes())
        return f"{slices[0]} to {slices[-1]}" if slices else ""

    def _structure_roi(self) -> Roi | None:
        """Return the box around the structures on the chosen slices, in pixels of the brain."""
        brain, (z0, z1) = self._session.brain, self._session.region.slices
        boxes = [box for z, box in self._boxes().items() if z0 <= z < z1]
        if brain is None or brain.structures is None or not boxes:
            return None
        factor = round(brain.structures.scale(0)[-1] / brain.pixel_size)
        y0, y1, x0, x1 = (list(sides) for sides in zip(*boxes, strict=True))
        _, height, width = brain.shape
        return (
            min(y0) * factor,
            min(height, max(y1) * factor),
            min(x0) * factor,
            min(width, max(x1) * factor),
        )

    def refresh(self, *_: Any) -> None:
        """Show what belongs to the choice."""
        self.where.show_plane(self.kind == REGION)
        self.where.setVisible(self.kind != BRAIN)
        self.acronyms.setVisible(self.kind == STRUCTURE)
        self.found.setText(self._words())
        self.found.setVisible(self.kind == STRUCTURE and bool(self.found.text()))
        self.changed.emit()

    def _words(self) -> str:
        brain, names = self._session.brain, self.acronyms.names()
        if brain is None or self.kind != STRUCTURE:
            return ""
        roi = self._structure_roi()
        if roi is None:
            return names
        y0, y1, x0, x1 = roi
        height, width = (micrometers(side, brain.pixel_size) for side in (y1 - y0, x1 - x0))
        return f"{names}: within {height} x {width}"

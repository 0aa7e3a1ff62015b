"""The Brain panel: what the brain holds, and its genes to look at."""

from __future__ import annotations

import difflib
import html
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QLabel,
    QLineEdit,
    QPushButton,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from napari_teramind.brain import BrainStore
from napari_teramind.brain.foundation import is_there
from napari_teramind.errors import UserError
from napari_teramind.plugin.layers import tag_of
from napari_teramind.widgets.compare import Compare
from napari_teramind.widgets.contents import Contents
from napari_teramind.widgets.empty import NoBrain
from napari_teramind.widgets.field import Field3D
from napari_teramind.widgets.gene_list import GeneList
from napari_teramind.widgets.open_anything import OpenAnything
from napari_teramind.widgets.opening import show_gene
from napari_teramind.widgets.panel import Panel
from napari_teramind.widgets.parts import (
    MARGIN,
    PathChoice,
    Scrolling,
    form,
    italic,
    micrometers,
    sentence,
)
from napari_teramind.widgets.what import gone

if TYPE_CHECKING:
    import napari


class BrainWidget(Panel):
    """Tells what a brain holds, and shows its genes as layers.

    Parameters
    ----------
    napari_viewer
        The viewer; panels of one viewer share one session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.brain_choice = PathChoice()
        self.facts = sentence()
        self.gene = QLineEdit()
        self.gene.setPlaceholderText("Search genes")
        self.gene.setToolTip("A part of a symbol; Enter shows the gene")
        self.gene.setClearButtonEnabled(True)
        self.show_button = QPushButton("Show")
        self.show_button.setToolTip("Show the gene as a layer of its own")
        self.answer = sentence()
        self.answer.setTextFormat(Qt.TextFormat.RichText)  # gene symbols are in italics
        self.genes = GeneList(self.session)
        self.contents = Contents(self.session)
        self.compare = Compare(self.session)
        self.field = Field3D(self.session)
        self.opening = OpenAnything(self.session)
        self.empty = NoBrain(self.session)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self.empty)
        self._pages.addWidget(Scrolling(self._lay_out()))
        self.brain_choice.chosen.connect(self.session.choose_brain)
        self.gene.returnPressed.connect(self.show_gene)
        self.show_button.clicked.connect(self.show_gene)
        self.gene.textChanged.connect(self.genes.search)
        self.genes.ticked.connect(self._on_ticked)
        self.session.brains_changed.connect(self.refresh)
        self.refresh()

    def _lay_out(self) -> QWidget:
        content = QWidget()
        outer = QVBoxLayout(content)
        outer.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        outer.setAlignment(Qt.AlignmentFlag.AlignTop)
        layout = form()
        layout.addWidget(QLabel("Brain"), 0, 0)
        layout.addWidget(self.brain_choice, 0, 1, 1, 2)
        layout.addWidget(self.facts, 1, 0, 1, 3)
        layout.addWidget(QLabel("Gene"), 2, 0)
        layout.addWidget(self.gene, 2, 1)
        layout.addWidget(self.show_button, 2, 2)
        outer.addLayout(layout)
        outer.addWidget(self.genes)
        outer.addWidget(self.answer)
        outer.addWidget(QLabel("In this brain"))
        outer.addWidget(self.contents)
        outer.addWidget(self.compare)
        outer.addWidget(self.field)
        outer.addWidget(self.opening)
        return content

    def refresh(self) -> None:
        """Show the session as it is now."""
        brain = self.session.brain
        self._pages.setCurrentIndex(0 if brain is None else 1)
        if brain is None:
            return
        self.brain_choice.show_paths(self.session.brains(), self.session.brain_path)
        self.facts.setText(describe(brain))
        self.genes.refresh()
        self.contents.refresh()

    def show_gene(self) -> None:
        """Show the gene that was typed, or say which one might be meant."""
        typed, brain = self.gene.text().strip(), self.session.brain
        if brain is None or not typed:
            return
        symbols = {gene.casefold(): gene for gene in brain.gene_names}
        left = self.genes.genes()
        gene = symbols.get(typed.casefold()) or (left[0] if len(left) == 1 else None)
        if gene is None:
            self.answer.setText(_not_found(typed, symbols))
            return
        if self._show(gene):
            self.gene.clear()

    def _on_ticked(self, gene: str, shown: bool) -> None:
        if shown:
            self._show(gene)
            return
        for layer in self.session.layers("gene"):
            if tag_of(layer)["name"] == gene:
                layer.visible = False

    def _show(self, gene: str) -> bool:
        """Show a gene; return whether that was possible."""
        brain = self.session.brain
        if brain is None:
            return False
        try:
            # Zarr takes what is not there for zeros: a brain that has gone would look empty.
            if not is_there(brain.path):
                raise UserError(gone(brain.path))
            show_gene(self.session, gene)
        except (UserError, OSError) as error:
            self.answer.setText("")
            show_error(str(error))
            return False
        self.answer.setText(f"{italic(gene)} is shown; its colour is in the layer controls.")
        return True


def describe(brain: BrainStore) -> str:
    """Return in a few words what a brain holds."""
    depth, height, width = brain.shape
    side = f"{micrometers(height, brain.pixel_size)} x {micrometers(width, brain.pixel_size)}"
    has = [f"stains {', '.join(brain.stain_names)}", f"{len(brain.gene_names)} genes"]
    if brain.structures is not None:
        has.append("structures")
    return f"{depth} slice{'s' if depth > 1 else ''} of {side}; {', '.join(has)}."


def _not_found(typed: str, symbols: dict[str, str]) -> str:
    near = difflib.get_close_matches(typed.casefold(), symbols, n=3, cutoff=0.5)
    meant = " or ".join(italic(symbols[name]) for name in near)
    return f"This brain has no gene {html.escape(typed)}" + (
        f"; did you mean {meant}?" if meant else "."
    )

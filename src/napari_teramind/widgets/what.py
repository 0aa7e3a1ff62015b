"""The part of a panel that asks what: which brain, which checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QToolButton, QWidget

from napari_teramind.brain.foundation import is_there, is_zip
from napari_teramind.widgets.checkpoints import Facts
from napari_teramind.widgets.parts import PathChoice, form, sentence
from napari_teramind.widgets.published import show_dialog
from napari_teramind.widgets.session import Session

CHECKPOINT_FILES = "Checkpoints (*.safetensors *.ckpt)"
GET_PUBLISHED = "Get published networks ..."
GENE_FILES = "Gene lists (*.csv *.txt)"


def gone(path: str) -> str:
    """Return what to say of a brain whose folder was moved or deleted under the viewer."""
    return f"The brain at {path} is no longer there; open it again."


class What(QWidget):
    """Shows the session's brain and checkpoint and lets the user change them."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.brain_choice = PathChoice()
        self.checkpoint_choice = PathChoice(GET_PUBLISHED)
        self.browse_button = QToolButton()
        self.browse_button.setText("...")
        self.browse_button.setToolTip("Choose a checkpoint file (.safetensors or .ckpt)")
        self.genes_label = QLabel("Gene list")
        self.genes_choice = PathChoice(
            tip="The genes that the checkpoint was trained with: the brain's, in their order there"
        )
        self.genes_choice.setPlaceholderText("the brain's own")
        self.genes_button = QToolButton()
        self.genes_button.setText("...")
        self.genes_button.setToolTip(
            "Choose the list of genes that the checkpoint was trained with"
        )
        self.hint = sentence()
        self._lay_out()
        self.brain_choice.chosen.connect(session.choose_brain)
        self.checkpoint_choice.chosen.connect(session.checkpoints.choose)
        self.checkpoint_choice.asked_for_more.connect(self._get_published)
        self.browse_button.clicked.connect(self._browse_checkpoint)
        self.genes_button.clicked.connect(self._browse_genes)
        session.brains_changed.connect(self.refresh)
        session.checkpoints.changed.connect(self.refresh)
        self.refresh()

    def _lay_out(self) -> None:
        layout = form()
        self.setLayout(layout)
        layout.addWidget(QLabel("Brain"), 0, 0)
        layout.addWidget(self.brain_choice, 0, 1, 1, 2)
        layout.addWidget(QLabel("Checkpoint"), 1, 0)
        layout.addWidget(self.checkpoint_choice, 1, 1)
        layout.addWidget(self.browse_button, 1, 2)
        layout.addWidget(self.genes_label, 2, 0)
        layout.addWidget(self.genes_choice, 2, 1)
        layout.addWidget(self.genes_button, 2, 2)
        layout.addWidget(self.hint, 3, 0, 1, 3)

    def problem(self) -> str:
        """Why nothing can be generated from these; "" if it can, or if that is not known yet."""
        brain, checkpoints = self._session.brain, self._session.checkpoints
        if brain is None:
            return "Open a brain first."
        if not is_there(brain.path):
            return gone(brain.path)
        if "://" in brain.path or is_zip(brain.path):
            return (
                f"Results are kept in the brain, and {brain.path} cannot be written into: copy it "
                "to a folder of yours and open the copy."
            )
        if not os.access(brain.path, os.W_OK):
            return (
                f"Results are kept in the brain, and {brain.path} cannot be written to: copy it to "
                "a folder of yours and open the copy."
            )
        if checkpoints.current is None:
            return "Choose a checkpoint first."
        facts = checkpoints.facts()
        if isinstance(facts, str):
            return facts
        return "" if facts is None else facts.misfit(brain, checkpoints.gene_list is not None)

    def refresh(self) -> None:
        """Show the session as it is now."""
        session, checkpoints = self._session, self._session.checkpoints
        self.brain_choice.show_paths(session.brains(), session.brain_path)
        self.checkpoint_choice.show_paths(checkpoints.paths(), checkpoints.current)
        facts = checkpoints.facts()
        unnamed = isinstance(facts, Facts) and facts.genes is None
        for widget in (self.genes_label, self.genes_choice, self.genes_button):
            widget.setVisible(unnamed)
        gene_list = checkpoints.gene_list
        self.genes_choice.show_paths([gene_list] if gene_list else [], gene_list)
        words = self._words(facts)
        self.hint.setText(words)
        self.hint.setVisible(bool(words))
        self.changed.emit()

    def _words(self, facts: Facts | str | None) -> str:
        problem = self.problem()
        if self._session.checkpoints.current is None:
            return (
                "No checkpoint yet. Choose one with the button <b>...</b>, get published ones from "
                "the list, or train one on this brain: <code>teramind train</code>."
            )
        if facts is None and not problem:
            return "Looking at the checkpoint ..."
        return problem

    def _get_published(self) -> None:
        self.refresh()  # shows again what is chosen
        show_dialog(self._session, self)

    def _browse_checkpoint(self) -> None:
        path = self._ask("Choose a checkpoint", CHECKPOINT_FILES)
        if path:
            self._session.checkpoints.choose(path)

    def _browse_genes(self) -> None:
        path = self._ask("Choose a gene list", GENE_FILES)
        if path:
            self._session.checkpoints.choose_gene_list(path)

    def _ask(self, title: str, kinds: str) -> str:
        current = self._session.checkpoints.current
        start = str(Path(current).parent) if current else ""
        return QFileDialog.getOpenFileName(self, title, start, kinds)[0]

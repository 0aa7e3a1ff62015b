"""The part of the Attention panel that shows results: layers, structures, trend, exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QSignalBlocker, QTimer
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_teramind.attention import StoredMaps, open_maps
from napari_teramind.attention.pairs import pair_name
from napari_teramind.attention.statistics import ranking
from napari_teramind.errors import UserError
from napari_teramind.plugin.attention import View, views
from napari_teramind.plugin.layers import brain_key
from napari_teramind.widgets.attention_export import Exporting, ask_where, export_button
from napari_teramind.widgets.attention_layers import AttentionLayers
from napari_teramind.widgets.attention_plots import TrendPlot
from napari_teramind.widgets.attention_statistics import StatisticsJobs
from napari_teramind.widgets.attention_table import RankingTable, heading
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.parts import form, sentence, short
from napari_teramind.widgets.session import Session


class AttentionResults(QWidget):
    """Shows the results that a brain has, one at a time."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.layers = AttentionLayers(session)
        self.statistics = StatisticsJobs(self)
        self.exporting = Exporting(self)
        self.maps: StoredMaps | None = None
        self._brain: str | None = None
        self.result_choice = _narrow(QComboBox())
        self.shown_choice = _narrow(QComboBox())
        self.shown_choice.setToolTip("What the layer and the table show")
        self.map_choice = _narrow(QComboBox())
        self.map_choice.setToolTip("Which slices the network sees together")
        self.show_button = QPushButton("Show in 3D")
        self.show_button.setToolTip("Show the result as a volume over the stains and structures")
        self.relief_button = QPushButton("Relief of this slice")
        self.relief_button.setCheckable(True)
        self.relief_button.setToolTip(
            "Attention as hills: previous-current above the slice, current-next below"
        )
        self.export_button = export_button(self, self._export)
        self.heading = sentence()
        self.table = RankingTable()
        self.words = sentence(plain=True)
        self.trend = TrendPlot(session.viewer)
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        row = form()
        for i, (name, field) in enumerate(
            (("Result", self.result_choice), ("Show", self.shown_choice), ("Map", self.map_choice))
        ):
            row.addWidget(QLabel(name), i, 0)
            row.addWidget(field, i, 1)
        buttons = QGridLayout()
        buttons.addWidget(self.show_button, 0, 0)
        buttons.addWidget(self.relief_button, 0, 1)
        buttons.addWidget(self.export_button, 1, 0, 1, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addLayout(buttons)
        for widget in (self.words, self.heading, self.table, self.trend):
            layout.addWidget(widget)
        layout.addStretch(1)  # takes what the sentences would take otherwise

    def _connect(self) -> None:
        self.result_choice.activated.connect(self._on_result)
        self.shown_choice.activated.connect(self._on_view)
        self.map_choice.activated.connect(self._on_view)
        self.show_button.clicked.connect(lambda: self.show(turn=True))
        self.relief_button.clicked.connect(self._on_relief)
        self.table.asked.connect(self._go_to)
        self.layers.changed.connect(self._refresh_relief)
        self.statistics.changed.connect(self._refresh_statistics)
        self.exporting.changed.connect(self._refresh_words)
        self._session.structures.changed.connect(self._ask)
        # What is still being read when the window is closed has nowhere to be shown.
        self.destroyed.connect(self.layers.deleteLater)

    # What the user does

    def view(self) -> View | None:
        """What is chosen to be looked at."""
        view = self.shown_choice.currentData()
        name = self.map_choice.currentData()
        return None if view is None or name is None else View(view.pair, name, view.shown)

    def take(self, name: str) -> None:
        """Show a result that has just been computed, in 3D."""
        brain = self._session.brain
        if brain is None:
            return
        self.layers.remove(brain_key(brain.path), name)
        self.statistics.drop(brain.path, name)
        self.exporting.forget()

        def taken(found: tuple[list[str], StoredMaps] | str) -> None:
            if isinstance(found, str):
                show_error(found)
            elif self._session.brain is brain:
                self._offer(found[0], name)
                self._show_maps(found[1])
                self.show(turn=True)

        Beside(self, lambda: (list(brain.attention), open_maps(brain, name)), then=taken)

    def show(self, turn: bool = False) -> None:
        """Show the chosen view as a layer."""
        brain, view = self._session.brain, self.view()
        if brain is not None and self.maps is not None and view is not None:
            self._session.structures.load()
            self.layers.show(brain, self.maps, view, turn)
            self._ask()

    def _on_result(self, _: int) -> None:
        self.exporting.forget()
        self._open(self.result_choice.currentData())
        self.show()

    def _on_view(self, _: int) -> None:
        self.exporting.forget()
        self._refresh_statistics()
        self.show()

    def _on_relief(self, wanted: bool) -> None:
        brain, view = self._session.brain, self.view()
        if not wanted:
            self.layers.hide_relief()
        elif brain is not None and self.maps is not None and view is not None:
            self.layers.show_relief(brain, self.maps, view)

    def _go_to(self, structure_id: int) -> None:
        structures = self._session.structures
        self.exporting.forget()

        def go() -> None:
            self.words.setText(structures.go_to(structure_id))
            self.words.setVisible(True)

        self.layers.hide_relief()
        structures.when_ready(go)

    def _export(self, ending: str) -> None:
        if self.maps is not None:
            path = ask_where(self, self.maps.name, ending)
            if path is not None:
                self.export(path)

    def export(self, path: Path) -> None:
        """Write the result to a file; its ending says the form."""
        brain, view = self._session.brain, self.view()
        if brain is None or self.maps is None or view is None or self.exporting.busy:
            return
        try:
            self.exporting.start(brain.path, self.maps.name, view, path)
        except UserError as error:
            show_error(str(error))

    # What follows

    def refresh(self) -> None:
        """Show what the session's brain has; what is shown of it stays."""
        brain = self._session.brain
        path = None if brain is None else brain.path
        if path == self._brain:
            return
        self._brain = path
        self.maps = None
        self.statistics.forget()
        self.exporting.forget()
        names = list(brain.attention) if brain is not None else []
        self._offer(names, None)
        if names:
            self._open(names[0])
        self._refresh_statistics()

    def _offer(self, names: list[str], current: str | None) -> None:
        self.result_choice.clear()
        for name in names:
            self.result_choice.addItem(short(name), name)
        if current in names:
            self.result_choice.setCurrentIndex(names.index(current))
        self.setVisible(bool(names))

    def _open(self, name: str) -> None:
        brain = self._session.brain
        assert brain is not None
        try:
            maps = open_maps(brain, name)
        except UserError as error:
            self.maps = None
            show_error(str(error))
            return
        self._show_maps(maps)

    def _show_maps(self, maps: StoredMaps) -> None:
        self.maps = maps
        network = str(maps.image.provenance.get("checkpoint_sha256", "?"))[:12]
        self.result_choice.setToolTip(f"{maps.image.path}\nnetwork {network}")
        self._offer_views(views(maps))
        self._refresh_statistics()

    def _offer_views(self, known: list[View]) -> None:
        with QSignalBlocker(self.shown_choice), QSignalBlocker(self.map_choice):
            before = self.map_choice.currentData()
            self.shown_choice.clear()
            for view in dict.fromkeys(View(v.pair, "ensemble", v.shown) for v in known):
                self.shown_choice.addItem(view.title, view)
            self.map_choice.clear()
            # The ensemble first: it sees all slices.
            names = sorted({v.map for v in known}, key=lambda name: name != "ensemble")
            for name in names:
                self.map_choice.addItem(name[0].upper() + name[1:], name)
            if before in names:
                self.map_choice.setCurrentIndex(names.index(before))

    def _ask(self) -> None:
        """Ask for the statistics of the result that is shown, once it has been shown."""
        view, brain = self.view(), self._session.brain
        shown = any(self._session.layers("attention"))
        if view is None or brain is None or self.maps is None or not shown:
            return
        chosen = self._session.structures.current
        self.statistics.ask(brain_key(brain.path), self.maps.name, view.pair, chosen)

    def _refresh_relief(self) -> None:
        with QSignalBlocker(self.relief_button):
            self.relief_button.setChecked(self.layers.has_relief)
        QTimer.singleShot(0, self._ask)  # starts a process; the window may draw first

    def _refresh_statistics(self) -> None:
        found, view = self.statistics.current, self.view()
        known = found is not None and view is not None
        self.heading.setVisible(known)
        self.table.setVisible(known)
        self.trend.show_trend(None)
        if found is not None and view is not None:
            self.heading.setText(heading(view.shown, view.pair))
            self.table.model_.show_ranking(self._ranking(view))
            if view.shown == "attention":
                self.trend.show_trend(found.trends.get(view.map))
        self._refresh_words()

    def _ranking(self, view: View) -> Any:
        found = self.statistics.current
        assert found is not None
        single = view.shown in ("a", "b")
        of = view.pair[view.shown == "b"] if single else pair_name(view.pair)
        quantity = "expression" if single else view.shown
        try:
            return ranking(found.table, quantity, of, view.map)
        except UserError as error:
            show_error(str(error))
            return None

    def _refresh_words(self) -> None:
        words = self.exporting.words or self.statistics.words
        self.words.setText(words)
        self.words.setVisible(bool(words))
        self.export_button.setEnabled(not self.exporting.busy)

    def abandon(self) -> None:
        """End what is computed for showing."""
        self.statistics.forget()
        self.exporting.abandon()


def _narrow(choice: QComboBox) -> QComboBox:
    policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    choice.setSizeAdjustPolicy(policy)
    choice.setMinimumContentsLength(8)
    return choice

"""The part of a panel that asks how: seed, steps and other settings with good defaults."""

from __future__ import annotations

import secrets
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QSpinBox, QToolButton, QWidget

from napari_teramind.widgets.parts import form, sentence

STEPS = 15
HALOS: tuple[tuple[str, Any, str], ...] = (
    ("Exact", "exact", "Exact: equals the same region of the whole brain generated at once."),
    ("Near (4 patches)", 4, "Near: less work; the margins differ from the whole brain a little."),
    ("None", 0, "None: least work; the region is generated as if the brain ended around it."),
)


class How(QWidget):
    """Settings of a generation, folded away by default."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setToolTip("Same seed, same image; another seed is another draw")
        self.dice = QToolButton()
        self.dice.setText("New")
        self.dice.setToolTip("Take a seed at random")
        self.steps = QSpinBox()
        self.steps.setRange(1, 1000)
        self.steps.setValue(STEPS)
        self.steps.setToolTip("Diffusion steps: time grows with them")
        self.steps_hint = sentence()
        self.halo = QComboBox()
        for name, value, _ in HALOS:
            self.halo.addItem(name, value)
        self.halo.setToolTip("How far around the region the computation reaches")
        self.halo_hint = sentence()
        self._lay_out()
        self.dice.clicked.connect(self._roll)
        self.seed.valueChanged.connect(self.changed)
        self.steps.valueChanged.connect(self._refresh)
        self.halo.currentIndexChanged.connect(self._refresh)
        self._refresh()

    def _lay_out(self) -> None:
        layout = form()
        self.setLayout(layout)
        layout.addWidget(QLabel("Seed"), 0, 0)
        layout.addWidget(self.seed, 0, 1)
        layout.addWidget(self.dice, 0, 2)
        layout.addWidget(QLabel("Steps"), 1, 0)
        layout.addWidget(self.steps, 1, 1, 1, 2)
        layout.addWidget(self.steps_hint, 2, 1, 1, 2)
        layout.addWidget(QLabel("Surround"), 3, 0)
        layout.addWidget(self.halo, 3, 1, 1, 2)
        layout.addWidget(self.halo_hint, 4, 1, 1, 2)

    def _roll(self) -> None:
        self.seed.setValue(secrets.randbelow(2**31))

    def values(self) -> dict[str, Any]:
        """Fields of a `SimulateSpec`."""
        return {
            "seed": self.seed.value(),
            "steps": self.steps.value(),
            "halo": self.halo.currentData(),
        }

    def _refresh(self, *_: Any) -> None:
        self.steps_hint.setText(_steps_words(self.steps.value()))
        self.halo_hint.setText(HALOS[self.halo.currentIndex()][2])
        self.changed.emit()


def _steps_words(steps: int) -> str:
    if steps == STEPS:
        return f"{STEPS} steps: as published."
    times = steps / STEPS
    if times > 1:
        return f"{times:.2g} times the work of the published {STEPS}."
    return f"{times:.0%} of the work of the published {STEPS}."

"""The part of a panel that asks how: seed, steps and other settings with good defaults."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import subprocess
import sys
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QSpinBox, QToolButton, QWidget

from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.parts import form, sentence
from napari_teramind.widgets.preferences import preferences, when_preferred
from napari_teramind.widgets.worker_state import WorkerState

PUBLISHED_STEPS = 15
QUICK_PATCHES = 1
"""Surround of the quick kind: see docs/halo.md for how far it is from exact."""
HALOS: tuple[tuple[str, Any, str], ...] = (
    (
        "Quick",
        QUICK_PATCHES,
        "Quick: one patch around the region; its margin differs a little from the whole brain's.",
    ),
    ("Exact", "exact", "Exact: equals the same region of the whole brain generated at once."),
)
SAMPLERS = (("DDIM, as published", "ddim"), ("DPM-Solver++", "dpm++2m"))


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
        self.steps.setToolTip("Diffusion steps: time grows with them")
        self.steps_hint = sentence()
        self.sampler = QComboBox()
        for name, value in SAMPLERS:
            self.sampler.addItem(name, value)
        self.sampler.setToolTip("How a step is taken")
        self.replicates = QSpinBox()
        self.replicates.setRange(1, 100)
        self.replicates.setToolTip(
            "Samples with seeds that follow each other; of several, you see their mean, and where "
            "they differ"
        )
        self.device = QComboBox()
        self.device.setToolTip("What computes")
        self._offer(devices())
        Beside(self, cuda_devices, then=self._offer)
        self.worker = WorkerState()
        self.halo = QComboBox()
        for name, value, _ in HALOS:
            self.halo.addItem(name, value)
        self.halo.setToolTip("How far around the region the computation reaches")
        self.halo_hint = sentence()
        self._lay_out()
        self._prefer()
        forget = when_preferred("generate", self._prefer)
        self.destroyed.connect(lambda: forget())
        self.dice.clicked.connect(self._roll)
        self.seed.valueChanged.connect(self.changed)
        self.steps.valueChanged.connect(self._refresh)
        self.halo.currentIndexChanged.connect(self._refresh)
        self.sampler.currentIndexChanged.connect(self.changed)
        self.device.currentIndexChanged.connect(self.changed)
        self.replicates.valueChanged.connect(self.changed)
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
        layout.addWidget(QLabel("Sampler"), 5, 0)
        layout.addWidget(self.sampler, 5, 1, 1, 2)
        layout.addWidget(QLabel("Samples"), 6, 0)
        layout.addWidget(self.replicates, 6, 1, 1, 2)
        layout.addWidget(QLabel("Device"), 7, 0)
        layout.addWidget(self.device, 7, 1, 1, 2)
        layout.addWidget(self.worker, 8, 1, 1, 2)

    def _offer(self, devices: list[tuple[str, str]]) -> None:
        for name, value in devices:
            self.device.addItem(name, value)

    def _prefer(self) -> None:
        """Begin with, or go over to, what the user prefers."""
        preferred = preferences().generate
        self.steps.setValue(preferred.steps)
        self.sampler.setCurrentIndex(self.sampler.findData(preferred.sampler))
        self.halo.setCurrentIndex(self.halo.findText(preferred.surround.capitalize()))

    def _roll(self) -> None:
        self.seed.setValue(secrets.randbelow(2**31))

    def values(self) -> dict[str, Any]:
        """Fields of a `SimulateSpec`."""
        return {
            "seed": self.seed.value(),
            "steps": self.steps.value(),
            "halo": self.halo.currentData(),
            "sampler": self.sampler.currentData(),
            "replicates": self.replicates.value(),
            "device": self.device.currentData(),
        }

    def _refresh(self, *_: Any) -> None:
        self.steps_hint.setText(_steps_words(self.steps.value()))
        self.halo_hint.setText(HALOS[self.halo.currentIndex()][2])
        self.changed.emit()


def _steps_words(steps: int) -> str:
    published = PUBLISHED_STEPS
    if steps == published:
        return f"{published} steps: as published."
    times = steps / published
    if times > 1:
        return f"{times:.2g} times the work of the published {published}."
    return f"{times:.0%} of the work of the published {published}."


def devices() -> list[tuple[str, str]]:
    """Return the devices that are known without asking, as shown and as named."""
    found = [("Automatic", "auto"), (f"CPU ({os.cpu_count()} cores)", "cpu")]
    if sys.platform == "darwin" and platform.machine() == "arm64":
        found.append(("Apple GPU", "mps"))
    return found


def cuda_devices() -> list[tuple[str, str]]:
    """Return NVIDIA GPUs, as shown and as named, by the driver's own tool; it may take seconds."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.free", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rpartition(",") for line in done.stdout.splitlines()]
    return [
        (f"{name.strip()}, {free.strip()} free", f"cuda:{index}")
        for index, (name, _, free) in enumerate(rows)
    ]

"""The part of the Train panel that asks how: preset, device, steps, and settings folded away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_teramind.training.presets import PRESETS
from napari_teramind.widgets.parts import form, sentence

CUSTOM = "custom"
DEVICES = (
    ("Automatic", "auto"),
    ("CPU", "cpu"),
    ("NVIDIA GPU (CUDA)", "cuda"),
    ("Apple GPU (MPS)", "mps"),
)
KEPT_ROOM = 90
"""Least width of a field in px: napari's style asks for more than a panel has."""


class TrainHow(QWidget):
    """Preset, device and number of steps."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.preset = QComboBox()
        self.preset.setToolTip("Size of the network, and how it learns; Advanced has it all")
        for name, preset in PRESETS.items():
            self.preset.addItem(preset.title, name)
        self.preset.addItem("Custom", CUSTOM)
        self.preset_hint = sentence()
        self.base = next(iter(PRESETS))
        """The preset that was chosen last, whose settings one's own begin with."""
        self.device = QComboBox()
        for title, name in DEVICES:
            self.device.addItem(title, name)
        self.device.setToolTip("Automatic: a GPU if there is one, else the CPU")
        self.steps = QSpinBox()
        self.steps.setRange(1, 10_000_000)
        self.steps.setGroupSeparatorShown(True)
        self.steps.setToolTip("Optimiser steps; more can be added later, when resuming")
        layout = form()
        self.setLayout(layout)
        layout.addWidget(QLabel("Preset"), 0, 0)
        layout.addWidget(self.preset, 0, 1)
        layout.addWidget(self.preset_hint, 1, 1)
        layout.addWidget(QLabel("Device"), 2, 0)
        layout.addWidget(self.device, 2, 1)
        layout.addWidget(QLabel("Steps"), 3, 0)
        layout.addWidget(self.steps, 3, 1)
        for field in (self.preset, self.device, self.steps):
            field.setMinimumWidth(KEPT_ROOM)
        self.preset.currentIndexChanged.connect(self._on_preset)
        self.device.currentIndexChanged.connect(self.changed)
        self.steps.valueChanged.connect(self.changed)
        self._on_preset()

    def values(self) -> dict[str, Any]:
        """Fields of a `TrainSpec`."""
        return {
            "preset": self.base,
            "device": self.device.currentData(),
            "steps": self.steps.value(),
        }

    @property
    def is_custom(self) -> bool:
        """Whether the user changed a setting of the preset."""
        return bool(self.preset.currentData() == CUSTOM)

    def become_custom(self) -> None:
        """Say that the settings are no preset's any more."""
        if not self.is_custom:
            self.preset.setCurrentIndex(self.preset.findData(CUSTOM))

    def _on_preset(self, *_: Any) -> None:
        preset = PRESETS.get(self.preset.currentData())
        if preset is None:
            title = PRESETS[self.base].title
            self.preset_hint.setText(f'As "{title}", but for what you change under Advanced.')
        else:
            self.base = self.preset.currentData()
            self.preset_hint.setText(preset.text)
            with QSignalBlocker(self.steps):
                self.steps.setValue(preset.settings["steps"])
        self.changed.emit()


class TrainAdvanced(QWidget):
    """Settings that a preset sets, and where weights begin and the run is kept."""

    edited = Signal()
    """The user changed a setting of the preset."""
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("chosen for you")
        self.folder_button = self._dots("Choose another folder for the run")
        self.init = QLineEdit()
        self.init.setPlaceholderText("random weights")
        self.init.setToolTip("A checkpoint to start from; genes are found by name")
        self.init_button = self._dots("Choose a checkpoint to start from")
        self.channels = self._number(2, 512, 2, "Base channels: the network's size")
        self.gene_slices = self._choice((1, 4, 8, 16), "Neighbouring slices of genes seen at once")
        self.patch = self._choice((32, 64, 128), "What the network sees at once, in px")
        self.prediction = QComboBox()
        self.prediction.addItem("velocity", "v")
        self.prediction.addItem("noise, as published", "epsilon")
        self.prediction.setToolTip("What the network predicts: small ones learn the velocity only")
        self.batch = self._number(1, 4096, 1, "Samples that are evaluated together")
        self.accumulate = self._number(1, 1024, 1, "Batches of a step of the optimiser")
        self.rate = QDoubleSpinBox()
        self.rate.setDecimals(6)
        self.rate.setRange(1e-6, 1.0)
        self.rate.setSingleStep(1e-4)
        self.rate.setToolTip("Learning rate of the optimiser")
        self.precision = self._choice(("float32", "bfloat16", "float16"), "float16: as published")
        self.processes = self._number(1, 64, 1, "GPUs, or processes on a CPU, that train together")
        self.seed = self._number(0, 2**31 - 1, 1, "Same seed, same run")
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        layout = form()
        self.setLayout(layout)
        rows: tuple[tuple[str, QWidget, QWidget | None], ...] = (
            ("Folder", self.folder, self.folder_button),
            ("Start from", self.init, self.init_button),
            ("Channels", self.channels, None),
            ("Gene slices", self.gene_slices, None),
            ("Patch", self.patch, None),
            ("Predicts", self.prediction, None),
            ("Batch", self.batch, None),
            ("Batches", self.accumulate, None),
            ("Learning rate", self.rate, None),
            ("Precision", self.precision, None),
            ("Processes", self.processes, None),
            ("Seed", self.seed, None),
        )
        for row, (label, field, button) in enumerate(rows):
            field.setMinimumWidth(KEPT_ROOM)
            layout.addWidget(QLabel(label), row, 0)
            layout.addWidget(field, row, 1, 1, 1 if button else 2)
            if button is not None:
                layout.addWidget(button, row, 2)

    def _connect(self) -> None:
        for spin in (self.channels, self.batch, self.accumulate, self.rate):
            spin.valueChanged.connect(self._on_edited)
        for box in (self.gene_slices, self.patch, self.prediction, self.precision):
            box.currentIndexChanged.connect(self._on_edited)
        for line in (self.folder, self.init):
            line.textChanged.connect(self.changed)
        for spin in (self.processes, self.seed):
            spin.valueChanged.connect(self.changed)
        self.folder_button.clicked.connect(self._browse_folder)
        self.init_button.clicked.connect(self._browse_init)

    def _on_edited(self, *_: Any) -> None:
        self.edited.emit()
        self.changed.emit()

    def show_preset(self, name: str) -> None:
        """Show the settings of a preset; leave the user's own as they are."""
        preset = PRESETS.get(name)
        if preset is None:
            return
        fields = self._fields()
        for key, field in fields.items():
            value = preset.settings.get(key, {"gene_slices": 4, "patch": 64}.get(key))
            with QSignalBlocker(field):
                if isinstance(field, QComboBox):
                    field.setCurrentIndex(field.findData(value))
                else:
                    field.setValue(value)

    def values(self, base: str, is_custom: bool) -> dict[str, Any]:
        """Fields of a `TrainSpec`; what is as in the preset ``base`` is left to it."""
        values: dict[str, Any] = {"seed": self.seed.value(), "processes": self.processes.value()}
        if self.init.text().strip():
            values["init"] = self.init.text().strip()
        if is_custom:
            for key, field in self._fields().items():
                is_choice = isinstance(field, QComboBox)
                values[key] = field.currentData() if is_choice else field.value()
            channels = self.channels.value()
            if channels != PRESETS[base].settings["channels"]:
                # As the presets have them: gene features in proportion, dropout in large ones.
                values["gene_channels"] = tuple(min(n, m * channels) for n, m in _GENE_CHANNELS)
                values["dropout"] = 0.1 if channels >= _LARGE else 0.0
        return values

    def _fields(self) -> dict[str, QWidget]:
        return {
            "channels": self.channels,
            "gene_slices": self.gene_slices,
            "patch": self.patch,
            "prediction": self.prediction,
            "batch": self.batch,
            "accumulate": self.accumulate,
            "learning_rate": self.rate,
            "precision": self.precision,
        }

    def _browse_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a new or empty folder for the run")
        if path:
            self.folder.setText(path)

    def _browse_init(self) -> None:
        kinds = "Checkpoints (*.safetensors *.ckpt)"
        path = QFileDialog.getOpenFileName(self, "Choose a checkpoint to start from", "", kinds)[0]
        if path:
            self.init.setText(str(Path(path)))

    @staticmethod
    def _dots(tip: str) -> QToolButton:
        button = QToolButton()
        button.setText("...")
        button.setToolTip(tip)
        return button

    @staticmethod
    def _number(low: int, high: int, step: int, tip: str) -> QSpinBox:
        spin = QSpinBox()
        spin.setRange(low, high)
        spin.setSingleStep(step)
        spin.setToolTip(tip)
        return spin

    @staticmethod
    def _choice(options: tuple[Any, ...], tip: str) -> QComboBox:
        box = QComboBox()
        for option in options:
            box.addItem(str(option), option)
        box.setToolTip(tip)
        return box


_GENE_CHANNELS = ((128, 4), (64, 2), (32, 1))
_LARGE = 32

"""Sets of training settings that go together; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that go together.

    Attributes
    ----------
    title
        What people call it.
    text
        What it is for, in a sentence.
    settings
        Values of :class:`~napari_teramind.training.TrainConfig`'s fields; the others keep their
        defaults.
    """

    title: str
    text: str
    settings: Mapping[str, Any]


PRESETS: dict[str, Preset] = {
    "packaged": Preset(
        "Packaged size",
        "A small network (8 channels) that predicts the velocity: learns on a CPU in hours.",
        {
            "channels": 8,
            "gene_channels": (32, 16, 8),
            "dropout": 0.0,
            "prediction": "v",
            "batch": 8,
            "accumulate": 1,
            "steps": 20000,
            "optimizer": "muon",
            "learning_rate": 1e-3,
            "warmup": 50,
            "final_lr": 1.0,
            "clip": 1.0,
            "ema": 0.99,
            "focus": (40, 420, 0.6),
            "shifted": 0.0,
            "precision": "float32",
        },
    ),
    # DESIGN section 3: Adam, lr 2e-5, batch 64 as 32 x 2, mixed fp16, clip 1, plain weights.
    "published": Preset(
        "Published size",
        "The network of the paper (64 channels, noise prediction, batch 32 x 2): needs a large "
        "GPU for days.",
        {
            "channels": 64,
            "gene_channels": (128, 64, 32),
            "dropout": 0.1,
            "prediction": "epsilon",
            "batch": 32,
            "accumulate": 2,
            "steps": 200000,
            "optimizer": "adam",
            "learning_rate": 2e-5,
            "warmup": 0,
            "final_lr": 1.0,
            "clip": 1.0,
            "ema": 0.0,
            "precision": "float16",
        },
    ),
}

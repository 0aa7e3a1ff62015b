"""The store: one Zarr group per brain, its images, and the importers that make it.

Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_teramind.brain.layout import Channel, LabelInfo
    from napari_teramind.brain.multiscale import MultiscaleImage
    from napari_teramind.brain.store import BrainStore, open_brain
    from napari_teramind.brain.writer import BrainWriter

__all__ = [
    "BrainStore",
    "BrainWriter",
    "Channel",
    "LabelInfo",
    "MultiscaleImage",
    "open_brain",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "layout": ["Channel", "LabelInfo"],
        "multiscale": ["MultiscaleImage"],
        "store": ["BrainStore", "open_brain"],
        "writer": ["BrainWriter"],
    },
)

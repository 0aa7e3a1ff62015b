"""The store: one Zarr group per brain, its images, and the importers that make it.

Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_HOME = {
    "BrainStore": "store",
    "BrainWriter": "writer",
    "Channel": "layout",
    "LabelInfo": "layout",
    "MultiscaleImage": "multiscale",
    "open_brain": "store",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

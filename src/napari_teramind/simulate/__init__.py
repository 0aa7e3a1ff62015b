"""Generating tissue images: fields of arrays, and regions of brain stores.

Laying out and counting needs no torch; what computes is imported when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_teramind.simulate.request import Layout, Request, lay_out

if TYPE_CHECKING:
    from napari_teramind.simulate.fields import sample
    from napari_teramind.simulate.roi import simulate
    from napari_teramind.simulate.run import simulate_to_store

__all__ = ["Layout", "Request", "lay_out", "sample", "simulate", "simulate_to_store"]

_HOME = {"sample": "fields", "simulate": "roi", "simulate_to_store": "run"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

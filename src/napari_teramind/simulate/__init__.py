"""Generating tissue images: fields of arrays, and regions of brain stores.

Laying out and counting needs no torch; what computes is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from napari_teramind.simulate.request import Layout, Request, lay_out

if TYPE_CHECKING:
    from napari_teramind.simulate.fields import sample
    from napari_teramind.simulate.roi import simulate
    from napari_teramind.simulate.run import simulate_to_store

__all__ = ["Layout", "Request", "lay_out", "sample", "simulate", "simulate_to_store"]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fields": ["sample"],
        "roi": ["simulate"],
        "run": ["simulate_to_store"],
    },
)

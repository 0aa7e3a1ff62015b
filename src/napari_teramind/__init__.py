"""Tera-MIND for napari: tissue images of mouse brains generated from their gene expression.

>>> import napari_teramind as tm
>>> brain = tm.open_brain("brain.zarr")
>>> model = tm.load_model("checkpoint.safetensors")
>>> image = tm.simulate(brain, model, roi=(0, 512, 0, 512), slices=(0, 2))

Importing this package is fast: torch, zarr and pandas are imported by the functions that use them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_teramind.attention.maps import attention
    from napari_teramind.brain import open_brain
    from napari_teramind.model import load_model
    from napari_teramind.simulate.fields import sample
    from napari_teramind.simulate.roi import simulate

__all__ = ["__version__", "attention", "load_model", "open_brain", "sample", "simulate"]

_HOME = {
    "attention": "napari_teramind.attention",
    "load_model": "napari_teramind.model",
    "open_brain": "napari_teramind.brain",
    "sample": "napari_teramind.simulate",
    "simulate": "napari_teramind.simulate",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-teramind")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """The package as a module on which ``simulate`` and ``attention`` are always the functions.

    The import system sets every submodule as an attribute of its package, so that the first import
    of anything in ``napari_teramind.simulate`` would replace the public function of that name by
    the module. A property cannot be replaced; the module stays importable by its full name.
    """

    @property
    def attention(self) -> Any:
        return __getattr__("attention")

    @attention.setter
    def attention(self, module: ModuleType) -> None:
        pass

    @property
    def simulate(self) -> Any:
        return __getattr__("simulate")

    @simulate.setter
    def simulate(self, module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package

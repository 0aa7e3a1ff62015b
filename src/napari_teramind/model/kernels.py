"""Which form the network's loops take in this process: torch's operations, or compiled kernels.

On a CPU, compiled means those of :mod:`~napari_teramind.model.native`, which go over memory once
where torch's operations go over it several times; elsewhere, what torch.compile makes of the
norms. Results agree to rounding, not to the bit: what a run began with it keeps (DESIGN 4.9).
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from napari_teramind.errors import UserError
from napari_teramind.model.config import Kernels, KernelsWish

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_chosen: Kernels | None = None


def find_compiler() -> str | None:
    """Return the C++ compiler that is used: that of the variable CXX, g++ or clang++; or None."""
    named = os.environ.get("CXX")
    for name in (named,) if named else ("g++", "clang++"):
        if found := shutil.which(name):
            return found
    return None


def decide(wish: KernelsWish, device: str) -> Kernels:
    """Return the form that a run takes.

    Parameters
    ----------
    wish
        ``"auto"`` takes compiled kernels where they are known to pay: on a CPU, if there is a C++
        compiler.
    device
        Kind of device.

    Raises
    ------
    UserError
        If compiled kernels are asked for on a CPU and there is no compiler, or it fails.
    """
    from napari_teramind.model import native

    if wish not in get_args(KernelsWish):
        raise UserError(f"The kernels '{wish}' are not known; use 'auto', 'eager' or 'compiled'.")
    if wish == "eager" or device.partition(":")[0] != "cpu":
        return "compiled" if wish == "compiled" else "eager"
    if wish == "auto" and find_compiler() is None:
        return "eager"
    try:
        native.library()
    except UserError as error:
        if wish == "compiled":
            raise
        log.info("Computing without compiled kernels: %s", error)
        return "eager"
    return "compiled"


def choose(kernels: Kernels | None) -> None:
    """Set the form for this process, as torch's own backend flags do; None: ``"auto"``."""
    global _chosen
    _chosen = kernels


@contextmanager
def using(kernels: Kernels | None) -> Iterator[None]:
    """Compute in a form within a ``with`` block; see :func:`choose`."""
    before = _chosen
    choose(kernels)
    try:
        yield
    finally:
        choose(before)


def chosen(device: str = "cpu") -> Kernels:
    """Return this process's form on a kind of device."""
    return _chosen or _automatic(device)


@functools.cache
def _automatic(device: str) -> Kernels:
    return decide("auto", device)


def compiled_for(x: Tensor) -> bool:
    """Tell whether the kernels for CPUs are chosen, and take this tensor."""
    from napari_teramind.model import native

    return native.fits(x) and chosen() == "compiled"


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let torch.compile make a function of tensors, for any sizes, when it is called first."""

    @functools.cache
    def build() -> Callable[..., Any]:
        import torch

        return torch.compile(function, dynamic=True)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return build()(*args)

    return call

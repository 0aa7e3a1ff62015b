"""Which form the norms' arithmetic takes in this process: torch's operations, or compiled kernels.

Compiled, an RMSNorm with its affine map and SiLU is one pass over memory in place of four, and its
gradient one in place of nine. torch.compile needs a C++ compiler for that and some ten seconds, so
that it pays in long runs only. Results agree to rounding, not to the bit: what a run began with it
keeps (DESIGN 4.9).
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

from napari_teramind.errors import UserError
from napari_teramind.model.config import Kernels, KernelsWish

VARIANTS = 32
"""Forms of a kernel that a process may need, at most."""

_chosen: Kernels = "eager"


def find_compiler() -> str | None:
    """Return the C++ compiler that torch.compile would use on a CPU, or None."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual))


def decide(wish: KernelsWish, device: str, worthwhile: bool) -> Kernels:
    """Return the form that a run takes.

    Parameters
    ----------
    wish
        ``"auto"`` compiles where that is known to pay: on a CPU, in long runs, if there is a C++
        compiler.
    device
        Kind of device.
    worthwhile
        Whether the run is long enough for the time that compiling takes.

    Raises
    ------
    UserError
        If compiled kernels are asked for on a CPU and there is no compiler.
    """
    if wish not in get_args(KernelsWish):
        raise UserError(f"The kernels '{wish}' are not known; use 'auto', 'eager' or 'compiled'.")
    is_cpu = device.partition(":")[0] == "cpu"
    if wish == "compiled" and is_cpu and find_compiler() is None:
        raise UserError(
            "Compiled kernels need a C++ compiler and none was found; install g++, name another "
            "in the variable CXX, or choose eager kernels."
        )
    if wish == "auto":
        return "compiled" if is_cpu and worthwhile and find_compiler() else "eager"
    return wish


def choose(kernels: Kernels) -> None:
    """Set the form for this process, as torch's own backend flags do."""
    global _chosen
    _chosen = kernels


@contextmanager
def using(kernels: Kernels) -> Iterator[None]:
    """Compute in a form within a ``with`` block."""
    before = chosen()
    choose(kernels)
    try:
        yield
    finally:
        choose(before)


def chosen() -> Kernels:
    """Return this process's form."""
    return _chosen


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of tensors for any sizes, when it is called first."""

    @functools.cache
    def build() -> Callable[..., Any]:
        import torch._dynamo

        # A kernel for every type, for batches of one and of more, with and without gradients.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, VARIANTS)
        # A handful of small kernels: a pool of compiler processes costs more than it saves.
        return torch.compile(function, dynamic=True, fullgraph=True, options={"compile_threads": 1})

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return build()(*args)

    return call

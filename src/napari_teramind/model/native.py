"""Kernels in C++ for CPUs: compiled on this machine when first needed, and kept.

``kernels.cpp`` is compiled for the very processor it runs on, in about a second, into the user's
cache folder; the next process finds it there. It shares torch's OpenMP threads.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_teramind.errors import UserError
from napari_teramind.model.kernels import find_compiler

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno",
    "-fno-trapping-math", "-fno-signed-zeros", "-ffinite-math-only", "-fopenmp", "-shared", "-fPIC",
)  # fmt: skip
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

LEAST_CHANNELS = 16
"""Channels from which on kernels pay: rows of fewer leave most of a vector empty."""

BLOCK = 256
"""Positions over which a gradient's kernel adds up before torch does."""


class _Source(ctypes.Structure):
    """``Source`` of kernels.cpp."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in
          ("slice_step", "pixel_step", "channels", "offset", "halved", "adds")),
    ]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What a row of channels is made of, in part.

    Attributes
    ----------
    tensor
        (B, y, x, M, C), or (B, y, x, C) with the same values for all slices; y and x may be half of
        what is asked for.
    offset
        Where its channels begin in the row. A part that lies within earlier ones adds to them.
    second
        (B, y, x, C): the second slice, where ``tensor`` (B, y, x, C) is the first alone.
    """

    tensor: Tensor
    offset: int = 0
    second: Tensor | None = None


@functools.cache
def library() -> ctypes.CDLL:
    """Return the compiled kernels.

    Raises
    ------
    UserError
        If there is no compiler, it cannot compile them, or what it made cannot be loaded.
    """
    compiler = find_compiler()
    if compiler is None:
        raise UserError(
            "Compiled kernels need a C++ compiler and none was found; install g++, name another "
            "in the variable CXX, or choose eager kernels."
        )
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("napari-teramind", appauthor=False)) / "kernels"
    path = folder / f"{_key(compiler)}.so"
    try:
        if not path.exists():
            _compile(compiler, path)
        return ctypes.CDLL(os.fspath(path))
    except OSError as error:
        raise UserError(
            f"Compiled kernels cannot be kept in {folder}, or not be loaded from there ({error}); "
            "make it writable, or choose eager kernels."
        ) from error


def _key(compiler: str) -> str:
    """Name what a compiled file depends on: text, flags, compiler and processor."""
    done = subprocess.run([compiler, "--version"], capture_output=True, check=False)
    try:
        described = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        processor = "\n".join(
            line for line in described if line.startswith(("flags", "model name", "Features"))
        )
    except OSError:
        processor = f"{platform.processor()} {platform.node()}"
    parts = [SOURCE.read_bytes(), " ".join(FLAGS).encode(), done.stdout, processor.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "kernels.so"
        done = subprocess.run(
            [compiler, *FLAGS, os.fspath(SOURCE), "-o", os.fspath(made)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            first = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
            raise UserError(
                f"The compiler {compiler} cannot compile the kernels ({first}); name another, such "
                "as g++, in the variable CXX, or choose eager kernels."
            )
        made.replace(path)


def fits(x: Tensor) -> bool:
    """Tell whether there are kernels for a tensor, and they are faster than torch's operations."""
    return x.device.type == "cpu" and x.dtype in TYPES and x.shape[-1] >= LEAST_CHANNELS


def norm(
    parts: Sequence[Part],
    shape: Sequence[int],
    gain: Tensor,
    shift: Tensor | None = None,
    *,
    activate: bool = True,
    planes: bool = False,
    inverse: Tensor | None = None,
) -> Tensor:
    """RMSNorm with an affine map, and SiLU, of a row of channels made of parts.

    Parameters
    ----------
    parts
        Contiguous tensors of one type.
    shape
        (B, y, x, M, C) of what the parts make up.
    gain, shift
        C values, or B C; both alike.
    activate
        Whether SiLU follows.
    planes
        Give two slices x, y as (3, B, y, x, C): x + y, y and x.
    inverse
        Where to put 1 / rms, (B, y, x, M), float32.
    """
    first = parts[0].tensor
    channels = shape[-1]
    gain = gain.float().contiguous()
    shift = None if shift is None else shift.float().contiguous()
    out = first.new_empty((3, *shape[:3], channels) if planes else tuple(shape))
    _call(
        "norm", first.dtype, _sources(parts, shape), len(parts), (ctypes.c_int64 * 5)(*shape),
        _at(gain), _at(shift), channels if gain.numel() > channels else 0, activate, planes,
        _at(out), _at(inverse), torch.get_num_threads(),
    )  # fmt: skip
    return out


def norm_backward(
    grad: Tensor, x: Tensor, inverse: Tensor, gain: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`norm` with SiLU: of x (B, n, C), and of gain and shift as (B, 1, C)."""
    batch, rows, channels = x.shape
    grad, gain = grad.contiguous(), gain.float().contiguous()
    shift = None if shift is None else shift.float().contiguous()
    grad_x = torch.empty_like(x)
    sums = torch.empty(2, batch, -(-rows // BLOCK), channels)
    _call(
        "norm_backward", x.dtype, _at(grad), _at(x), _at(inverse), _at(gain), _at(shift),
        channels if gain.numel() > channels else 0, batch, rows, channels, BLOCK, _at(grad_x),
        _at(sums[0]), _at(sums[1]), torch.get_num_threads(),
    )  # fmt: skip
    grad_gain, grad_shift = sums.sum(2, keepdim=True)
    return grad_x, grad_gain, grad_shift


def add(parts: Sequence[Part], shape: Sequence[int]) -> Tensor:
    """Add parts up to (B, y, x, M, C)."""
    first = parts[0].tensor
    out = first.new_empty(tuple(shape))
    _call(
        "add", first.dtype, _sources(parts, shape), len(parts), (ctypes.c_int64 * 5)(*shape),
        _at(out), torch.get_num_threads(),
    )  # fmt: skip
    return out


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, of a contiguous tensor."""
    out = torch.empty_like(x)
    _call("gelu", x.dtype, _at(x), _at(out), x.numel(), torch.get_num_threads())
    return out


def _sources(parts: Sequence[Part], shape: Sequence[int]) -> Any:
    seen: list[range] = []
    found = (_Source * len(parts))()
    for source, part in zip(found, parts, strict=True):
        tensor, channels = part.tensor, part.tensor.shape[-1]
        each = tensor.ndim == 5
        step = channels if each else 0
        if part.second is not None:
            step = (part.second.data_ptr() - tensor.data_ptr()) // tensor.element_size()
        source.data, source.slice_step = tensor.data_ptr(), step
        source.pixel_step = channels * (tensor.shape[3] if each else 1)
        source.channels, source.offset = channels, part.offset
        source.halved = int(tensor.shape[1] != shape[1])
        place = range(part.offset, part.offset + channels)
        source.adds = int(any(r.start < place.stop and place.start < r.stop for r in seen))
        seen.append(place)
        assert tensor.is_contiguous()
    return found


def _at(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    _function(name, dtype)(*arguments)


@functools.cache
def _function(name: str, dtype: torch.dtype) -> Any:
    function = getattr(library(), f"{name}_{TYPES[dtype]}")
    function.restype = None
    number, place = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = {
        "norm": [place, number, place, place, place, number, number, number, place, place, number],
        "norm_backward": [*[place] * 5, *[number] * 5, *[place] * 3, number],
        "add": [place, number, place, place, number],
        "gelu": [place, place, number, number],
    }[name]
    return function

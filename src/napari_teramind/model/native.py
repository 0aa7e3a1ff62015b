"""Kernels in C++ for CPUs: compiled on this machine when first needed, and kept.

``kernels.cpp`` and ``gradients.cpp`` are compiled for the very processor they run on, in about two
seconds, into the user's cache folder; the next process finds them there. They share torch's OpenMP
threads.
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

HEADER, *SOURCES = (
    Path(__file__).with_name(name) for name in ("kernels.h", "kernels.cpp", "gradients.cpp")
)
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno",
    "-fno-trapping-math", "-fno-signed-zeros", "-ffinite-math-only", "-fopenmp", "-shared", "-fPIC",
)  # fmt: skip
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

LEAST_CHANNELS = 16
"""Channels from which on kernels pay: rows of fewer leave most of a vector empty."""


class _Source(ctypes.Structure):
    """``Source`` of kernels.h."""

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
    texts = [path.read_bytes() for path in (HEADER, *SOURCES)]
    parts = [*texts, " ".join(FLAGS).encode(), done.stdout, processor.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "kernels.so"
        done = subprocess.run(
            [compiler, *FLAGS, *map(os.fspath, SOURCES), "-o", os.fspath(made)],
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


@dataclass(frozen=True)
class Drop:
    """Dropout of a share of what a norm writes, the same for one seed."""

    share: float = 0.0
    seed: int = 0


NOTHING = Drop()


def norm(
    parts: Sequence[Part],
    shape: Sequence[int],
    gain: Tensor,
    shift: Tensor | None = None,
    *,
    activate: bool = True,
    planes: bool = False,
    drop: Drop = NOTHING,
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
    drop
        Dropout after the SiLU.
    inverse
        Where to put 1 / rms, (B, y, x, M), float32.
    """
    first = parts[0].tensor
    channels = shape[-1]
    gain, shift, step = _affine(gain, shift, shape)
    out = first.new_empty((3, *shape[:3], channels) if planes else tuple(shape))
    _call(
        "norm", first.dtype, _sources(parts, shape), len(parts), _sizes(shape), _at(gain),
        _at(shift), step, activate, planes, drop.share, drop.seed, _at(out), _at(inverse),
        torch.get_num_threads(),
    )  # fmt: skip
    return out


def norm_backward(
    grads: Sequence[Tensor],
    parts: Sequence[Part],
    shape: Sequence[int],
    inverse: Tensor,
    gain: Tensor,
    shift: Tensor | None,
    into: Sequence[Part],
    *,
    activate: bool = True,
    drop: Drop = NOTHING,
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`norm`.

    Parameters
    ----------
    grads
        Of the one tensor (B, y, x, M, C) or the three planes that the norm wrote.
    parts, shape, gain, shift, activate, drop
        As given to the norm.
    inverse
        What it kept.
    into
        Filled with the parts' gradients.

    Returns
    -------
    tuple
        Gradients of gain and shift, (B, 1, C).
    """
    channels = shape[-1]
    gain, shift, step = _affine(gain, shift, shape)
    grads = [grad.contiguous() for grad in grads]
    lines = _lines(parts, shape)
    sums = inverse.new_empty(2, shape[0], shape[1] // lines, channels)
    _call(
        "norm_backward", grads[0].dtype, _sources(parts, shape), _sources(into, shape), len(parts),
        _sizes(shape), _at(gain), _at(shift), step, activate, drop.share, drop.seed,
        *_three(grads), _at(inverse), lines, _at(sums[0]), _at(sums[1]), torch.get_num_threads(),
    )  # fmt: skip
    grad_gain, grad_shift = sums.sum(2, keepdim=True)
    return grad_gain, grad_shift


def add(parts: Sequence[Part], shape: Sequence[int]) -> Tensor:
    """Add parts up to (B, y, x, M, C)."""
    first = parts[0].tensor
    out = first.new_empty(tuple(shape))
    _call(
        "add", first.dtype, _sources(parts, shape), len(parts), _sizes(shape), _at(out),
        torch.get_num_threads(),
    )  # fmt: skip
    return out


def add_backward(grad: Tensor, into: Sequence[Part]) -> None:
    """Fill parts with their gradients, given that of what :func:`add` has made, (B, y, x, M, C)."""
    grad = grad.contiguous()
    _call(
        "add_backward", grad.dtype, _sources(into, grad.shape), len(into), _sizes(grad.shape),
        _at(grad), _lines(into, grad.shape), torch.get_num_threads(),
    )  # fmt: skip


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, of a contiguous tensor."""
    out = torch.empty_like(x)
    _call("gelu", x.dtype, _at(x), _at(out), x.numel(), torch.get_num_threads())
    return out


def gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of :func:`gelu`."""
    out, grad = torch.empty_like(x), grad.contiguous()
    _call("gelu_backward", x.dtype, _at(x), _at(grad), _at(out), x.numel(), torch.get_num_threads())
    return out


def _affine(
    gain: Tensor, shift: Tensor | None, shape: Sequence[int]
) -> tuple[Tensor, Tensor | None, int]:
    """Return gain and shift as the kernels take them, and how far it is from patch to patch."""
    batch, channels = shape[0], shape[-1]
    count = gain.numel()
    if count not in (channels, batch * channels) or (shift is not None and shift.numel() != count):
        raise ValueError(f"There is no gain or shift for every one of {batch} x {channels} values.")
    gain = gain.float().contiguous()
    shift = None if shift is None else shift.float().contiguous()
    return gain, shift, channels if count > channels else 0


def _lines(parts: Sequence[Part], shape: Sequence[int]) -> int:
    """Return how many lines of pixels a gradient is made of at a time."""
    return 2 if any(part.tensor.shape[1] != shape[1] for part in parts) else 1


def _three(grads: Sequence[Tensor]) -> list[ctypes.c_void_p | None]:
    return [*(_at(grad) for grad in grads), *[None] * (3 - len(grads))]


def _sizes(shape: Sequence[int]) -> Any:
    return (ctypes.c_int64 * 5)(*shape)


def _sources(parts: Sequence[Part], shape: Sequence[int]) -> Any:
    seen: list[range] = []
    found = (_Source * len(parts))()
    for source, part in zip(found, parts, strict=True):
        _check(part, parts[0].tensor.dtype, shape)
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
    return found


def _check(part: Part, dtype: torch.dtype, shape: Sequence[int]) -> None:
    """Refuse what the kernels would read beyond its end, or as another type."""
    batch, height, width, slices, channels = shape
    tensor = part.tensor
    sides = ((height, width), (height // 2, width // 2))[tensor.shape[1] != height]
    each = (slices,) if tensor.ndim == 5 else ()
    right = (batch, *sides, *each, tensor.shape[-1])
    halves = sides == (height, width) or height % 2 == width % 2 == 0
    fits = tuple(tensor.shape) == right and halves and part.offset + right[-1] <= channels
    both = [tensor] if part.second is None else [tensor, part.second]
    alike = all(t.shape == tensor.shape and t.dtype == dtype and t.is_contiguous() for t in both)
    if not (fits and alike and (part.second is None or (tensor.ndim == 4 and slices == 2))):
        raise ValueError(f"A part {tuple(tensor.shape)} of {tensor.dtype} is not one of {shape}.")


def _at(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    _function(name, dtype)(*arguments)


@functools.cache
def _function(name: str, dtype: torch.dtype) -> Any:
    function = getattr(library(), f"{name}_{TYPES[dtype]}")
    function.restype = None
    number, place, share = ctypes.c_int64, ctypes.c_void_p, ctypes.c_double
    function.argtypes = {
        "norm": [
            place, number, place, place, place, number, number, number, share, number, place,
            place, number,
        ],
        "norm_backward": [
            place, place, number, place, place, place, number, number, share, number,
            *[place] * 4, number, place, place, number,
        ],
        "add": [place, number, place, place, number],
        "add_backward": [place, number, place, place, number, number],
        "gelu": [place, place, number, number],
        "gelu_backward": [place, place, place, number, number],
    }[name]  # fmt: skip
    return function

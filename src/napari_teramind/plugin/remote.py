"""Reading pixels from elsewhere while napari draws: a lost connection is told once, not per chunk.

What napari draws it asks for in the window's own thread, and an error there would be told with
every chunk of every layer. So what cannot be read stays dark, the user is told, and a store that
failed is left in peace for a while, so that a server that does not answer does not hold the window
each time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    import zarr

REST_SECONDS = 15.0
"""How long a store that failed is not asked again."""

_strict: ContextVar[bool] = ContextVar("strict", default=False)


@dataclass
class _State:
    """How a store answers.

    Attributes
    ----------
    failed_at
        When it failed last, by the monotonic clock; None if it has answered since.
    """

    failed_at: float | None = None


_states: dict[str, _State] = {}


@contextmanager
def strictly() -> Iterator[None]:
    """Let errors of a connection be raised, as where a brain is opened or a file is written."""
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


def read(array: zarr.Array | np.ndarray, place: tuple[int | slice, ...]) -> np.ndarray:
    """Read a part of an array; what a lost connection keeps back reads as zero.

    Errors of what lies on this computer are raised as they are.

    Parameters
    ----------
    array
        On this computer or elsewhere.
    place
        Indices and half-open ranges, one an axis.
    """
    address = _address(array)
    if address is None:
        return np.asarray(array[place])
    if _strict.get():
        return _read_strictly(array, place, address)
    state = _states.setdefault(address, _State())
    if state.failed_at is not None and time.monotonic() - state.failed_at < REST_SECONDS:
        return _dark(array, place)
    try:
        found = np.asarray(array[place])
    except Exception as error:  # every kind of server fails in a way of its own
        if state.failed_at is None:
            _tell(address, error)
        state.failed_at = time.monotonic()
        return _dark(array, place)
    state.failed_at = None
    return found


def _read_strictly(array: Any, place: tuple[int | slice, ...], address: str) -> np.ndarray:
    try:
        return np.asarray(array[place])
    except Exception as error:
        raise UserError(
            f"{address} could not be read ({_reason(error)}): check the connection, and that the "
            "server can send parts of files."
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _address(array: Any) -> str | None:
    """Where an array's store is, if that is not this computer."""
    from zarr.storage import FsspecStore

    store = getattr(array, "store", None)
    if not isinstance(store, FsspecStore):
        return None
    path = store.path
    return path if "://" in path else f"{store.fs.protocol[0]}://{path}"


def _dark(array: Any, place: tuple[int | slice, ...]) -> np.ndarray:
    sides = [
        len(range(*part.indices(length)))
        for part, length in zip(place, array.shape, strict=True)
        if isinstance(part, slice)
    ]
    return np.zeros(sides, array.dtype)


def _tell(address: str, error: Exception) -> None:
    from napari.utils.notifications import show_warning

    show_warning(
        f"The connection to {address} was lost ({_reason(error)}). "
        "What is not read yet stays dark; move the view to try again."
    )

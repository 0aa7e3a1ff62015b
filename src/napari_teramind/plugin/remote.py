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
from typing import Any

import numpy as np

from napari_teramind.errors import UserError

REST_SECONDS = 15.0
"""How long a store that failed is not asked again."""

_strict: ContextVar[bool] = ContextVar("strict", default=False)


_failed: dict[str, float] = {}
"""When a store failed, by the monotonic clock, if it has not answered since."""
_damaged: set[str] = set()
"""Arrays of which a damaged part was told."""
DAMAGE = (ValueError, RuntimeError)
"""What decoding raises; a connection fails in other ways."""


@contextmanager
def strictly() -> Iterator[None]:
    """Let errors of a connection be raised: zeros would be taken for what a file holds."""
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


@contextmanager
def told(path: str) -> Iterator[None]:
    """Make a `UserError` of what goes wrong in reading what lies elsewhere.

    Every kind of server fails in a way of its own. Errors of what lies on this computer come as
    they are.

    Parameters
    ----------
    path
        An address, or a path on this computer.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if "://" not in path:
            raise
        raise UserError(
            f"{path} could not be read ({_reason(error)}): check the connection, and that the "
            "server can send parts of files."
        ) from error


def read(array: Any, place: tuple[int | slice, ...]) -> np.ndarray:
    """Read a part of an array; what a lost connection keeps back reads as zero.

    Errors of what lies on this computer are raised as they are.

    Parameters
    ----------
    array
        A zarr or NumPy array, on this computer or elsewhere.
    place
        Indices and half-open ranges, one an axis.
    """
    address = _address(array)
    if address is None:
        return np.asarray(array[place])
    if _strict.get():
        with told(address):
            return np.asarray(array[place])
    failed_at = _failed.get(address)
    if failed_at is not None and time.monotonic() - failed_at < REST_SECONDS:
        return _dark(array, place)
    try:
        found = np.asarray(array[place])
    except DAMAGE as error:
        image = f"{address}/{array.path}"
        if image not in _damaged:
            _damaged.add(image)
            _tell(f"A part of {image} is damaged, and stays dark ({_reason(error)}).")
        return _dark(array, place)
    except Exception as error:  # every kind of server fails in a way of its own
        if failed_at is None:
            _tell(
                f"The connection to {address} was lost ({_reason(error)}). "
                "What is not read yet stays dark; move the view to try again."
            )
        _failed[address] = time.monotonic()
        return _dark(array, place)
    _failed.pop(address, None)
    return found


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


def _tell(words: str) -> None:
    from napari.utils.notifications import show_warning

    show_warning(words)

"""How a process that computes keeps the memory it frees, on Linux with the GNU C library."""

from __future__ import annotations

import ctypes
import os
import platform

_KEPT = 1 << 30
"""Bytes: smaller blocks are kept when they are freed, and so is that much at the heap's end."""

_MMAP_THRESHOLD = "MALLOC_MMAP_THRESHOLD_", -3
_TRIM_THRESHOLD = "MALLOC_TRIM_THRESHOLD_", -1
"""Variable and number of a setting, from malloc.h."""


def keep_freed_memory() -> None:
    """Let this process and those that it starts use freed memory again at once.

    By default the library gives every large block back to the system and has it filled with zeros
    again for the next one: a network's activations, some hundred times a second, which takes up to
    a third of the time of a run on a CPU. Where a user has set the library's variables, they stay.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for variable, number in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        if variable not in os.environ:
            os.environ[variable] = str(_KEPT)
            library.mallopt(number, _KEPT)

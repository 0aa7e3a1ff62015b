"""Jobs let the window go first: they compute when nobody waits for the computer to answer."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

NICENESS = 5


def let_others_first() -> None:
    """Lower the priority of this process, of its threads and of what it starts from now on."""
    process = psutil.Process()
    with suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(NICENESS)
    # Linux weighs sessions against each other before processes, and a job has one of its own.
    with suppress(OSError):
        group = Path("/proc/self/autogroup")
        if group.exists():
            group.write_text(str(NICENESS))

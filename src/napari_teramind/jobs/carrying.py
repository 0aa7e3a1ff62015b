"""Carrying a job out in a process of its own, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from napari_teramind.jobs.events import Event, Failed, Finished
from napari_teramind.jobs.process import JobProcess
from napari_teramind.jobs.specs import JobSpec

_INTERVAL = 0.2


def carry_out(
    folder: Path,
    spec: JobSpec,
    tell: Callable[[Event], None] | None = None,
    wanted: Callable[[], bool] | None = None,
    started: Callable[[int], None] | None = None,
) -> Finished | Failed:
    """Carry out a job in a process that ends with this one.

    Parameters
    ----------
    folder
        New or empty folder for its specification, events and log.
    spec
        The job.
    tell
        Called with its events, but for the last.
    wanted
        Asked every now and then; the job is cancelled as soon as it says no.
    started
        Called with the id of the process.

    Returns
    -------
    Finished or Failed
        Its last event.
    """
    with JobProcess(spec, folder, dies_with_parent=True) as process:
        if started is not None:
            started(process.pid)
        while True:
            for event in process.read():
                if isinstance(event, Finished | Failed):
                    return event
                if tell is not None:
                    tell(event)
            if wanted is not None and not wanted():
                process.cancel()
            time.sleep(_INTERVAL)

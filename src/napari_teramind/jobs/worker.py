"""A process that does one interactive job after the other, and keeps what the next one needs.

Started as ``python -m napari_teramind.jobs.worker IDLE_SECONDS``. Its standard input says what to
do, a line of JSON at a time: ``{"run": FOLDER}`` and ``{"cancel": FOLDER}``. A job's folder is that
of any other job (see :mod:`.process`); its events are written there. The worker ends with that
input, and by itself when it has had nothing to do for a while, so that memory is given back.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from napari_teramind.errors import UserError
from napari_teramind.jobs.events import BAD_INPUT, CANCELLED, Event, Failed
from napari_teramind.jobs.history import append_event
from napari_teramind.jobs.noting import noted
from napari_teramind.jobs.priority import let_others_first
from napari_teramind.jobs.process import EVENTS_FILE, SPEC_FILE
from napari_teramind.jobs.runner import CANCELLED_MESSAGE, run_job
from napari_teramind.jobs.specs import load_spec
from napari_teramind.jobs.warmth import Warmth
from napari_teramind.memory import keep_freed_memory

GRACE_SECONDS = 5.0


class _Orders:
    """What is asked for on standard input; read by a thread, as the main one computes."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[Path | None] = queue.Queue()
        self._lock = threading.Lock()
        self._now: Path | None = None
        self._unwanted: set[Path] = set()

    def listen(self) -> None:
        """Take orders until there are none to come; then end the process."""
        for line in sys.stdin.buffer:
            order = json.loads(line)
            if "run" in order:
                self.waiting.put(Path(order["run"]))
            else:
                self._cancel(Path(order["cancel"]))
        self.waiting.put(None)
        with self._lock:
            if self._now is None:
                return
            _thread.interrupt_main(signal.SIGTERM)
        threading.Event().wait(GRACE_SECONDS)
        os._exit(CANCELLED)

    def _cancel(self, folder: Path) -> None:
        with self._lock:
            if folder == self._now:
                _thread.interrupt_main(signal.SIGTERM)
            else:
                self._unwanted.add(folder)

    def begin(self, folder: Path) -> bool:
        """Note what is done now; return whether it is still wanted."""
        with self._lock:
            self._now = folder
            return folder not in self._unwanted

    def end(self) -> None:
        """Note that nothing is done now."""
        with self._lock:
            self._now = None


def serve(idle_seconds: float) -> None:
    """Do what standard input asks for, until there has been nothing to do for so long."""
    let_others_first()
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's own affair
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    orders, warmth = _Orders(), Warmth()
    threading.Thread(target=orders.listen, daemon=True).start()
    _import_libraries()
    while True:
        try:
            folder = orders.waiting.get(timeout=idle_seconds)
        except queue.Empty:
            return
        except KeyboardInterrupt:  # for a job that had just ended
            continue
        if folder is None:
            return
        with suppress(KeyboardInterrupt):
            _do(folder, orders, warmth)
        orders.end()


def _import_libraries() -> None:
    """Import what jobs need, while none can be cancelled.

    Interrupted in the midst of it, libraries written in C cannot be imported once more in the same
    process, and every further job would fail.
    """
    import torch  # noqa: F401
    import zarr  # noqa: F401

    import napari_teramind.brain
    import napari_teramind.model.network
    import napari_teramind.simulate.run  # noqa: F401


def _do(folder: Path, orders: _Orders, warmth: Warmth) -> None:
    events = folder / EVENTS_FILE

    def emit(event: Event) -> None:
        append_event(events, event)

    if not orders.begin(folder):
        emit(Failed(message=CANCELLED_MESSAGE, exit_code=CANCELLED))
        return
    try:
        spec = load_spec(folder / SPEC_FILE)
    except UserError as error:
        emit(Failed(message=str(error), exit_code=BAD_INPUT))
        return
    with noted(spec, emit) as told:
        run_job(spec, told, folder, warmth)


if __name__ == "__main__":
    serve(float(sys.argv[1]))

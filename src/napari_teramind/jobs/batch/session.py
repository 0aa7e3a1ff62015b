"""How work that is under way knows that someone still wants it.

Whoever carries out a batch keeps a file that says which time this is, and touches it. Work that was
handed out to other processes, perhaps on other computers, looks at that file: if it is gone, speaks
of another time, or was not touched for long, nobody wants the work any more, and it ends. So a
batch that is begun again never meets what its former time left running.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from napari_teramind.jobs.records import replace_text

BEAT_SECONDS = 5.0
LOOK_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
"""Longer than shared file systems keep what they know of a file."""


class Session:
    """The side that hands out work.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.token = path, uuid.uuid4().hex

    def beat(self) -> None:
        """Say that the work is still wanted."""
        replace_text(self.path, self.token)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say so all through a ``with`` block, whatever else this process is at."""
        self.beat()
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(BEAT_SECONDS):
                with suppress(OSError):  # a full disk, for a moment
                    self.beat()

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.end()

    def end(self) -> None:
        """Say that it is not wanted any more."""
        self.path.unlink(missing_ok=True)

    def watch(self) -> Watch:
        """Return what work takes with it."""
        return Watch(str(self.path), self.token)


@dataclass
class Watch:
    """The side that does it.

    Attributes
    ----------
    path, token
        Of the session.
    """

    path: str
    token: str
    _looked: float = field(default=float("-inf"), repr=False)
    _beat: tuple[int, float] = field(default=(0, float("inf")), repr=False)
    _wanted: bool = field(default=True, repr=False)

    def wanted(self) -> bool:
        """Whether the work is still wanted; looks at the file now and then."""
        now = time.monotonic()
        if self._wanted and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._wanted = self._look(now)
        return self._wanted

    def _look(self, now: float) -> bool:
        path = Path(self.path)
        try:
            changed = path.stat().st_mtime_ns
            said = path.read_text(encoding="utf-8")
        except OSError:
            return False
        # Clocks of computers differ: what counts is when this one saw the file change.
        if changed != self._beat[0]:
            self._beat = (changed, now)
        return said == self.token and now - self._beat[1] < PATIENCE_SECONDS

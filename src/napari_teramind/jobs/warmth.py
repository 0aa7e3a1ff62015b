"""What a process keeps from one job to the next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_teramind.model import TeraMind
    from napari_teramind.simulate.trace import Traces
    from napari_teramind.simulate.workers import NetworkSource


class Warmth:
    """The last network, and what the last generation passed through."""

    def __init__(self) -> None:
        self._source: tuple[NetworkSource, int] | None = None
        self._network: TeraMind | None = None
        self._traces: Traces | None = None

    def network(self, source: NetworkSource) -> TeraMind:
        """Return a network, loaded if it is not the last one or its file has changed."""
        file = Path(source.path)
        key = (source, file.stat().st_mtime_ns if file.exists() else 0)
        if self._network is None or key != self._source:
            self._network = None  # two may not fit
            self._network = source.load()
            self._source = key
        return self._network

    @property
    def traces(self) -> Traces:
        """Where a generation leaves its states for the next."""
        if self._traces is None:
            from napari_teramind.simulate.trace import Traces

            self._traces = Traces()
        return self._traces

"""Structure statistics of results, computed by a job and kept for as long as the panel is."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_teramind.jobs import Failed, Finished, Progress, StructuresSpec
from napari_teramind.plugin.atlases import StructureSet
from napari_teramind.widgets.beside import Beside
from napari_teramind.widgets.generation import was_cancelled
from napari_teramind.widgets.running import RunningJob

if TYPE_CHECKING:
    import pandas as pd

    from napari_teramind.attention.pairs import Pair

Key = tuple[str, str, str, str]
"""Brain, result, pair, set of structures."""


@dataclass(frozen=True)
class Statistics:
    """What is known of a result's structures.

    Attributes
    ----------
    table
        As `attention.structure_statistics` gives it.
    trends
        By map: ``pearson``, ``bins`` and ``line``.
    """

    table: pd.DataFrame
    trends: dict[str, dict[str, Any]]


class StatisticsJobs(QObject):
    """Gets the statistics of one result at a time; those of earlier ones are remembered."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.words = ""
        self._known: dict[Key, Statistics] = {}
        self._key: Key | None = None
        self._job: RunningJob | None = None
        self._folder: Path | None = None

    @property
    def current(self) -> Statistics | None:
        """The statistics that were asked for last, if they are known yet."""
        return None if self._key is None else self._known.get(self._key)

    @property
    def busy(self) -> bool:
        """Whether they are being computed."""
        return self._job is not None

    def ask(self, brain: str, result: str, pair: Pair, chosen: StructureSet | None) -> None:
        """Ask for a result's statistics; `changed` follows.

        Parameters
        ----------
        brain, result, pair
            Which result, and the pair of the trends.
        chosen
            The structures; the brain's own unless it is an atlas that lies on its slices.
        """
        laid = chosen is not None and chosen.transforms is not None and chosen.brain == brain
        key = (brain, result, "-".join(pair), chosen.key if laid and chosen is not None else "")
        if key == self._key and (self.busy or key in self._known):
            return
        self.forget()
        self._key = key
        if key in self._known:
            self.changed.emit()
            return
        self._folder = Path(tempfile.mkdtemp(prefix="teramind-structures-"))
        atlas = (
            {"atlas": chosen.atlas, "transforms": chosen.transforms}
            if laid and chosen is not None
            else {}
        )
        spec = StructuresSpec.model_validate(
            {
                "brain": brain,
                "result": result,
                "pair": pair,
                "trend": True,
                "out": self._folder / "structures.parquet",
                **atlas,
            }
        )
        self._job = RunningJob(lambda _: spec, self)
        self._job.told.connect(self._on_told)
        self._job.ended.connect(lambda event: self._on_ended(key, event))
        self._say("Looking which structures stand out ...")

    def forget(self) -> None:
        """Ask for nothing any more."""
        job, self._job = self._job, None
        if job is not None:
            job.abandon()
            job.deleteLater()
        self._remove_folder()
        self._key, self.words = None, ""

    def drop(self, brain: str, result: str) -> None:
        """Remember nothing of a result that has been made anew."""
        self._known = {k: v for k, v in self._known.items() if k[:2] != (brain, result)}
        if self._key is not None and self._key[:2] == (brain, result):
            self.forget()

    def _on_told(self, event: Any) -> None:
        if isinstance(event, Progress) and event.total:
            self._say(f"{event.message}: {event.done / event.total:.0%}")

    def _on_ended(self, key: Key, event: Finished | Failed) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.deleteLater()
        if isinstance(event, Failed):
            self._remove_folder()
            self._say("" if was_cancelled(event) else event.message)
            return
        trends = event.result["trends"]
        path = Path(event.result["path"])
        Beside(self, _read, path, then=lambda table: self._on_read(key, table, trends))

    def _on_read(self, key: Key, table: pd.DataFrame, trends: dict[str, Any]) -> None:
        self._known[key] = Statistics(table, trends)
        if key == self._key:
            self._remove_folder()
            self._say("")

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _say(self, words: str) -> None:
        self.words = words
        self.changed.emit()


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path)

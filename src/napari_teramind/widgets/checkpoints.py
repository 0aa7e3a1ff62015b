"""The checkpoints that a user can choose from, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Signal

from napari_teramind.brain import BrainStore
from napari_teramind.jobs import Failed, Finished, InfoSpec
from napari_teramind.model import ModelConfig
from napari_teramind.model.packaged import packaged_path
from napari_teramind.widgets import settings
from napari_teramind.widgets.generation import was_cancelled
from napari_teramind.widgets.getting import Getting
from napari_teramind.widgets.running import RunningJob


@dataclass(frozen=True)
class Facts:
    """What a panel needs to know of a checkpoint.

    Attributes
    ----------
    config
        Shape of the network.
    genes
        The panel, or None if the checkpoint does not carry it.
    """

    config: ModelConfig
    genes: tuple[str, ...] | None

    @classmethod
    def from_info(cls, result: dict) -> Facts:
        """Read the result of an info job."""
        genes = result["genes"]
        config = ModelConfig.from_dict(result["config"])
        return cls(config, None if genes is None else tuple(genes))

    def misfit(self, brain: BrainStore, has_gene_list: bool) -> str:
        """Return in a sentence why the checkpoint cannot be used on a brain; "" if it can."""
        if self.config.stains != len(brain.stain_names):
            return (
                f"This checkpoint makes {self.config.stains} stains, and the brain has "
                f"{len(brain.stain_names)} ({', '.join(brain.stain_names)}): choose another."
            )
        if self.genes is None:
            if has_gene_list or self.config.genes == len(brain.gene_names):
                return ""
            return (
                f"This checkpoint does not say which {self.config.genes} genes it needs: "
                "choose the gene list that it was trained with."
            )
        known = set(brain.gene_names)
        missing = [gene for gene in self.genes if gene not in known]
        if not missing:
            return ""
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        return (
            f"The brain lacks {len(missing)} of the {self.config.genes} genes of this checkpoint "
            f"({named}): choose another, or train one on brains with this panel."
        )


class Checkpoints(QObject):
    """The choice of a checkpoint, shared by the panels of one viewer.

    What a checkpoint holds is read by a job: it takes seconds for a large one, and torch.
    """

    changed = Signal()
    """Another checkpoint or gene list was chosen, or the chosen one has been read."""
    getting_changed = Signal()
    """A download of published networks began or ended."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._current: str | None = None
        self._read: dict[tuple[str, int], Facts | str] = {}
        self._reading: dict[tuple[str, int], RunningJob] = {}
        self.getting: Getting | None = None
        self.got = ""

    def paths(self) -> list[str]:
        """Checkpoints to choose from.

        The chosen one, the last used, those in the user's folder, the packaged one.
        """
        folder = settings.checkpoint_folder()
        found = sorted(str(p) for p in folder.glob("*.safetensors")) if folder.is_dir() else []
        first = [self._current, settings.last_checkpoint()]
        packaged = packaged_path()
        last = [] if packaged is None else [str(packaged)]
        return list(dict.fromkeys(path for path in [*first, *found, *last] if path))

    @property
    def current(self) -> str | None:
        """The chosen checkpoint, or the first there is."""
        paths = self.paths()
        return paths[0] if paths else None

    def choose(self, path: str) -> None:
        """Use a checkpoint, and begin with it next time."""
        self._current = str(Path(path).resolve())
        settings.remember_checkpoint(self._current)
        self.changed.emit()

    @property
    def gene_list(self) -> str | None:
        """The gene list given for the chosen checkpoint."""
        return None if self.current is None else settings.gene_list_of(self.current)

    def choose_gene_list(self, path: str) -> None:
        """Say which genes the chosen checkpoint was trained with."""
        if self.current is not None:
            settings.remember_gene_list(self.current, str(Path(path).resolve()))
            self.changed.emit()

    def facts(self) -> Facts | str | None:
        """Return what the chosen checkpoint holds, or why it cannot be read; None while it is."""
        path = self.current
        if path is None:
            return None
        try:
            key = (path, Path(path).stat().st_mtime_ns)
        except OSError:
            return f"{path} is gone: choose another checkpoint."
        if key not in self._read and key not in self._reading:
            job = RunningJob(lambda _: InfoSpec(path=path), self)
            job.ended.connect(lambda event: self._on_read(key, event))
            self._reading[key] = job
        return self._read.get(key)

    def _on_read(self, key: tuple[str, int], event: Finished | Failed) -> None:
        self._reading.pop(key).deleteLater()
        if isinstance(event, Finished):
            self._read[key] = Facts.from_info(event.result)
        else:
            self._read[key] = event.message
        self.changed.emit()

    def get(self, name: str, genes: str | None) -> None:
        """Start getting published networks; the usual one of them is chosen when they are here.

        Raises
        ------
        UserError
            If a field cannot be.
        """
        if self.getting is None:
            self._watch(Getting.start(name, genes))

    def find_getting(self) -> None:
        """Look for a download that was started before and goes on."""
        getting = Getting.find() if self.getting is None else None
        if getting is not None:
            self._watch(getting)

    def _watch(self, getting: Getting) -> None:
        self.getting, self.got = getting, ""
        getting.setParent(self)
        getting.ended.connect(self._on_got)
        self.getting_changed.emit()

    def _on_got(self, event: Finished | Failed) -> None:
        getting, self.getting = self.getting, None
        if getting is None:
            return
        getting.deleteLater()
        if isinstance(event, Finished):
            path = Path(event.result["path"])
            self.got = f"{getting.name} is here: {path.stem} is chosen."
            show_info(self.got)
            self.choose(str(path))
        elif was_cancelled(event):
            self.got = f"Cancelled. What has arrived of {getting.name} is kept for the next time."
        else:
            self.got = event.message
            show_error(event.message)
        self.getting_changed.emit()

    def abandon(self) -> None:
        """Stop reading and listening; a download goes on."""
        if self.getting is not None:
            self.getting.leave()
            self.getting = None
        for job in self._reading.values():
            job.abandon()
        self._reading.clear()

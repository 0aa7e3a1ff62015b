"""What workers do: functions that dask calls in their processes, once or, after a loss, again.

Every one of them can be killed at any instant and called again, also while a former call still
runs somewhere: a job goes on from what it left, a unit of a simulation writes the same bytes.
"""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from napari_teramind.errors import UserError
from napari_teramind.jobs.batch.session import Watch
from napari_teramind.jobs.carrying import carry_out
from napari_teramind.jobs.events import Event, Failed, Finished
from napari_teramind.jobs.going_on import going_on
from napari_teramind.jobs.process import EVENTS_FILE
from napari_teramind.jobs.records import replace_text
from napari_teramind.jobs.specs import JobSpec, SimulateSpec, build_spec
from napari_teramind.training.record import is_alive, process_facts

if TYPE_CHECKING:
    from napari_teramind.brain.ledger import Entry
    from napari_teramind.brain.pyramid import Unit
    from napari_teramind.model import TeraMind
    from napari_teramind.simulate import Layout
    from napari_teramind.simulate.roi import GroupRun
    from napari_teramind.simulate.run import WorkUnit
    from napari_teramind.simulate.workers import NetworkSource

PROCESS_FILE = "process.json"
_ORPHAN_SECONDS = 10.0
"""What a job takes at most to end after the worker that started it was killed."""


class NotWantedError(Exception):
    """Whoever asked for this work is gone."""


# Whole jobs ------------------------------------------------------------------------------------


def do_job(
    folder: str,
    fields: dict[str, Any],
    watch: Watch | None = None,
    tell: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Carry out a job in a process of its own, from where a former time left it.

    Parameters
    ----------
    folder
        Its folder.
    fields
        Of its specification.
    watch
        Tells whether it is still wanted.
    tell
        Called with its events.

    Returns
    -------
    dict
        Its last event.
    """
    if watch is not None and not watch.wanted():
        raise NotWantedError
    forget()  # its memory, on a GPU above all, is the job's now
    place = Path(folder)
    begun = _await_former(place)
    if place.exists():
        shutil.rmtree(place)
    spec = build_spec(fields, "The batch")
    if begun and _has_begun(spec):
        spec = build_spec(going_on(fields, fields.get("name")), "The batch")

    def started(pid: int) -> None:
        replace_text(place / PROCESS_FILE, json.dumps(process_facts(pid)))

    last = carry_out(place, spec, tell, None if watch is None else watch.wanted, started)
    return last.model_dump(mode="json")


def last_word(folder: Path) -> Finished | Failed | None:
    """Return how a job ended, from its folder; None if it did not, or was killed."""
    from napari_teramind.jobs.history import read_events

    events = read_events(folder / EVENTS_FILE)
    last = events[-1] if events else None
    return last if isinstance(last, Finished | Failed) else None


def _await_former(folder: Path) -> bool:
    """Wait until a process of a former time has ended; return whether there was one."""
    try:
        process = json.loads((folder / PROCESS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if last_word(folder) is not None:
        return True
    end = time.monotonic() + _ORPHAN_SECONDS
    while is_alive(process) and time.monotonic() < end:
        time.sleep(0.1)
    if process.get("host") == socket.gethostname() and is_alive(process):
        with suppress(psutil.Error):
            psutil.Process(process["pid"]).kill()
    return True


def _has_begun(spec: JobSpec) -> bool:
    """Whether a job that began before left something that it can go on with."""
    if spec.verb == "train":
        from napari_teramind.training.record import read_record

        return read_record(spec.out) is not None
    return spec.verb == "simulate"


# Simulations -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A simulation as a worker sees it, ready to be shared out.

    Attributes
    ----------
    layout
        The request on the brain's grid.
    source
        How every worker gets the network.
    provenance
        Of the result.
    text
        What it takes, for people.
    """

    layout: Layout
    source: NetworkSource
    provenance: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Generated:
    """A unit that was generated.

    Attributes
    ----------
    entries
        The shards that were written.
    computation
        What bit-equality depends on, where it was done.
    batch
        Patches that were computed at a time in the end.
    seconds, host
        How long it took, and where.
    """

    entries: list[Entry]
    computation: dict[str, Any]
    batch: int
    seconds: float
    host: str


class _Kept:
    """The network and the run that this process used last: the next unit likely needs them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._model: tuple[NetworkSource, TeraMind] | None = None
        self._run: tuple[tuple[str, Layout], GroupRun] | None = None

    def clear(self) -> None:
        """Give the memory back."""
        on_gpu = self._model is not None and self._model[1].device.type == "cuda"
        self._model = self._run = None
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    def network(self, source: NetworkSource) -> TeraMind:
        """Return a network, with this process computing as its source says."""
        import torch

        from napari_teramind.model import kernels

        if self._model is None or self._model[0] != source:
            self.clear()
            self._model = (source, source.load())
        else:
            kernels.choose(source.kernels)
            if source.threads is not None:
                torch.set_num_threads(source.threads)
        return self._model[1]

    def run(self, source: NetworkSource, brain: str, layout: Layout) -> GroupRun:
        """Return the run that generates units of a layout."""
        from napari_teramind.brain import open_brain
        from napari_teramind.simulate.batches import Batches
        from napari_teramind.simulate.roi import GroupRun

        model = self.network(source)
        if self._run is None or self._run[0] != (brain, layout) or self._run[1].model is not model:
            batches = Batches(layout.settings.batch)
            run = GroupRun(open_brain(brain), model, layout, batches, _still_wanted, total=0)
            self._run = ((brain, layout), run)
        return self._run[1]


_kept = _Kept()
_watch: Watch | None = None


def _still_wanted(*progress: Any) -> None:
    if _watch is not None and not _watch.wanted():
        raise NotWantedError


def forget() -> None:
    """Give the memory of the last network back, if it is not in use."""
    if _kept.lock.acquire(blocking=False):  # dask's own thread must not wait
        try:
            _kept.clear()
        finally:
            _kept.lock.release()


def prepare_simulation(
    spec: SimulateSpec,
    version: str,
    threads: int | None,
    begun: Mapping[str, Any] | None,
    sharing: int,
) -> Prepared:
    """Check a simulation where it will be computed, and plan it.

    Parameters
    ----------
    spec
        The job.
    version
        Of this package, where the batch was started.
    threads
        Of each worker.
    begun
        Provenance of the result, if it was begun.
    sharing
        Workers that share a computer's memory.

    Raises
    ------
    UserError
        If it cannot be met, or the worker has another version of this package.
    """
    from napari_teramind import __version__
    from napari_teramind.brain import open_brain
    from napari_teramind.jobs.verbs.planning import check_room, network_source, plan_simulation
    from napari_teramind.model import kernels
    from napari_teramind.simulate.run import describe

    if version != __version__:
        raise UserError(
            f"A worker on {socket.gethostname()} has napari-teramind {__version__} and this "
            f"computer {version}; install the same on both."
        )
    with _kept.lock:
        alone = spec.model_copy(update={"workers": 1})
        brain = open_brain(spec.brain)
        source = network_source(alone, threads, begun)
        model = _kept.network(source)
        if begun is None:
            plan, told = plan_simulation(alone, brain, model)
            source = replace(source, kernels=kernels.chosen())
        else:  # in the form that it was begun with
            same = alone.model_copy(update={"kernels": source.kernels})
            plan, told = plan_simulation(same, brain, model)
        check_room(plan, brain, model.device, sharing, 1)
        provenance = describe(model, plan.layout, alone.model_dump(mode="json"))
    return Prepared(plan.layout, source, provenance, told.text)


def generate(
    source: NetworkSource,
    brain: str,
    result: str,
    layout: Layout,
    unit: WorkUnit,
    done: Iterable[Unit],
    watch: Watch,
) -> Generated:
    """Generate a unit of a simulation and write its shards.

    Raises
    ------
    UserError
        If the result, or the network, is not the one that was prepared.
    """
    global _watch
    from napari_teramind.brain.result import ResultReader
    from napari_teramind.simulate import Request
    from napari_teramind.simulate.run import computation
    from napari_teramind.simulate.workers import write_unit

    start = time.monotonic()
    with _kept.lock:
        _watch = watch
        _still_wanted()
        reader = ResultReader(result)
        if Request.from_dict(reader.provenance["request"]) != layout.request:
            raise UserError(f"{result} is not what was begun; another run has replaced it.")
        run = _kept.run(source, brain, layout)
        if run.model.sha256 != reader.provenance["checkpoint_sha256"]:
            raise UserError(
                f"{source.path} is another file on {socket.gethostname()} than where "
                f"'{reader.path.name}' was begun; every worker needs the same."
            )
        try:
            entries = write_unit(run, reader, unit, done)
        except BaseException:
            _kept.clear()  # what it was at when it was stopped
            raise
        facts, batch = computation(run.model), run.batches.size
    return Generated(entries, facts, batch, time.monotonic() - start, socket.gethostname())

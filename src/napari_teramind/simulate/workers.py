"""Several processes that generate units of one result; a unit whose process dies is done again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import TYPE_CHECKING, Any

from napari_teramind.brain.ledger import Entry, checksum
from napari_teramind.brain.result import ResultReader, ResultWriter, write_shard
from napari_teramind.errors import UserError
from napari_teramind.simulate.request import Layout
from napari_teramind.simulate.run import WorkUnit, generate_unit, unit_target, work_units
from napari_teramind.simulate.tissue import ActivePatches

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind
    from napari_teramind.model.config import Kernels
    from napari_teramind.simulate.roi import GroupRun, Report

Warn = Callable[[str], None]

_MOST_LOSSES = 3
"""Times in a row that workers may die without a single unit done."""


@dataclass(frozen=True)
class NetworkSource:
    """How a process gets the network.

    Attributes
    ----------
    path
        The checkpoint.
    genes
        Panel for checkpoints that name none.
    device
        Where to compute; with several workers on GPUs, each takes the next one.
    precision
        Name of the floating-point type.
    threads
        Threads of a process; equal numbers give equal bits.
    kernels
        Form of the loops; see :mod:`napari_teramind.model.kernels`. None: chosen by the device.
    """

    path: str
    genes: tuple[str, ...] | None
    device: str
    precision: str
    threads: int | None = None
    kernels: Kernels | None = None

    def load(self, worker: int = 0) -> TeraMind:
        """Load the network, for the worker of this number."""
        import torch

        from napari_teramind.model import kernels, load_model

        kernels.choose(self.kernels)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        device = self.device
        if device == "cuda" and torch.cuda.device_count() > 1:
            device = f"cuda:{worker % torch.cuda.device_count()}"
        return load_model(self.path, genes=self.genes, device=device).to(
            getattr(torch, self.precision)
        )


@dataclass
class _State:
    """What a worker process keeps between units."""

    source: NetworkSource
    brain_path: str
    result_path: str
    layout: Layout
    number: int
    run: GroupRun | None = None


_state: _State | None = None


def complete_with_workers(
    brain: BrainStore,
    writer: ResultWriter,
    layout: Layout,
    source: NetworkSource,
    workers: int,
    report: Report | None = None,
    warn: Warn | None = None,
    active: ActivePatches | None = None,
) -> str:
    """Generate what a result lacks with several processes, and make it complete.

    Parameters
    ----------
    brain, writer, layout
        What to generate, and where to.
    source
        How each process gets the network.
    workers
        Number of processes.
    report, warn
        Callbacks.
    active
        The patches that are computed; default: found out here.

    Raises
    ------
    UserError
        If workers die again and again.
    """
    active = active or ActivePatches(brain, layout)
    units = work_units(writer, layout, workers=workers)
    costs = {
        unit: active.evaluations_of(unit.first, unit_target(writer, unit, layout.patch))
        for unit in units
    }
    pending, done, losses = list(units), 0, 0
    while pending:
        before = len(pending)
        with _pool(workers, (source, brain.path, str(writer.path), layout)) as pool:
            futures: dict[Future[list[Entry]], WorkUnit] = {
                pool.submit(_work, unit, frozenset(writer.done)): unit for unit in pending
            }
            try:
                while futures:
                    finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                    for future in finished:
                        unit = futures.pop(future)
                        for entry in future.result():
                            writer.adopt(entry)
                        pending.remove(unit)
                        done += costs[unit]
                        if report is not None:
                            report("Generating slices", done, sum(costs.values()))
            except BrokenProcessPool:
                losses = 0 if len(pending) < before else losses + 1
                if losses >= _MOST_LOSSES:
                    raise UserError(
                        "The worker processes die again and again, as when memory is short; use "
                        "fewer workers, then go on with 'teramind resume'."
                    ) from None
                if warn is not None:
                    warn("A worker process died; what it was at is done again.")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.kill()
                raise
    return writer.finish()


def _pool(workers: int, arguments: Sequence[Any]) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    return ProcessPoolExecutor(workers, context, _start, (counter, *arguments))


def _start(
    counter: Any, source: NetworkSource, brain_path: str, result_path: str, layout: Layout
) -> None:
    """Prepare a worker process."""
    global _state
    # Ctrl-C at a terminal reaches every process; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    _state = _State(source, brain_path, result_path, layout, number)
    # A worker whose parent was killed must not go on writing: someone may have resumed the run.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _work(unit: WorkUnit, done: frozenset[tuple[int, int, int]]) -> list[Entry]:
    """Generate a unit in a worker process and write its shards."""
    from napari_teramind.brain import open_brain
    from napari_teramind.simulate.roi import GroupRun

    state = _state
    if state is None:
        raise RuntimeError("not a worker process")
    if state.run is None:
        model = state.source.load(state.number)
        state.run = GroupRun(open_brain(state.brain_path), model, state.layout, total=0)
    return write_unit(state.run, ResultReader(state.result_path), unit, done)


def write_unit(
    run: GroupRun, reader: ResultReader, unit: WorkUnit, done: Iterable[tuple[int, int, int]]
) -> list[Entry]:
    """Generate a unit and write its shards, wherever this is; its writer is to `adopt` them.

    Parameters
    ----------
    run
        With network, brain and layout.
    reader
        The result.
    unit
        What to generate.
    done
        Shards that need not be written again.

    Returns
    -------
    list of Entry
        What was written.
    """
    reader.done.update(done)
    entries = []
    for shard, block in generate_unit(run, reader, unit):
        write_shard(reader.levels[0], shard, block)
        entries.append(Entry("0", shard, checksum(block)))
    return entries

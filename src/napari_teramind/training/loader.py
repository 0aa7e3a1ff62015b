"""Batches made ahead of the step that needs them: blocks in processes, crops in a thread.

Samples and their order do not depend on how many processes read, since blocks and crops are drawn
by number. Memory is bounded: a block a stream, one or two a worker on their way, and two batches.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from napari_teramind.training.loss import Batch
from napari_teramind.training.samples import Block, Sample
from napari_teramind.training.source import BlockKey, SampleSource
from napari_teramind.training.step import make_batch

AHEAD = 2
"""Batches made before they are asked for."""


class _Blocks(Dataset[Block]):
    """Blocks by key, read by whichever process asks; stores are opened anew in each."""

    def __init__(self, source: SampleSource) -> None:
        self._source: SampleSource | None = source
        self._paths = [brain.path for brain in source.brains]

    def __getstate__(self) -> dict[str, Any]:
        source = self._source
        if source is None:
            raise RuntimeError("The blocks belong to another process already.")
        return {"paths": self._paths, "made_of": (source.panel, source.config, source.train)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._paths, self._made_of, self._source = state["paths"], state["made_of"], None

    def __getitem__(self, key: BlockKey) -> Block:
        if self._source is None:
            from napari_teramind.brain import open_brain

            self._source = SampleSource([open_brain(path) for path in self._paths], *self._made_of)
        return self._source.read(key)


class _Keys(Sampler[BlockKey]):
    """Blocks in the order in which the samples of some slots need them, without end."""

    def __init__(self, source: SampleSource, first: int, slots: range) -> None:
        self._source, self._first, self._slots = source, first, slots

    def __iter__(self) -> Iterator[BlockKey]:
        held: dict[int, int] = {}
        evaluation = self._first
        while True:
            for slot in self._slots:
                key = self._source.block_key(evaluation * self._source.train.batch + slot)
                if held.get(key[0]) != key[1]:
                    held[key[0]] = key[1]
                    yield key
            evaluation += 1


class Batches:
    """Batches of consecutive evaluations, made ahead; a context manager.

    Parameters
    ----------
    source
        Says which samples there are.
    first
        Number of the first evaluation.
    slots
        Samples of the batch that this process draws.
    workers
        Processes that read blocks; 0: the thread that makes the batches reads them.
    """

    def __init__(self, source: SampleSource, first: int, slots: range, workers: int = 0) -> None:
        self._source = source
        self._slots = slots
        self._next = first
        self._held: dict[int, tuple[int, Block]] = {}
        loader: DataLoader[Block] = DataLoader(
            _Blocks(source),
            batch_size=None,
            sampler=_Keys(source, first, slots),
            num_workers=workers,
            # Fork would copy locks of threads that are not there; NumPy arrays go through a pipe,
            # as shared memory is scarce in containers.
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=1 if workers else None,
            worker_init_fn=_begin_worker,
            collate_fn=_as_it_is,
        )
        self._blocks = iter(loader)
        self._thread = ThreadPoolExecutor(1, "batches")
        self._ahead: list[Future[Batch]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for future in self._ahead:
            future.cancel()
        self._thread.shutdown(wait=True)
        del self._blocks  # ends the workers

    def take(self, count: int) -> Iterator[Batch]:
        """Yield the next ``count`` batches."""
        for _ in range(count):
            while len(self._ahead) <= AHEAD:
                self._ahead.append(self._thread.submit(self._make, self._next))
                self._next += 1
            yield self._ahead.pop(0).result()

    def _make(self, evaluation: int) -> Batch:
        source = self._source
        samples = [self._sample(evaluation * source.train.batch + slot) for slot in self._slots]
        return make_batch(samples, self._slots, source.config, source.train, evaluation)

    def _sample(self, number: int) -> Sample:
        stream, index = self._source.block_key(number)
        if self._held.get(stream, (None,))[0] != index:
            self._held[stream] = index, next(self._blocks)
        return self._source.draw(number, self._held[stream][1])


def default_workers(device_type: str) -> int:
    """Return how many processes should read: beside a GPU, some; on a CPU, they would compete."""
    return 0 if device_type == "cpu" else min(4, max(1, (os.cpu_count() or 2) - 1))


def _begin_worker(number: int) -> None:
    """Leave Ctrl-C to the process that started this one."""
    if get_worker_info() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_it_is(block: Any) -> Any:
    return block

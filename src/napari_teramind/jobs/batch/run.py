"""Carrying out a batch: what is done is left out, what was interrupted goes on."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from napari_teramind.errors import JobError, UserError
from napari_teramind.jobs.batch.board import Board, Line
from napari_teramind.jobs.batch.config import BatchFile
from napari_teramind.jobs.batch.grid import BatchJob
from napari_teramind.jobs.batch.session import Session
from napari_teramind.jobs.batch.tasks import do_job, forget, last_word
from napari_teramind.jobs.events import Event, Failed, Finished, Progress, Warned, parse_event
from napari_teramind.jobs.records import keep_done, read_done
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import SimulateSpec, dump_spec
from napari_teramind.jobs.verbs.common import Result

if TYPE_CHECKING:
    from distributed import Future

    from napari_teramind.jobs.batch.cluster import Workers
    from napari_teramind.jobs.batch.works import Work

_LOOK_SECONDS = 0.2
_LEAST_TASKS = 4
"""Tasks that a cluster is given at least, also where no worker has come yet."""


def run_batch(
    batch: BatchFile, jobs: Sequence[BatchJob], context: JobContext, dry_run: bool = False
) -> Result:
    """Carry out the jobs of a batch that are not done.

    Logs and records lie in the batch's folder: ``status.json`` says how far it is, and
    ``jobs/<name>`` has every job's specification, events and log. A job that fails does not stop
    the others.

    Parameters
    ----------
    batch
        The batch.
    jobs
        Its jobs; see :func:`~napari_teramind.jobs.batch.grid.expand`.
    context
        Told how far it is.
    dry_run
        Say what would be done, and end.

    Returns
    -------
    dict
        ``path``: the folder; ``jobs``: how each ended.

    Raises
    ------
    UserError
        If the batch is being carried out already, or the cluster cannot be used.
    JobError
        If jobs failed, or the scheduler went away.
    """
    board = Board(batch.out, jobs, batch.cluster.text, context)
    for line in board.lines:
        _leave_out(line)
    to_do = board.of("waiting")
    text = f"{len(to_do)} of {len(board.lines)} jobs to do, {batch.cluster.text}"
    context.planned(text, jobs=[line.to_dict() for line in board.lines], folder=str(batch.out))
    if dry_run:
        lines = [f"{'done' if line.skipped else 'to do'}: {line.job.name}" for line in board.lines]
        return {"path": str(batch.out), "jobs": _told(board), "summary": [f"{text}.", *lines]}
    with _alone(batch.out):
        try:
            if to_do:
                _carry_out(batch, board, context)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "The batch was cancelled; run the same command again to go on."
            ) from None
        finally:
            for line in board.of("running"):
                line.state = "waiting"
            context.interrupted = False  # or the last look would raise it again
            board.show(now=True)
    return _outcome(batch, board)


def _leave_out(line: Line) -> None:
    """Mark a job that was done before."""
    wanted = {"spec": json.loads(dump_spec(line.job.spec))}
    done = read_done(line.folder)
    if not wanted.items() <= done.items():
        last = last_word(line.folder)
        if not isinstance(last, Finished):  # else it was killed before it could record that
            return
        keep_done(line.folder, wanted, last.result)
        done = {"result": last.result}
    line.state, line.skipped, line.result = "done", True, dict(done["result"])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process from carrying out the same batch."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0.5)
    except filelock.Timeout:
        raise UserError(f"The batch of {folder} is being carried out already.") from None
    try:
        yield
    finally:
        lock.release()


def _carry_out(batch: BatchFile, board: Board, context: JobContext) -> None:
    if batch.cluster.kind == "none":
        _one_by_one(board, context)
        return
    from napari_teramind.jobs.batch.cluster import workers_of

    session = Session(batch.out / "session")
    with session.beating(), workers_of(batch.cluster, batch.out) as workers:
        _Run(board, context, workers, session).run()


def _one_by_one(board: Board, context: JobContext) -> None:
    for line in board.of("waiting"):
        line.state = "running"
        board.show(now=True)

        def tell(event: Event, line: Line = line) -> None:
            if isinstance(event, Progress):
                line.message = event.message
                line.share = event.done / event.total if event.total else 0.0
                board.show()
            elif isinstance(event, Warned):
                context.warn(f"{line.job.name}: {event.message}")

        told = do_job(str(line.folder), line.job.spec.model_dump(mode="json"), tell=tell)
        last = parse_event(json.dumps(told))
        if isinstance(last, Finished | Failed):
            _note(line, last)


def _note(line: Line, last: Finished | Failed) -> None:
    """Put on the board, and on record, how a job ended."""
    if isinstance(last, Failed):
        line.state, line.message = "failed", last.message
        return
    line.state, line.message, line.share, line.result = "done", "", 1.0, last.result
    keep_done(line.folder, {"spec": json.loads(dump_spec(line.job.spec))}, last.result)


class _Run:
    """A batch that a cluster carries out."""

    def __init__(
        self, board: Board, context: JobContext, workers: Workers, session: Session
    ) -> None:
        from napari_teramind.jobs.batch.works import Desk

        self._board, self._workers = board, workers
        self._landed: queue.SimpleQueue[tuple[Work, Future]] = queue.SimpleQueue()
        self._desk = Desk(workers, session, self._land, context.warn)
        self._running: list[Work] = []
        self._count = -1

    def _land(self, work: Work, future: Future) -> None:
        self._landed.put((work, future))

    def run(self) -> None:
        """Give out what there is to do until all is done."""
        try:
            while self._running or self._board.of("waiting"):
                count = self._count_workers()
                self._give_out(count)
                self._take()
                for work in [work for work in self._running if work.last is not None]:
                    self._running.remove(work)
                    if work.last is not None:
                        _note(work.line, work.last)
                for work in self._running:
                    work.look()
                self._board.show(count)
            with suppress(Exception):  # all is done, whatever becomes of the cluster
                self._workers.client.run(forget)
        finally:
            for work in self._running:
                work.close()

    def _count_workers(self) -> int:
        """Count them, and log where some have come or gone."""
        from napari_teramind.jobs.batch.local import log

        count = self._workers.count()
        if count != self._count:
            log.info("%d workers are there", count)
        self._count = count
        return count

    def _give_out(self, count: int) -> None:
        """Begin with jobs until every worker has enough to do."""
        from napari_teramind.jobs.batch.shared import SharedWork
        from napari_teramind.jobs.batch.works import WholeWork

        enough = max(_LEAST_TASKS, 2 * count)
        for line in self._board.of("waiting"):
            if sum(work.outstanding for work in self._running) >= enough:
                return
            line.state = "running"
            spec = line.job.spec
            shared = isinstance(spec, SimulateSpec) and spec.replicates == 1 and not spec.dry_run
            work = (SharedWork if shared else WholeWork)(line, self._desk)
            self._running.append(work)
            self._guarded(work, work.begin)

    def _take(self) -> None:
        """Take what has ended, if anything does soon."""
        try:
            work, future = self._landed.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            return
        self._workers.check()
        self._guarded(work, partial(work.land, future))

    def _guarded(self, work: Work, action: Callable[[], None]) -> None:
        """Let a job fail by what nobody foresaw, and the others go on."""
        try:
            action()
        except JobError:
            raise
        except Exception as error:
            self._workers.check()
            work.fail(error)


def _told(board: Board) -> list[dict[str, Any]]:
    return [line.to_dict() for line in board.lines]


def _outcome(batch: BatchFile, board: Board) -> Result:
    failed = board.of("failed")
    if failed:
        first = failed[0]
        what = first.message.rstrip(".")
        raise JobError(
            f"{len(failed)} of {len(board.lines)} jobs failed, the first of them "
            f"'{first.job.name}' ({what}); its log is {first.log}, and the same command does again "
            "what failed."
        )
    skipped = sum(line.skipped for line in board.lines)
    before = f", {skipped} of them before" if skipped else ""
    return {
        "path": str(batch.out),
        "jobs": _told(board),
        "summary": [f"{len(board.lines)} jobs are done{before}; their logs are in {batch.out}."],
    }

"""Jobs of a batch as tasks of a cluster: a whole job is one, a simulation as many as it has units.

These are the side of whoever carries out the batch: it alone publishes what workers wrote.
"""

from __future__ import annotations

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import JobError, UserError
from napari_teramind.jobs.batch import tasks
from napari_teramind.jobs.batch.board import Line, told_share
from napari_teramind.jobs.batch.cluster import lost
from napari_teramind.jobs.batch.session import Session
from napari_teramind.jobs.events import Event, Failed, Finished, Planned, Warned, parse_event
from napari_teramind.jobs.history import append_event
from napari_teramind.jobs.process import EVENTS_FILE, SPEC_FILE
from napari_teramind.jobs.specs import SimulateSpec, dump_spec

if TYPE_CHECKING:
    from distributed import Future

    from napari_teramind.brain import BrainStore
    from napari_teramind.brain.result import ResultWriter
    from napari_teramind.jobs.batch.cluster import Workers

_MOST_LOSSES = 3
"""Times in a row that a job's tasks may be given up without one of them done."""

Landed = Callable[["Work", "Future"], None]


@dataclass
class Desk:
    """What works need.

    Attributes
    ----------
    workers
        That do the tasks.
    session
        Of this time that the batch is carried out.
    landed
        Called, from a thread of dask's, with every task that has ended.
    warn
        Told what the user should know.
    """

    workers: Workers
    session: Session
    landed: Landed
    warn: Callable[[str], None]


class Work(ABC):
    """A job that is being done by a cluster.

    Parameters
    ----------
    line
        The job.
    desk
        What it needs.

    Attributes
    ----------
    last : Finished, Failed or None
        How it ended.
    """

    def __init__(self, line: Line, desk: Desk) -> None:
        self.line, self.desk = line, desk
        self.last: Finished | Failed | None = None
        self._tasks: dict[Future, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._losses = 0

    @property
    def outstanding(self) -> int:
        """Tasks that have not ended."""
        return len(self._tasks)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Give the cluster a task."""
        client = self.desk.workers.client
        # Earlier jobs first, so that they are done one after the other.
        future = client.submit(function, *arguments, pure=False, priority=-self.line.number)
        self._tasks[future] = (function, arguments)
        future.add_done_callback(lambda ended: self.desk.landed(self, ended))
        return future

    def land(self, future: Future) -> None:
        """Take what a task has come to."""
        task = self._tasks.pop(future, None)
        if task is None or self.last is not None:
            return
        if future.cancelled():  # not by us: the scheduler was gone for a while
            raise JobError(lost(self.desk.workers.text))
        error = future.exception()
        if error is None:
            self._losses = 0
            self.took(future, future.result())
        elif type(error).__name__ == "KilledWorker":
            self._again(future, task, "its workers die again and again, as when memory is short")
        elif isinstance(error, tasks.NotWantedError):
            folder = self.line.folder.parent.parent
            self._again(future, task, f"its workers do not see {folder}, which all must share")
        elif isinstance(error, UserError):
            self.end(Failed(message=str(error)))
        else:
            self.fail(error)

    def _again(
        self, future: Future, task: tuple[Callable[..., Any], tuple[Any, ...]], why: str
    ) -> Future | None:
        self._losses += 1
        if self._losses >= _MOST_LOSSES:
            self.end(Failed(message=f"The job was given up: {why}."))
            return None
        return self.submit(task[0], *task[1])

    def fail(self, error: BaseException) -> None:
        """End with an error that nobody foresaw; its details go into the log."""
        self.log("".join(traceback.format_exception(error)))
        reason = str(error).strip().splitlines()
        what = type(error).__name__ + (f": {reason[0].rstrip('.')}" if reason else "")
        message = f"The job failed unexpectedly ({what})."
        self.end(Failed(message=message, log=str(self.line.log)))

    def log(self, text: str) -> None:
        """Write a line into the job's log."""
        with self.line.log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def end(self, last: Finished | Failed) -> None:
        """Note how it ended, and leave what is not done yet."""
        self.last = last
        self.close()

    def close(self) -> None:
        """Take back the tasks that have not ended."""
        futures, self._tasks = list(self._tasks), {}
        if futures and self.desk.workers.client.status == "running":
            self.desk.workers.client.cancel(futures)

    @abstractmethod
    def begin(self) -> None:
        """Give the cluster the first task."""

    @abstractmethod
    def took(self, future: Future, value: Any) -> None:
        """Take the result of a task."""

    @abstractmethod
    def look(self) -> None:
        """Bring the board up to date."""


class WholeWork(Work):
    """A job that one worker does, in a process of its own."""

    def begin(self) -> None:
        """Give the cluster the job."""
        fields = self.line.job.spec.model_dump(mode="json")
        self.submit(tasks.do_job, str(self.line.folder), fields, self.desk.session.watch())

    def took(self, future: Future, value: Any) -> None:
        """Take its last event."""
        last = parse_event(_as_json(value))
        if isinstance(last, Finished | Failed):
            self.end(last)

    def look(self) -> None:
        """Read how far it is from its folder."""
        told = told_share(self.line.folder)
        if told is not None:
            self.line.message, self.line.share = told


class SharedWork(Work):
    """A simulation whose units the workers share.

    A unit owns whole shards and can be done by anyone, in any order, and again; only this side
    records them, so that two workers that do the same unit do no harm.
    """

    def __init__(self, line: Line, desk: Desk) -> None:
        super().__init__(line, desk)
        if not isinstance(line.job.spec, SimulateSpec):
            raise TypeError("only simulations are shared out")
        self._spec = line.job.spec
        self._name = str(self._spec.name)
        self._units: dict[Future, Any] = {}
        self._costs: dict[Any, int] = {}
        self._done = 0
        self._writer: ResultWriter | None = None
        self._new = False
        self._warned: set[str] = set()

    def begin(self) -> None:
        """Let a worker check and plan the job."""
        from napari_teramind import __version__
        from napari_teramind.brain import open_brain
        from napari_teramind.brain.runs import local_folder, settle

        self.line.folder.mkdir(parents=True, exist_ok=True)
        (self.line.folder / EVENTS_FILE).write_text("", encoding="utf-8")
        (self.line.folder / SPEC_FILE).write_text(dump_spec(self._spec), encoding="utf-8")
        try:
            self._brain: BrainStore = open_brain(self._spec.brain)
            local_folder(self._brain)
            settle(self._brain)
            began = self._began()
        except UserError as error:
            self.end(Failed(message=str(error)))
            return
        threads, precision = self.desk.workers.threads, None
        if began is not None:  # the same bytes need the same of both
            threads, precision = began["threads"], began["precision"]
        self._tell("Planning")
        self.submit(
            tasks.prepare_simulation, self._spec, __version__, threads, precision,
            self.desk.workers.sharing,
        )  # fmt: skip

    def _began(self) -> dict[str, Any] | None:
        """Return the provenance of the result, if it was begun."""
        if self._name not in self._brain.simulations.unfinished():
            return None
        found: dict[str, Any] = self._brain.simulations.growing(self._name).provenance
        return found

    def took(self, future: Future, value: Any) -> None:
        """Begin with the units, or take one."""
        try:
            if isinstance(value, tasks.Prepared):
                self._share_out(value)
            else:
                self._take(self._units.pop(future), value)
            if self.last is None and self.outstanding == 0:
                self._finish()
        except UserError as error:
            self.end(Failed(message=str(error)))

    def _share_out(self, prepared: tasks.Prepared) -> None:
        from napari_teramind.simulate.run import unit_target, work_units
        from napari_teramind.simulate.tissue import ActivePatches

        self._prepared = prepared
        self._event(Planned(text=prepared.text, details={"name": self._name}))
        self.log(prepared.text)
        if self._is_there():
            self._end_well(f"{self._brain.path}/simulations/{self._name} was there already.")
            return
        self._writer = writer = self._open()
        layout = prepared.layout
        units = work_units(writer, layout, workers=2 * max(1, self.desk.workers.count()))
        active = ActivePatches(self._brain, layout)
        self._costs = {
            unit: active.evaluations_of(unit.first, unit_target(writer, unit, layout.patch))
            for unit in units
        }
        self.log(f"{len(units)} units; {len(writer.done)} shards were there")
        for unit in units:
            self._submit_unit(unit)

    def _is_there(self) -> bool:
        """Whether the same was generated before, as when a batch was killed at its last moment."""
        from napari_teramind.simulate import Request

        if self._name not in self._brain.simulations:
            return False
        found, wanted = self._brain.simulations[self._name].provenance, self._prepared.provenance
        same = all(
            found.get(key) == wanted[key] for key in ("checkpoint_sha256", "precision", "threads")
        )
        return same and Request.from_dict(found["request"]) == self._prepared.layout.request

    def _open(self) -> ResultWriter:
        from napari_teramind.brain.result import ResultWriter
        from napari_teramind.simulate import Request

        layout, provenance = self._prepared.layout, self._prepared.provenance
        request = layout.request
        if self._name not in self._brain.simulations.unfinished():
            self._new = True
            return ResultWriter.create(
                self._brain, self._name, request.roi, request.slices, provenance,
                self._spec.overwrite,
            )  # fmt: skip
        writer = ResultWriter.resume(self._brain, self._name)
        same = (
            Request.from_dict(writer.provenance["request"]) == request
            and writer.provenance["checkpoint_sha256"] == provenance["checkpoint_sha256"]
        )
        if not same:
            writer.__exit__(None, None, None)
            raise UserError(
                f"'{self._name}' in {self._brain.path} was begun with other settings; choose "
                "another name."
            )
        return writer

    def _submit_unit(self, unit: Any) -> None:
        if self._writer is None:
            raise RuntimeError("no result is open")
        prepared, writer = self._prepared, self._writer
        slices = {z - prepared.layout.request.slices[0] for z in prepared.layout.wanted(unit.first)}
        done = frozenset(shard for shard in writer.done if shard[0] in slices)
        future = self.submit(
            tasks.generate, prepared.source, self._brain.path, str(writer.path), prepared.layout,
            unit, done, self.desk.session.watch(),
        )  # fmt: skip
        self._units[future] = unit

    def _again(
        self, future: Future, task: tuple[Callable[..., Any], tuple[Any, ...]], why: str
    ) -> Future | None:
        again = super()._again(future, task, why)
        if again is not None and future in self._units:
            self._units[again] = self._units.pop(future)
        return again

    def _take(self, unit: Any, made: tasks.Generated) -> None:
        """Record what a worker wrote."""
        if self._writer is None:
            raise RuntimeError("no result is open")
        for entry in made.entries:
            if entry.unit in self._writer.done:
                continue
            try:
                self._writer.adopt(entry)
            except ValueError as error:  # not on this computer's disk yet, or not at all
                self.log(str(error))
                self._warn(
                    "What a worker wrote cannot be read back here, so that it is done again; do "
                    "all computers share this brain's disk?"
                )
                self._losses += 1
                if self._losses >= _MOST_LOSSES:
                    raise UserError(
                        f"What workers write into {self._brain.path} cannot be read back here; "
                        "check that all computers share its disk."
                    ) from None
                self._submit_unit(unit)
                return
        self._done += self._costs[unit]
        self.log(
            f"slices from {unit.first}, rows {unit.rows[0]} to {unit.rows[1] - 1}, columns "
            f"{unit.columns[0]} to {unit.columns[1] - 1}: {made.seconds:.1f} s on {made.host}"
        )
        self._compare(made)
        self._tell("Generating")

    def _compare(self, made: tasks.Generated) -> None:
        """Say where a worker computes otherwise than the result says (DESIGN 4.9)."""
        if self._writer is None:
            raise RuntimeError("no result is open")
        differs = [
            key for key, value in made.computation.items() if self._writer.provenance[key] != value
        ]
        if differs and not self._warned & set(differs):
            self._warned |= set(differs)
            self._writer.update_provenance({"also_computed_with": made.computation})
            self._warn(
                f"A worker on {made.host} computes with other {' and '.join(differs)}; the last "
                "digit of values may differ between parts of the result."
            )
        if made.batch < self._prepared.layout.settings.batch:
            known = self._writer.provenance.get("batch_halved_to", made.batch + 1)
            if made.batch < known:
                self._writer.update_provenance({"batch_halved_to": made.batch})
                self._warn(
                    f"Memory ran out on {made.host}, so that {made.batch} patches were computed at "
                    "a time; the result may differ in the last digit from a run with more memory."
                )

    def _finish(self) -> None:
        if self._writer is None:
            raise RuntimeError("no result is open")
        path = self._writer.finish()
        self._writer = None
        self._end_well(f"Generated {path}.")

    def _end_well(self, sentence: str) -> None:
        path = f"{self._brain.path}/simulations/{self._name}"
        self.end(Finished(result={"path": path, "name": self._name, "summary": [sentence]}))

    def end(self, last: Finished | Failed) -> None:
        """Note how it ended, in its folder too."""
        super().end(last)
        self._event(last)
        self.log(last.message if isinstance(last, Failed) else " ".join(last.result["summary"]))

    def close(self) -> None:
        """Let another run have the result; one without a single shard is not kept."""
        super().close()
        writer, self._writer = self._writer, None
        if writer is not None:
            if self._new and not writer.done:
                writer.discard()
            writer.__exit__(None, None, None)

    def look(self) -> None:
        """Nothing to do: what is done is told as it comes."""

    def _tell(self, message: str) -> None:
        self.line.message = message
        total = sum(self._costs.values())
        self.line.share = self._done / total if total else 0.0

    def _warn(self, message: str) -> None:
        self._event(Warned(message=message))
        self.desk.warn(f"{self.line.job.name}: {message}")

    def _event(self, event: Event) -> None:
        append_event(self.line.folder / EVENTS_FILE, event)


def _as_json(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value)

"""A simulation of a batch as tasks of a cluster: its units, shared out among the workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.batch import tasks
from napari_teramind.jobs.batch.board import Line
from napari_teramind.jobs.batch.works import MOST_LOSSES, Desk, Work
from napari_teramind.jobs.events import Event, Failed, Finished, Planned, Warned
from napari_teramind.jobs.history import append_event
from napari_teramind.jobs.process import EVENTS_FILE, SPEC_FILE
from napari_teramind.jobs.specs import SimulateSpec, dump_spec

if TYPE_CHECKING:
    from distributed import Future

    from napari_teramind.brain import BrainStore
    from napari_teramind.brain.result import ResultWriter


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
        self._done = self._unread = 0
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
        self._tell("Planning")
        self.submit(
            tasks.prepare_simulation, self._spec, __version__, self.desk.workers.threads, began,
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
            # Results of earlier versions do not name their kernels: there was one form.
            found.get(key, "eager" if key == "kernels" else None) == wanted[key]
            for key in ("checkpoint_sha256", "precision", "threads", "kernels")
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
                self._unread += 1
                if self._unread >= MOST_LOSSES:
                    raise UserError(
                        f"What workers write into {self._brain.path} cannot be read back here; "
                        "check that all computers share its disk."
                    ) from None
                self._submit_unit(unit)
                return
        self._unread = 0
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

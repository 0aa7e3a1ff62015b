"""Stages of a study: each a job in a process of its own, done once, gone on with if interrupted."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.events import Failed, Finished, Progress, Warned
from napari_teramind.jobs.process import JobProcess
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import JobSpec, dump_spec
from napari_teramind.jobs.verbs.common import Result

BEGUN_FILE, DONE_FILE = "begun.json", "done.json"


class State(StrEnum):
    """How far a stage is.

    It is changed if it was begun or done, but with another specification, or before something that
    it builds on was done anew.
    """

    NEW = "new"
    BEGUN = "begun"
    DONE = "done"
    CHANGED = "changed"


class Stages:
    """Runs stages one after another, and leaves out those that are done.

    A stage is done if the same specification has ended well in this folder, and what it builds on
    has not been done anew since. What a stage left when it was killed is what its verb goes on
    from.

    Parameters
    ----------
    folder
        A folder of the study's own; a folder a stage.
    job
        Told how far the study is.
    """

    def __init__(self, folder: Path, job: JobContext) -> None:
        self._folder, self._job = folder, job

    def state(self, name: str, spec: JobSpec, after: Sequence[str] = ()) -> State:
        """Say how far a stage is; arguments as those of :meth:`run`."""
        folder, wanted = self._folder / name, self._wanted(spec, after)
        if not folder.exists():
            return State.NEW
        if wanted.items() <= _read(folder / DONE_FILE).items():
            return State.DONE
        begun = not (folder / DONE_FILE).exists() and wanted == _read(folder / BEGUN_FILE)
        return State.BEGUN if begun else State.CHANGED

    def run(
        self,
        name: str,
        words: str,
        spec: JobSpec,
        after: Sequence[str] = (),
        instead: Mapping[State, JobSpec] | None = None,
    ) -> Result:
        """Do a stage, if it is not done.

        Parameters
        ----------
        name
            The name of its folder.
        words
            What it does, for people.
        spec
            The job.
        after
            Names of the stages that it builds on.
        instead
            The job in its place where the stage was begun before, or has changed.

        Returns
        -------
        dict
            The job's result.

        Raises
        ------
        UserError
            If the job failed.
        """
        folder, wanted = self._folder / name, self._wanted(spec, after)
        state = self.state(name, spec, after)
        if state is State.DONE:
            return dict(_read(folder / DONE_FILE)["result"])
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        _write(folder / BEGUN_FILE, wanted)
        result = self._carry_out(folder, words, (instead or {}).get(state, spec))
        _write(folder / DONE_FILE, {**wanted, "result": result, "token": uuid.uuid4().hex})
        return result

    def _wanted(self, spec: JobSpec, after: Sequence[str]) -> dict[str, Any]:
        tokens = {name: _read(self._folder / name / DONE_FILE).get("token") for name in after}
        return {"spec": json.loads(dump_spec(spec)), "after": tokens}

    def _carry_out(self, folder: Path, words: str, spec: JobSpec) -> Result:
        self._job.report(words, 0, 0)
        with JobProcess(spec, folder, dies_with_parent=True) as process:
            for event in process.events(0.2):
                match event:
                    case Progress():
                        self._job.report(f"{words}: {event.message}", event.done, event.total)
                    case Warned():
                        self._job.warn(event.message)
                    case Failed():
                        raise UserError(f"{words} failed: {event.message}")
                    case Finished():
                        return event.result
        raise UserError(f"{words} ended without a result; its log is {process.log_path}.")


def _write(path: Path, content: dict[str, Any]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2), encoding="utf-8")
    new.replace(path)


def _read(path: Path) -> dict[str, Any]:
    """Return a record; empty if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

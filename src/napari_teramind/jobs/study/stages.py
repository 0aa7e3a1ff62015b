"""Stages of a study: each a job in a process of its own, done once, gone on with if interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.carrying import carry_out
from napari_teramind.jobs.events import Event, Failed, Progress, Warned
from napari_teramind.jobs.records import keep_done, read_done, replace_text
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import JobSpec, dump_spec
from napari_teramind.jobs.verbs.common import Result

BEGUN_FILE = "begun.json"


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
        done = read_done(folder)
        if wanted.items() <= done.items():
            return State.DONE
        return State.BEGUN if not done and wanted == _begun(folder) else State.CHANGED

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
            return dict(read_done(folder)["result"])
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        replace_text(folder / BEGUN_FILE, json.dumps(wanted))
        result = self._carry_out(folder, words, (instead or {}).get(state, spec))
        keep_done(folder, wanted, result)
        return result

    def _wanted(self, spec: JobSpec, after: Sequence[str]) -> dict[str, Any]:
        tokens = {name: read_done(self._folder / name).get("token") for name in after}
        return {"spec": json.loads(dump_spec(spec)), "after": tokens}

    def _carry_out(self, folder: Path, words: str, spec: JobSpec) -> Result:
        def tell(event: Event) -> None:
            if isinstance(event, Progress):
                self._job.report(f"{words}: {event.message}", event.done, event.total)
            elif isinstance(event, Warned):
                self._job.warn(event.message)

        self._job.report(words, 0, 0)
        last = carry_out(folder, spec, tell)
        if isinstance(last, Failed):
            raise UserError(f"{words} failed: {last.message}")
        return last.result


def _begun(folder: Path) -> Any:
    """Return what was wanted where a stage was begun; None if it was not."""
    try:
        return json.loads((folder / BEGUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

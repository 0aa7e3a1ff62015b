"""Stages of a study: each a job in a process of its own, done once, gone on with if interrupted."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.events import Failed, Finished, Progress, Warned
from napari_teramind.jobs.process import JobProcess
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import JobSpec, dump_spec
from napari_teramind.jobs.verbs.common import Result

DONE_FILE = "done.json"


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
        self.ran: list[str] = []
        self.skipped: list[str] = []

    def run(
        self,
        name: str,
        words: str,
        spec: JobSpec,
        again: JobSpec | None = None,
        after: Sequence[str] = (),
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
        again
            The job in its place where the stage was begun before, or done otherwise.
        after
            Names of the stages that it builds on.

        Returns
        -------
        dict
            The job's result.

        Raises
        ------
        UserError
            If the job failed.
        """
        folder = self._folder / name
        wanted = {
            "spec": json.loads(dump_spec(spec)),
            "after": {before: _done(self._folder / before)["token"] for before in after},
        }
        done = _done(folder)
        if wanted.items() <= done.items():
            self.skipped.append(name)
            return dict(done["result"])
        begun = folder.exists()
        if begun:
            shutil.rmtree(folder)
        result = self._carry_out(folder, words, again if begun and again is not None else spec)
        record = json.dumps({**wanted, "result": result, "token": uuid.uuid4().hex}, indent=2)
        new = folder / f"{DONE_FILE}.new"
        new.write_text(record, encoding="utf-8")
        new.replace(folder / DONE_FILE)
        self.ran.append(name)
        return result

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


def _done(folder: Path) -> dict[str, Any]:
    """Return the record of a stage; empty if it is not done."""
    try:
        found = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and {"spec", "after", "result", "token"} <= set(found)
    return found if whole else {}

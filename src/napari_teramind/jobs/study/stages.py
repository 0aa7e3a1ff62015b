"""Stages of a study: each a job in a process of its own, done once, gone on with if interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from napari_teramind.errors import UserError
from napari_teramind.jobs.carrying import carry_out
from napari_teramind.jobs.events import Event, Failed, Progress, Warned
from napari_teramind.jobs.records import keep_done, read_done
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import JobSpec, dump_spec
from napari_teramind.jobs.verbs.common import Result


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
            "after": {before: read_done(self._folder / before)["token"] for before in after},
        }
        done = read_done(folder)
        if wanted.items() <= done.items():
            self.skipped.append(name)
            return dict(done["result"])
        begun = folder.exists()
        if begun:
            shutil.rmtree(folder)
        result = self._carry_out(folder, words, again if begun and again is not None else spec)
        keep_done(folder, wanted, result)
        self.ran.append(name)
        return result

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

"""What each verb does: calls into the rooms, progress and results told as events."""

from __future__ import annotations

from importlib import import_module

from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import JobSpec
from napari_teramind.jobs.verbs.common import Result

# Verb, module and function: a verb's module is imported when it is asked for.
VERBS = {
    "import-merscope": ("brains", "run_import_merscope"),
    "import-omezarr": ("brains", "run_import_omezarr"),
    "import-tiles": ("brains", "run_import_tiles"),
    "import-table": ("brains", "run_import_table"),
    "import-spatialdata": ("brains", "run_import_spatialdata"),
    "import-draft": ("brains", "draft"),
    "quality": ("brains", "quality"),
    "reproduce": ("study", "run_reproduce"),
    "batch": ("study", "run_batch_file"),
    "phantom": ("brains", "phantom"),
    "info": ("brains", "info"),
    "checkpoint-convert": ("brains", "convert"),
    "checkpoint-get": ("checkpoints", "get"),
    "checkpoint-list": ("checkpoints", "list_checkpoints"),
    "train": ("train", "train"),
    "simulate": ("simulate", "simulate"),
    "attention": ("attention", "attention"),
    "structures": ("attention", "structures"),
    "atlas": ("atlas", "atlas"),
    "export": ("attention", "export"),
    "evaluate": ("evaluate", "evaluate"),
    "resume": ("simulate", "resume"),
    "jobs": ("jobs", "jobs"),
}


def execute(spec: JobSpec, job: JobContext) -> Result:
    """Do what a specification says, and return the result of its ``Finished`` event.

    Raises
    ------
    UserError
        If the user can mend what is wrong.
    """
    module, function = VERBS[spec.verb]
    run = getattr(import_module(f"napari_teramind.jobs.verbs.{module}"), function)
    result: Result = run(spec, job)
    return result

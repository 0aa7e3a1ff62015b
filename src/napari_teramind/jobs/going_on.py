"""What a job that was interrupted is to do when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def going_on(fields: Mapping[str, Any], result: str | None) -> dict[str, Any]:
    """Return the fields of the job that goes on where one was interrupted.

    Parameters
    ----------
    fields
        Of the specification of the job that was interrupted.
    result
        Name of what it generates, if it is a simulation.
    """
    again = {key: value for key, value in fields.items() if key != "preview_folder"}
    if again["verb"] == "train":
        again["resume"] = True
    elif again["verb"] == "phantom":  # what is there is this job's own, half made
        again["overwrite"] = False
    elif again["verb"] == "simulate" and _was_begun(again["brain"], result):
        again = {"verb": "resume", "brain": again["brain"], "name": result}
    return again


def _was_begun(brain: str, result: str | None) -> bool:
    from napari_teramind.brain import open_brain

    return result in open_brain(brain).simulations.unfinished()

"""Options that several verbs share, and running what the options say."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Option

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.jobs import JobSpec

Out = Annotated[Path, Option("--out", "-o", help="Where to write.", show_default=False)]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace what is there already.")]
Json = Annotated[bool, Option("--json", help="Tell events as JSON, one a line.")]
Seed = Annotated[int, Option(min=0, help="The same seed gives the same result.")]

Panel = Annotated[
    str | None,
    Option(help="Panel of genes: a CSV with a column 'gene', its web address, or a brain."),
]
Device = Annotated[str, Option(help="auto, cpu, cuda or mps.")]


def examples(*lines: str) -> str:
    """Return the end of a verb's help."""
    return "\n\n".join(["Examples:", *lines])


def run_verb(verb: str, context: typer.Context, **fields: Any) -> NoReturn:
    """Run a verb whose fields are the options of its command; ``fields`` replace some of them."""
    from napari_teramind.jobs.specs import build_spec

    options = dict(context.params)
    as_json = options.pop("json")
    options.pop("stain", None)  # comes as the field "stains"
    values = {"verb": verb, **options, **fields}
    run_spec(lambda: build_spec(values, "The command line"), as_json)


def run_spec(
    build: Callable[[], JobSpec], as_json: bool, log_folder: Path | None = None
) -> NoReturn:
    """Build a specification, run it here, and leave with its exit code."""
    from napari_teramind.jobs.console import json_sink, silent_sink, terminal_sink
    from napari_teramind.jobs.events import BAD_INPUT, Failed
    from napari_teramind.jobs.noting import noted
    from napari_teramind.jobs.runner import run_job

    # Set for the further processes of a training run, which are this command run again.
    helps_another = os.environ.get("LOCAL_RANK", "0") != "0"
    told = json_sink() if as_json else terminal_sink()
    with silent_sink() if helps_another else told as emit:
        try:
            spec = build()
        except UserError as error:
            emit(Failed(message=str(error), exit_code=BAD_INPUT))
            raise typer.Exit(BAD_INPUT) from None
        with nullcontext(emit) if helps_another else noted(spec, emit) as told_on:
            code = run_job(spec, told_on, log_folder)
        raise typer.Exit(code)


def pairs(options: Sequence[str], value_name: str) -> dict[str, str]:
    """Read ``["PolyT=Cellbound2"]`` as ``{"PolyT": "Cellbound2"}``."""
    found = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals and value):
            raise typer.BadParameter(
                f"'{option}' is not of the form NAME={value_name}.", param_hint="--stain"
            )
        if key in found:
            raise typer.BadParameter(f"'{key}' is given twice.", param_hint="--stain")
        found[key] = value
    return found


def gathered(options: Sequence[str], value_name: str) -> dict[str, list[str]]:
    """Read ``["DAPI=a.tif", "DAPI=b.tif"]`` as ``{"DAPI": ["a.tif", "b.tif"]}``."""
    found: dict[str, list[str]] = {}
    for option in options:
        for key, value in pairs([option], value_name).items():
            found.setdefault(key, []).append(value)
    return found


def numbers(option: str, text: str | None, form: str) -> tuple[int, ...] | None:
    """Read ``"0,512,0,512"`` or ``"0:2"``, given the form ``"y0,y1,x0,x1"`` or ``"z0:z1"``."""
    if text is None:
        return None
    separator = ":" if ":" in form else ","
    try:
        found = tuple(int(part) for part in text.split(separator))
    except ValueError:
        found = ()
    if len(found) != len(form.split(separator)):
        raise typer.BadParameter(
            f"'{text}' is not of the form {form} in whole numbers.", param_hint=option
        )
    return found


def decimals(option: str, text: str | None) -> list[float] | None:
    """Read ``"0,100,215.5"``."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is not a list of numbers with commas between them.", param_hint=option
        ) from None


ROI = "y0,y1,x0,x1"
SLICES = "z0:z1"

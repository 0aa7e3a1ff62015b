"""Verbs of whole studies: ``reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from napari_teramind.cli.app import app
from napari_teramind.cli.options import Json, examples, run_verb


@app.command(
    epilog=examples("teramind reproduce study.toml", "teramind reproduce study.toml --json")
)
def reproduce(
    context: typer.Context,
    study: Annotated[Path, Argument(help="The study, a TOML file.", show_default=False)],
    json: Json = False,
) -> None:
    """Carry out the paper's protocol: train, generate, evaluate, attend, report.

    Every stage is a job of its own; what is done is not done again, and what was interrupted goes
    on when the same command is given again.
    """
    run_verb("reproduce", context)

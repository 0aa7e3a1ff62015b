"""Verbs that carry out many jobs: ``reproduce``, ``batch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

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


@app.command(
    epilog=examples(
        "teramind batch jobs.toml --dry-run",
        "teramind batch jobs.toml --workers 2",
        "teramind batch jobs.toml --scheduler tcp://10.0.0.1:8786",
    )
)
def batch(
    context: typer.Context,
    batch: Annotated[Path, Argument(help="The batch, a TOML file.", show_default=False)],
    workers: Annotated[
        int | None,
        Option(min=1, help="Workers here, or of the file's cluster.", show_default=False),
    ] = None,
    scheduler: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            help="A dask scheduler that runs already, in place of the file's cluster.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="List the jobs, and end.")] = False,
    json: Json = False,
) -> None:
    """Carry out many jobs: grids over brains, regions, seeds, gene pairs; here or on a cluster.

    What is done is not done again, and what was interrupted goes on when the same command is given
    again.
    """
    run_verb("batch", context)

"""The verbs ``run``, a job from a file, and ``jobs``, those that run or have run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import Json, examples, run_spec, run_verb


@app.command("run", epilog=examples("teramind run job.toml", "teramind run job.json --json"))
def run_file(
    job: Annotated[Path, Argument(help="TOML or JSON with 'verb' and its fields.")],
    log_folder: Annotated[
        Path | None, Option(help="Where an unexpected failure leaves its details.")
    ] = None,
    follow_stdin: Annotated[
        bool, Option("--follow-stdin", help="Cancel when standard input is closed.")
    ] = False,
    low_priority: Annotated[
        bool, Option("--low-priority", help="Let other programs on this computer go first.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a job from a file; paths in it count from the file's folder."""
    from napari_teramind.jobs.priority import let_others_first
    from napari_teramind.jobs.process import end_with_stdin
    from napari_teramind.jobs.specs import load_spec

    if follow_stdin:
        end_with_stdin()
    if low_priority:
        let_others_first()
    run_spec(lambda: load_spec(job), json, log_folder)


@app.command(
    epilog=examples("teramind jobs", "teramind jobs 3fa2c1", "teramind jobs 3fa2c1 --cancel")
)
def jobs(
    context: typer.Context,
    job: Annotated[str | None, Argument(help="One of them, by its name.")] = None,
    cancel: Annotated[bool, Option("--cancel", help="End it.")] = False,
    resume: Annotated[bool, Option("--resume", help="Go on with it, in the background.")] = False,
    top: Annotated[int, Option(min=1, help="How many to list.")] = 15,
    json: Json = False,
) -> None:
    """List the jobs that run or have run, from panels and from here; cancel or resume one."""
    if cancel and resume:
        raise typer.BadParameter("choose one of them.", param_hint="--cancel and --resume")
    if job is None and (cancel or resume):
        raise typer.BadParameter("name the job.", param_hint="--cancel" if cancel else "--resume")
    for option in ("cancel", "resume"):
        context.params.pop(option)
    run_verb("jobs", context, action="cancel" if cancel else "resume" if resume else "show")

"""The verb ``run``: a job from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import Json, examples, run_spec


@app.command("run", epilog=examples("teramind run job.toml", "teramind run job.json --json"))
def run_file(
    job: Annotated[Path, Argument(help="TOML or JSON with 'verb' and its fields.")],
    log_folder: Annotated[
        Path | None, Option(help="Where an unexpected failure leaves its details.")
    ] = None,
    follow_stdin: Annotated[
        bool, Option("--follow-stdin", help="Cancel when standard input is closed.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a job from a file; paths in it count from the file's folder."""
    from napari_teramind.jobs.process import end_with_stdin
    from napari_teramind.jobs.specs import load_spec

    if follow_stdin:
        end_with_stdin()
    run_spec(lambda: load_spec(job), json, log_folder)

"""Verbs about brains and checkpoints as such: ``phantom``, ``info``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import Json, Out, Overwrite, Seed, examples, run_verb


@app.command(
    epilog=examples(
        "teramind phantom -o main.zarr",
        "teramind phantom -o supp.zarr --animal supp_m --size XS --seed 1",
    )
)
def phantom(
    context: typer.Context,
    out: Out,
    animal: Annotated[
        Literal["main", "supp_m", "supp_f"], Option(help="Which of the three animals.")
    ] = "main",
    size: Annotated[
        Literal["XS", "S", "M", "L"], Option(help="From seconds (XS) to a whole slice (L).")
    ] = "S",
    seed: Seed = 0,
    atlas: Annotated[
        str | None,
        Option(help="Annotation volume, or BrainGlobe's name of an atlas, to build on."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a procedural mouse brain: anatomy, cells, transcripts, stains."""
    run_verb("phantom", context)


@app.command(epilog=examples("teramind info brain.zarr", "teramind info network.safetensors"))
def info(
    context: typer.Context,
    path: Annotated[str, Argument(help="A brain or a checkpoint.", show_default=False)],
    json: Json = False,
) -> None:
    """Say what a brain or a checkpoint holds."""
    run_verb("info", context)


@app.command(epilog=examples("teramind quality brain.zarr -o slices.html"))
def quality(
    context: typer.Context,
    brain: Annotated[str, Argument(help="The brain.", show_default=False)],
    out: Out,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a page with a picture of every slice, and what stands out, to be looked at.

    Look at it before you train or generate: slices that are turned over, empty or misplaced are
    seen there.
    """
    run_verb("quality", context)

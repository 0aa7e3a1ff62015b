"""The verb ``atlas``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import Json, examples, run_verb


@app.command(
    epilog=examples(
        "teramind atlas",
        "teramind atlas allen_mouse_25um",
        "teramind atlas allen_ccf/annotation_25um.tif --find VTA",
    )
)
def atlas(
    context: typer.Context,
    source: Annotated[
        str | None,
        Argument(help="BrainGlobe's name of an atlas, or an annotation volume (TIFF, NIfTI)."),
    ] = None,
    structures: Annotated[
        Path | None,
        Option(help="Table of structures (CSV); structures.csv beside the volume if not given."),
    ] = None,
    find: Annotated[str | None, Option(help="Acronym, or a part of a name.")] = None,
    top: Annotated[int, Option(min=1, help="Structures to list.")] = 15,
    json: Json = False,
) -> None:
    """Open an atlas and search its structures; without a SOURCE, list BrainGlobe's atlases.

    BrainGlobe's atlases are fetched once and kept.
    """
    run_verb("atlas", context)

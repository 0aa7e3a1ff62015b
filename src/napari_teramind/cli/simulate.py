"""The verb ``simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import (
    ROI,
    SLICES,
    Device,
    Json,
    Overwrite,
    Panel,
    Seed,
    examples,
    numbers,
    run_verb,
)


@app.command(
    epilog=examples(
        "teramind simulate brain.zarr --checkpoint network.safetensors --roi 0,512,0,512"
        " --slices 0:2 --name first",
        "teramind simulate brain.zarr --checkpoint network.safetensors --dry-run",
    )
)
def simulate(
    context: typer.Context,
    brain: Annotated[str, Argument(help="The brain.", show_default=False)],
    checkpoint: Annotated[Path, Option(help="The trained network.", show_default=False)],
    roi: Annotated[
        str | None,
        Option(metavar=ROI, help="Pixels; the whole plane if not given."),
    ] = None,
    slices: Annotated[str | None, Option(metavar=SLICES, help="Slices; all if not given.")] = None,
    name: Annotated[
        str | None, Option(help="Name of the result in the brain; made up if not given.")
    ] = None,
    genes: Panel = None,
    seed: Seed = 0,
    steps: Annotated[int, Option(min=1, max=1000, help="Diffusion steps; published: 15.")] = 15,
    sampler: Annotated[Literal["ddim"], Option(help="How a step is taken.")] = "ddim",
    halo: Annotated[
        str,
        Option(metavar="exact|N", help="Patches computed around the ROI; 'exact': all that count."),
    ] = "exact",
    noise: Annotated[
        Literal["philox", "published"], Option(help="Same noise for any ROI, or as published.")
    ] = "philox",
    device: Device = "auto",
    dry_run: Annotated[bool, Option("--dry-run", help="Say what it would take, and end.")] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Generate the stains of a region from its gene expression."""
    run_verb(
        "simulate",
        context,
        roi=numbers("--roi", roi, ROI),
        slices=numbers("--slices", slices, SLICES),
    )

"""The verbs ``simulate`` and ``resume``."""

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
from napari_teramind.model.config import KernelsWish
from napari_teramind.model.packaged import PACKAGED


@app.command(
    epilog=examples(
        "teramind simulate brain.zarr --checkpoint network.safetensors --roi 0,512,0,512"
        " --slices 0:2 --name first",
        "teramind simulate brain.zarr --checkpoint network.safetensors --dry-run",
        "teramind simulate brain.zarr --roi 0,512,0,512 --slices 0:2 --edit Th=0@VTA",
    )
)
def simulate(
    context: typer.Context,
    brain: Annotated[str, Argument(help="The brain.", show_default=False)],
    checkpoint: Annotated[
        Path, Option(help="The trained network; by default the one that comes with the package.")
    ] = Path(PACKAGED),
    roi: Annotated[
        str | None,
        Option(metavar=ROI, help="Pixels; the whole plane if not given."),
    ] = None,
    slices: Annotated[str | None, Option(metavar=SLICES, help="Slices; all if not given.")] = None,
    structure: Annotated[
        list[str] | None,
        Option(
            metavar="ACRONYM",
            help="Generate this structure only. Can be given several times.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, Option(help="Name of the result in the brain; made up if not given.")
    ] = None,
    genes: Panel = None,
    seed: Seed = 0,
    steps: Annotated[int, Option(min=1, max=1000, help="Diffusion steps; published: 15.")] = 15,
    sampler: Annotated[
        Literal["ddim", "dpm++2m"],
        Option(help="How a step is taken: as published, or DPM-Solver++, which needs fewer."),
    ] = "ddim",
    halo: Annotated[
        str,
        Option(metavar="exact|N", help="Patches computed around the ROI; 'exact': all that count."),
    ] = "exact",
    noise: Annotated[
        Literal["philox", "published"], Option(help="Same noise for any ROI, or as published.")
    ] = "philox",
    where: Annotated[
        Literal["tissue", "all"], Option(help="Compute where there is tissue, or everywhere.")
    ] = "tissue",
    edit: Annotated[
        list[str] | None,
        Option(
            metavar="GENE=N|GENE*N[@WHERE]",
            help="Change counts as they are read: GENE=0 knocks out, @ names a structure or pixels"
            f" {ROI}. Can be given several times.",
            show_default=False,
        ),
    ] = None,
    replicates: Annotated[
        int, Option(min=1, help="Samples with seeds that follow each other; with mean and SD.")
    ] = 1,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Option(help="auto: bfloat16 on CUDA, float32 elsewhere."),
    ] = "auto",
    kernels: Annotated[
        KernelsWish,
        Option(help="compiled: faster, with a C++ compiler; auto: on a CPU, if there is one."),
    ] = "auto",
    workers: Annotated[int, Option(min=1, help="Processes; on GPUs, one a GPU.")] = 1,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what it would take, and end.")] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Generate the stains of a region from its gene expression."""
    for option in ("edit", "structure"):
        context.params.pop(option)
    run_verb(
        "simulate",
        context,
        edits=edit or [],
        structures=structure or [],
        roi=numbers("--roi", roi, ROI),
        slices=numbers("--slices", slices, SLICES),
    )


@app.command(
    epilog=examples(
        "teramind resume brain.zarr",
        "teramind resume brain.zarr --name first --checkpoint moved/network.safetensors",
    )
)
def resume(
    context: typer.Context,
    brain: Annotated[str, Argument(help="The brain.", show_default=False)],
    name: Annotated[
        str | None, Option(help="The simulation; not needed where only one is unfinished.")
    ] = None,
    checkpoint: Annotated[
        Path | None, Option(help="The network, where its file has moved.", show_default=False)
    ] = None,
    device: Annotated[
        str | None, Option(help="auto, cpu, cuda or mps; as begun if not given.")
    ] = None,
    workers: Annotated[int | None, Option(min=1, help="Processes; as begun if not given.")] = None,
    json: Json = False,
) -> None:
    """Go on with a simulation that was interrupted."""
    run_verb("resume", context)

"""The verb ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import ROI, Device, Json, Panel, Seed, examples, numbers, run_verb


@app.command(
    epilog=examples(
        "teramind train supp_m.zarr supp_f.zarr -o run --steps 2000",
        "teramind train liver.zarr -o run --exclude 256,512,256,512 --time-limit 300",
        "teramind train liver.zarr -o run --exclude 256,512,256,512 --resume",
    )
)
def train(
    context: typer.Context,
    brains: Annotated[list[str], Argument(help="Brains to learn from.", show_default=False)],
    out: Annotated[Path, Option("--out", "-o", help="Folder of the run, new.", show_default=False)],
    channels: Annotated[int, Option(help="Base channels: the network's size.")] = 16,
    gene_slices: Annotated[
        int, Option("--gene-slices", "-S", help="Gene window S: 1, 4, 8 or 16.")
    ] = 4,
    patch: Annotated[int, Option(help="Side of a patch in px: 32, 64 or 128.")] = 64,
    prediction: Annotated[
        Literal["epsilon", "v"],
        Option(help="What the network predicts: the noise, as published, or the velocity."),
    ] = "v",
    genes: Panel = None,
    crop: Annotated[
        int | None, Option(help="Side of a training crop in px; 256, or 128 for patches of 32.")
    ] = None,
    exclude: Annotated[
        str | None, Option(metavar=ROI, help="Pixels to hold out, in every slice.")
    ] = None,
    batch: Annotated[int, Option(min=1, help="Samples in one evaluation.")] = 8,
    accumulate: Annotated[int, Option(min=1, help="Evaluations in one step.")] = 1,
    steps: Annotated[int, Option(min=1, help="Optimiser steps.")] = 2000,
    learning_rate: Annotated[float, Option("--learning-rate", "--lr")] = 5e-4,
    ema: Annotated[
        float, Option(help="Decay of the average of the weights; 0: no average.")
    ] = 0.995,
    precision: Annotated[Literal["float32", "bfloat16"], Option()] = "float32",
    time_limit: Annotated[
        float | None, Option(help="Seconds after which training ends, saved.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Annotated[bool, Option("--resume", help="Go on with the run in the folder.")] = False,
    json: Json = False,
) -> None:
    """Fit a network to brains."""
    run_verb("train", context, exclude=numbers("--exclude", exclude, ROI))

"""The verb ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import Device, Json, Overwrite, examples, run_verb


@app.command(
    epilog=examples(
        "teramind evaluate brain.zarr --result first -o metrics.csv",
        "teramind evaluate brain.zarr --result first --against brain.zarr/second"
        " --structures -o metrics.parquet",
        "teramind evaluate brain.zarr --result first --inception"
        " pt_inception-2015-12-05-6726825d.pth",
        "teramind evaluate brain.zarr --expression expression.csv",
    )
)
def evaluate(
    context: typer.Context,
    brain: Annotated[str, Argument(help="The brain.", show_default=False)],
    result: Annotated[
        str | None, Option(help="A simulation of it; not needed where there is only one.")
    ] = None,
    against: Annotated[
        str | None,
        Option(metavar="BRAIN/RESULT", help="A simulation in place of the real stains."),
    ] = None,
    out: Annotated[
        Path | None,
        Option("--out", "-o", help="The whole table: .csv, .parquet or .json."),
    ] = None,
    structures: Annotated[
        bool, Option("--structures", help="Measure every structure too.")
    ] = False,
    nuclei: Annotated[
        Literal["watershed", "cellpose", "none"], Option(help="How nuclei are found.")
    ] = "watershed",
    cellpose_weights: Annotated[
        Path | None, Option(help="Weights for --nuclei cellpose; they are not fetched.")
    ] = None,
    inception: Annotated[
        Path | None,
        Option(help="Weights for FID and sFID (pytorch-fid's state dict); they are not fetched."),
    ] = None,
    expression: Annotated[
        Path | None,
        Option(help="Write mean log2(count + 1) by structure and gene: .csv or .parquet."),
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Say how good a generated result is: PSNR, SSIM, grey levels, nuclei, texture.

    Compared is what both images have, where there is tissue.
    """
    run_verb("evaluate", context)

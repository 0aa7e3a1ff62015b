"""The verb ``export``."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.attention import Brain, MapName
from napari_teramind.cli.options import SLICES, Json, Out, Overwrite, examples, numbers, run_verb


@app.command(
    epilog=examples(
        "teramind export brain.zarr attention/Nr4a2-Th -o map.ome.tif",
        "teramind export brain.zarr attention/Nr4a2-Th --channel 'Nr4a2-Th ensemble Th'"
        " -o map.nii.gz",
        "teramind export brain.zarr attention/Nr4a2-Th -o structures.csv",
        "teramind export brain.zarr attention/Nr4a2-Th -o figure.png",
        "teramind export brain.zarr simulations/first -o first.ome.tif",
    )
)
def export(
    context: typer.Context,
    brain: Brain,
    image: Annotated[
        str,
        Argument(
            help="stains, genes, structures, attention/<name>, simulations/<name>.",
            show_default=False,
        ),
    ],
    out: Out,
    channel: Annotated[
        list[str] | None, Option(help="Name of a channel; all if not given; may be repeated.")
    ] = None,
    level: Annotated[int, Option(min=0, help="Finest level to write; 0: full resolution.")] = 0,
    slices: Annotated[
        str | None, Option(metavar=SLICES, help="Slices of the image; all if not given.")
    ] = None,
    pair: Annotated[
        str | None, Option(help="The pair of a figure; the first if not given.")
    ] = None,
    map_name: Annotated[MapName, Option("--map", help="The map of a figure.")] = "ensemble",
    slice_: Annotated[
        int | None, Option("--slice", help="The slice of a figure; the brightest if not given.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a file for other programs; its ending says which.

    .ome.tif: pyramidal OME-TIFF. .nii, .nii.gz: NIfTI. .zarr: OME-Zarr. .csv, .parquet: table of
    structures. .png: figure.
    """
    for name in ("channel", "map_name", "slice_"):
        del context.params[name]
    run_verb(
        "export",
        context,
        channels=channel or None,
        map=map_name,
        slice=slice_,
        slices=numbers("--slices", slices, SLICES),
    )

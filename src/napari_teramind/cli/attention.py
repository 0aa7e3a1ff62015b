"""The verbs ``attention`` and ``structures``."""

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
    examples,
    numbers,
    run_verb,
)
from napari_teramind.model.packaged import PACKAGED

Brain = Annotated[str, Argument(help="The brain.", show_default=False)]
Region = Annotated[str | None, Option(metavar=ROI, help="Pixels; the whole plane if not given.")]
Planes = Annotated[str | None, Option(metavar=SLICES, help="Slices; all if not given.")]
MapName = Literal["previous-current", "current-next", "ensemble"]
Structure = Annotated[
    list[str] | None,
    Option("--structure", help="Acronym, as VTA, with all that is in it; may be repeated."),
]


@app.command(
    epilog=examples(
        "teramind attention main.zarr --pair Nr4a2,Th",
        "teramind attention brain.zarr --checkpoint network.safetensors --pair GLUT --pair BLOD"
        " --structure CTX --name cortex",
    )
)
def attention(
    context: typer.Context,
    brain: Brain,
    pair: Annotated[
        list[str],
        Option(
            metavar="A,B|GLUT|DOPA|BLOD",
            help="Two genes, or a pair of the paper; may be repeated.",
            show_default=False,
        ),
    ],
    checkpoint: Annotated[
        Path, Option(help="The trained network; by default the one that comes with the package.")
    ] = Path(PACKAGED),
    roi: Region = None,
    slices: Planes = None,
    structure: Structure = None,
    maps: Annotated[
        list[str] | None,
        Option(
            "--map",
            metavar="previous-current|current-next|ensemble",
            help="Which maps; all if not given; may be repeated.",
        ),
    ] = None,
    name: Annotated[
        str | None, Option(help="Name of the result in the brain; the first pair if not given.")
    ] = None,
    genes: Panel = None,
    device: Device = "auto",
    dry_run: Annotated[bool, Option("--dry-run", help="Say what it would take, and end.")] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compute where pairs of genes attend to each other; a killed run goes on when run again."""
    del context.params["pair"], context.params["structure"]
    run_verb(
        "attention",
        context,
        pairs=pair,
        structures=structure or None,
        maps=maps or None,
        roi=numbers("--roi", roi, ROI),
        slices=numbers("--slices", slices, SLICES),
    )


@app.command(
    epilog=examples(
        "teramind structures brain.zarr --result Nr4a2-Th -o table.csv",
        "teramind structures brain.zarr --result Nr4a2-Th --quantity A --against other.zarr",
        "teramind structures brain.zarr --all-pairs --checkpoint network.safetensors"
        " --structure VTA",
        "teramind structures brain.zarr --all-pairs --checkpoint network.safetensors --pair DOPA",
    )
)
def structures(
    context: typer.Context,
    brain: Brain,
    result: Annotated[
        str | None, Option(help="An attention result; not needed where there is only one.")
    ] = None,
    against: Annotated[
        list[str] | None,
        Option(help="Another brain with a result of that name: do the ranks agree?"),
    ] = None,
    pair: Annotated[
        str | None, Option(metavar="A,B|GLUT|DOPA|BLOD", help="The pair; the first if not given.")
    ] = None,
    map_name: Annotated[MapName, Option("--map", help="Which map.")] = "ensemble",
    quantity: Annotated[
        Literal["attention", "A", "expression"],
        Option(help="Rank by A times counts, by A alone, or by counts."),
    ] = "attention",
    all_pairs: Annotated[
        bool, Option("--all-pairs", help="Mean gene x gene attention of every structure.")
    ] = False,
    checkpoint: Annotated[Path | None, Option(help="The trained network, for all pairs.")] = None,
    structure: Structure = None,
    roi: Region = None,
    slices: Planes = None,
    atlas: Annotated[
        str | None,
        Option(help="Annotation volume, or BrainGlobe's name of an atlas, in place of the labels."),
    ] = None,
    transforms: Annotated[
        Path | None, Option(help="JSON file that lays the atlas over the slices.")
    ] = None,
    trend: Annotated[
        bool, Option("--trend", help="Say how attention goes with counts, map by map.")
    ] = False,
    top: Annotated[int, Option(min=1, help="Rows to show.")] = 15,
    out: Annotated[
        Path | None,
        Option("--out", "-o", help="The whole table: .csv or .parquet (.npz for all pairs)."),
    ] = None,
    genes: Panel = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Sum attention up by structure: which stand out, do brains agree, which genes interact."""
    del context.params["structure"], context.params["map_name"]
    run_verb(
        "structures",
        context,
        map=map_name,
        against=against or [],
        structures=structure or None,
        roi=numbers("--roi", roi, ROI),
        slices=numbers("--slices", slices, SLICES),
    )

"""Verbs that make a brain from files: ``teramind import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from napari_teramind.cli.app import import_app
from napari_teramind.cli.options import (
    Json,
    Out,
    Overwrite,
    Panel,
    decimals,
    examples,
    gathered,
    pairs,
    run_verb,
)

Percentiles = Annotated[
    tuple[float, float],
    Option(metavar="LOW HIGH", help="Percentiles that become 0 and 255 in 8 bit."),
]
Name = Annotated[
    str | None, Option(help="Name of the brain; that of the file if not given.", show_default=False)
]


@import_app.command(
    epilog=examples(
        "teramind import merscope region_0 -o brain.zarr",
        "teramind import merscope region_0 --stain PolyT=Cellbound2 --planes slices -o liver.zarr",
        "teramind import merscope slices.toml -o brain.zarr",
    )
)
def merscope(
    context: typer.Context,
    regions: Annotated[
        list[Path],
        Argument(
            help="Region folders, one a slice, in order; or a manifest (.toml) that also says how "
            "slices are registered.",
            show_default=False,
        ),
    ],
    out: Out,
    stain: Annotated[
        list[str],
        Option(metavar="NAME=FILE", help="Which file's stain stands for DAPI or PolyT."),
    ] = [],  # noqa: B006  # typer copies it
    planes: Annotated[
        Literal["project", "slices"],
        Option(help="Focal planes become one slice by projection, or a slice each."),
    ] = "project",
    project: Annotated[Literal["max", "mean"], Option(help="How planes are projected.")] = "max",
    percentiles: Percentiles = (0.1, 99.9),
    slice_spacing: Annotated[
        float | None, Option(help="Distance of slices in um.", show_default=False)
    ] = None,
    region_spacing: Annotated[
        float, Option(help="Distance of regions in um, where their planes are slices.")
    ] = 100.0,
    genes: Panel = None,
    name: Name = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a brain from MERSCOPE region folders, as the instrument writes them."""
    run_verb(
        "import-merscope",
        context,
        stains={"DAPI": "DAPI", "PolyT": "PolyT"} | pairs(stain, "FILE"),
    )


@import_app.command(
    epilog=examples(
        "teramind import omezarr --stain DAPI=a.zarr --stain PolyT=b.zarr --genes c.zarr"
        " -o brain.zarr",
        "teramind import omezarr --stain DAPI=a.zarr#0 --stain PolyT=a.zarr#1 --genes c.zarr"
        " --gene-list panel.csv --tissue mask.zarr --slice-positions 0,100,215 -o brain.zarr",
    )
)
def omezarr(
    context: typer.Context,
    out: Out,
    stain: Annotated[
        list[str],
        Option(metavar="NAME=IMAGE", help="A stain and its OME-Zarr image.", show_default=False),
    ],
    genes: Annotated[
        str, Option(help="OME-Zarr image of counts, a channel a gene.", show_default=False)
    ],
    gene_list: Annotated[
        str | None,
        Option(
            help="Names of its channels: a CSV with a column 'gene', or a brain that has them; "
            "its own channel labels if not given.",
            show_default=False,
        ),
    ] = None,
    structures: Annotated[
        str | None, Option(help="OME-Zarr label image of structures.", show_default=False)
    ] = None,
    tissue: Annotated[
        str | None, Option(help="OME-Zarr label image of the tissue.", show_default=False)
    ] = None,
    slice_positions: Annotated[
        str | None,
        Option(
            metavar="Z0,Z1,...",
            help="True z position of every slice in um; even spacing if not given.",
            show_default=False,
        ),
    ] = None,
    percentiles: Percentiles = (0.1, 99.9),
    name: Name = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a brain from separate OME-Zarr images that lie on one another."""
    run_verb(
        "import-omezarr",
        context,
        stains=pairs(stain, "IMAGE"),
        slice_positions=decimals("--slice-positions", slice_positions),
    )


@import_app.command(
    epilog=examples(
        "teramind import tiles gene_638850 --images img_638850 --genes 63885_gnm.csv -o brain.zarr"
    )
)
def tiles(
    context: typer.Context,
    gene_folder: Annotated[
        Path, Argument(help="Folder of gene tiles, as gene_638850.", show_default=False)
    ],
    out: Out,
    genes: Annotated[
        str,
        Option(help="Names of the tiles' genes: a CSV with a column 'gene'.", show_default=False),
    ],
    images: Annotated[
        Path | None, Option(help="Folder of image tiles, as img_638850.", show_default=False)
    ] = None,
    stains: Annotated[
        list[str] | None, Option("--stain", help="A stain of the images, in their order.")
    ] = None,
    name: Name = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a brain from the published training tiles."""
    run_verb("import-tiles", context, stains=stains or ["DAPI", "PolyT"])


@import_app.command(
    epilog=examples(
        "teramind import table transcripts.csv.gz --stain DAPI=dapi.ome.tif"
        " --stain PolyT=stains.ome.tif#2 -o brain.zarr",
        "teramind import table transcripts.parquet --gene feature_name --x x_location"
        " --y y_location --stain DAPI=morphology.ome.tif --pixel-size 0.2125 -o brain.zarr",
        "teramind import table spots.csv --slice section --stain DAPI=1.tif --stain DAPI=2.tif"
        " --unit px --pixel-size 0.108 -o brain.zarr",
    )
)
def table(
    context: typer.Context,
    tables: Annotated[
        list[Path],
        Argument(
            help="CSV (also .gz) or Parquet, or folders of Parquet files; one a slice, in order, "
            "unless --slice or --z tell slices apart.",
            show_default=False,
        ),
    ],
    out: Out,
    gene: Annotated[
        str | None, Option(help="Column of genes.", show_default="by name, as feature_name")
    ] = None,
    x: Annotated[
        str | None, Option("--x", help="Column of x.", show_default="by name, as global_x")
    ] = None,
    y: Annotated[
        str | None, Option("--y", help="Column of y.", show_default="by name, as global_y")
    ] = None,
    z: Annotated[
        str | None,
        Option("--z", help="Column of heights in um: each is a slice.", show_default=False),
    ] = None,
    slice_column: Annotated[
        str | None,
        Option("--slice", help="Column whose values are the slices.", show_default=False),
    ] = None,
    stain: Annotated[
        list[str],
        Option(
            metavar="NAME=IMAGE",
            help="A stain and its image, TIFF or OME-Zarr, with #channel where it has several; "
            "again for the next slice, or one whose z axis are the slices. Black if not given.",
        ),
    ] = [],  # noqa: B006  # typer copies it
    unit: Annotated[
        Literal["um", "px"], Option(help="Unit of the coordinates: um, or pixels of the images.")
    ] = "um",
    pixel_size: Annotated[
        float | None,
        Option(help="Size of the images' pixels in um.", show_default="as the images state"),
    ] = None,
    origin: Annotated[
        str | None,
        Option(
            metavar="X,Y",
            help="Coordinates of the table where the images begin.",
            show_default="0,0, or as OME-Zarr states",
        ),
    ] = None,
    project: Annotated[Literal["max", "mean"], Option(help="How planes are projected.")] = "max",
    percentiles: Percentiles = (0.1, 99.9),
    slice_spacing: Annotated[
        float | None, Option(help="Distance of slices in um.", show_default="100, or as --z says")
    ] = None,
    gene_list: Panel = None,
    name: Name = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a brain from transcript tables with any columns, and images beside them."""
    run_verb(
        "import-table",
        context,
        stains=gathered(stain, "IMAGE"),
        origin=decimals("--origin", origin),
    )


@import_app.command(
    epilog=examples(
        "teramind import spatialdata sample.zarr -o brain.zarr",
        "teramind import spatialdata xenium.zarr --points transcripts"
        " --stain DAPI=morphology_focus#0 --stain PolyT=morphology_focus#2 -o brain.zarr",
    )
)
def spatialdata(
    context: typer.Context,
    store: Annotated[Path, Argument(help="The store, as sample.zarr.", show_default=False)],
    out: Out,
    points: Annotated[
        str | None, Option(help="Points of the transcripts.", show_default="the only ones")
    ] = None,
    stain: Annotated[
        list[str],
        Option(
            metavar="NAME=IMAGE",
            help="A stain and its image in the store, with #channel where it has several; those "
            "with channels named DAPI and PolyT if not given.",
        ),
    ] = [],  # noqa: B006  # typer copies it
    coordinate_system: Annotated[str, Option(help="Where points and images lie.")] = "global",
    unit_um: Annotated[
        float | None,
        Option(help="Size of the coordinate system's unit in um.", show_default="as it says"),
    ] = None,
    gene: Annotated[
        str | None, Option(help="Column of genes.", show_default="as the store says")
    ] = None,
    slice_column: Annotated[
        str | None,
        Option("--slice", help="Column whose values are the slices.", show_default=False),
    ] = None,
    project: Annotated[Literal["max", "mean"], Option(help="How planes are projected.")] = "max",
    percentiles: Percentiles = (0.1, 99.9),
    slice_spacing: Annotated[
        float | None, Option(help="Distance of slices in um.", show_default="100")
    ] = None,
    gene_list: Panel = None,
    name: Name = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a brain from the points and images of a SpatialData store."""
    run_verb("import-spatialdata", context, stains=pairs(stain, "IMAGE"))


@import_app.command(
    epilog=examples(
        "teramind import draft region_* -o slices.toml",
        "teramind import merscope slices.toml -o brain.zarr",
    )
)
def draft(
    context: typer.Context,
    regions: Annotated[list[Path], Argument(help="Region folders.", show_default=False)],
    out: Out,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draft a manifest of slices: their order, registrations, flips; to be edited by you."""
    run_verb("import-draft", context)

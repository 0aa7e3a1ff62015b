"""Verbs about networks: ``checkpoint convert``, ``checkpoint get``, ``checkpoint list``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from napari_teramind.cli.app import checkpoint_app
from napari_teramind.cli.options import Json, Out, Overwrite, Panel, examples, run_verb


@checkpoint_app.command(
    epilog=examples(
        "teramind checkpoint convert last.ckpt --genes 63885_gnm.csv -o network.safetensors"
    )
)
def convert(
    context: typer.Context,
    source: Annotated[Path, Argument(help="Published Lightning .ckpt.", show_default=False)],
    out: Out,
    genes: Panel = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Turn a published checkpoint into safetensors with its config; no code in it is run."""
    run_verb("checkpoint-convert", context)


@checkpoint_app.command(
    epilog=examples(
        "teramind checkpoint get main --genes 63885_gnm.csv",
        "teramind checkpoint get supp_m --folder networks --keep",
    )
)
def get(
    context: typer.Context,
    name: Annotated[
        str, Argument(help="As 'teramind checkpoint list --online' lists it.", show_default=False)
    ],
    folder: Annotated[
        Path | None, Option(help="Where to keep them; your own folder of networks if not given.")
    ] = None,
    genes: Panel = None,
    keep: Annotated[bool, Option("--keep", help="Keep the zip file that they come in.")] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Get the networks published with Tera-MIND from Zenodo; when interrupted, the same goes on.

    The download is checked against Zenodo's MD5, and its checkpoints become safetensors; no code in
    them is run. They do not say which genes they were trained with: give the list with --genes.
    """
    run_verb("checkpoint-get", context)


@checkpoint_app.command(
    "list",
    epilog=examples(
        "teramind checkpoint list",
        "teramind checkpoint list --folder networks",
        "teramind checkpoint list --online",
    ),
)
def list_checkpoints(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        Option(help="In place of your own folder of networks.", show_default=False),
    ] = None,
    online: Annotated[
        bool, Option("--online", help="What was published, and what of it is here.")
    ] = False,
    json: Json = False,
) -> None:
    """List the networks at hand: the packaged one, and those of a folder."""
    run_verb("checkpoint-list", context)

"""The program and its groups of verbs."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

import napari_teramind

app = typer.Typer(
    name="teramind",
    help="Tissue images of mouse brains, generated from spatial gene expression.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
import_app = typer.Typer(help="Make a brain from files of an instrument or another tool.")
checkpoint_app = typer.Typer(help="Checkpoints of the network.")
app.add_typer(import_app, name="import", no_args_is_help=True)
app.add_typer(checkpoint_app, name="checkpoint", no_args_is_help=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(napari_teramind.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass

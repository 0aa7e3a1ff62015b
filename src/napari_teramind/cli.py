"""The command line ``teramind``: every verb builds a job specification and runs it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer import Argument, Option

import napari_teramind
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.jobs import JobSpec

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

Out = Annotated[Path, Option("--out", "-o", help="Where to write.", show_default=False)]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace what is there already.")]
Json = Annotated[bool, Option("--json", help="Tell events as JSON, one a line.")]
Seed = Annotated[int, Option(min=0, help="The same seed gives the same result.")]

Panel = Annotated[
    str | None,
    Option(help="Panel of genes: a CSV with a column 'gene', or a brain that has it."),
]
Device = Annotated[str, Option(help="auto, cpu, cuda or mps.")]


def _examples(*lines: str) -> str:
    return "\n\n".join(["Examples:", *lines])


def _run(verb: str, context: typer.Context, **fields: Any) -> NoReturn:
    """Run a verb whose fields are the options of its command; ``fields`` replace some of them."""
    from napari_teramind.jobs.specs import build_spec

    options = dict(context.params)
    as_json = options.pop("json")
    options.pop("stain", None)  # comes as the field "stains"
    values = {"verb": verb, **options, **fields}
    _run_spec(lambda: build_spec(values, "The command line"), as_json)


def _run_spec(
    build: Callable[[], JobSpec], as_json: bool, log_folder: Path | None = None
) -> NoReturn:
    from napari_teramind.jobs.console import JsonSink, TerminalSink
    from napari_teramind.jobs.events import BAD_INPUT, Failed
    from napari_teramind.jobs.runner import run_job

    with JsonSink() if as_json else TerminalSink() as sink:
        try:
            spec = build()
        except UserError as error:
            sink.emit(Failed(message=str(error), exit_code=BAD_INPUT))
            raise typer.Exit(BAD_INPUT) from None
        raise typer.Exit(run_job(spec, sink.emit, log_folder))


def _pairs(options: Sequence[str], value_name: str) -> dict[str, str]:
    """Read ``["PolyT=Cellbound2"]`` as ``{"PolyT": "Cellbound2"}``."""
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals and value):
            raise typer.BadParameter(
                f"'{option}' is not of the form NAME={value_name}.", param_hint="--stain"
            )
        if key in pairs:
            raise typer.BadParameter(f"'{key}' is given twice.", param_hint="--stain")
        pairs[key] = value
    return pairs


def _numbers(option: str, text: str | None, form: str) -> tuple[int, ...] | None:
    """Read ``"0,512,0,512"`` or ``"0:2"``, given the form ``"y0,y1,x0,x1"`` or ``"z0:z1"``."""
    if text is None:
        return None
    separator = ":" if ":" in form else ","
    try:
        numbers = tuple(int(part) for part in text.split(separator))
    except ValueError:
        numbers = ()
    if len(numbers) != len(form.split(separator)):
        raise typer.BadParameter(
            f"'{text}' is not of the form {form} in whole numbers.", param_hint=option
        )
    return numbers


ROI = "y0,y1,x0,x1"
SLICES = "z0:z1"


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


@import_app.command(
    epilog=_examples(
        "teramind import merscope region_0 -o brain.zarr",
        "teramind import merscope region_0 --stain PolyT=Cellbound2 --planes slices -o liver.zarr",
    )
)
def merscope(
    context: typer.Context,
    regions: Annotated[
        list[Path], Argument(help="Region folders, one a slice, in order.", show_default=False)
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
    percentiles: Annotated[
        tuple[float, float],
        Option(metavar="LOW HIGH", help="Percentiles that become 0 and 255 in 8 bit."),
    ] = (0.1, 99.9),
    slice_spacing: Annotated[
        float | None, Option(help="Distance of slices in um.", show_default=False)
    ] = None,
    genes: Panel = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a brain from MERSCOPE region folders, as the instrument writes them."""
    _run(
        "import-merscope",
        context,
        stains={"DAPI": "DAPI", "PolyT": "PolyT"} | _pairs(stain, "FILE"),
    )


@import_app.command(
    epilog=_examples(
        "teramind import omezarr --stain DAPI=a.zarr --stain PolyT=b.zarr --genes c.zarr"
        " -o brain.zarr",
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
    structures: Annotated[
        str | None, Option(help="OME-Zarr label image of structures.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a brain from separate OME-Zarr images that lie on one another."""
    _run("import-omezarr", context, stains=_pairs(stain, "IMAGE"))


@app.command(
    epilog=_examples(
        "teramind phantom -o main.zarr",
        "teramind phantom -o supp.zarr --animal supp_m --size XS --seed 1",
    )
)
def phantom(
    context: typer.Context,
    out: Out,
    animal: Annotated[
        Literal["main", "supp_m", "supp_f"], Option(help="Which of the three animals.")
    ] = "main",
    size: Annotated[
        Literal["XS", "S", "M", "L"], Option(help="From seconds (XS) to a whole slice (L).")
    ] = "S",
    seed: Seed = 0,
    atlas: Annotated[
        str | None,
        Option(help="Annotation volume, or BrainGlobe's name of an atlas, to build on."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a procedural mouse brain: anatomy, cells, transcripts, stains."""
    _run("phantom", context)


@app.command(epilog=_examples("teramind info brain.zarr", "teramind info network.safetensors"))
def info(
    context: typer.Context,
    path: Annotated[str, Argument(help="A brain or a checkpoint.", show_default=False)],
    json: Json = False,
) -> None:
    """Say what a brain or a checkpoint holds."""
    _run("info", context)


@app.command(
    epilog=_examples(
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
    _run("train", context, exclude=_numbers("--exclude", exclude, ROI))


@app.command(
    epilog=_examples(
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
    _run(
        "simulate",
        context,
        roi=_numbers("--roi", roi, ROI),
        slices=_numbers("--slices", slices, SLICES),
    )


@checkpoint_app.command(
    epilog=_examples(
        "teramind checkpoint convert last.ckpt --genes 638850_gnm.csv -o network.safetensors"
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
    _run("checkpoint-convert", context)


@app.command("run", epilog=_examples("teramind run job.toml", "teramind run job.json --json"))
def run_file(
    job: Annotated[Path, Argument(help="TOML or JSON with 'verb' and its fields.")],
    log_folder: Annotated[
        Path | None, Option(help="Where an unexpected failure leaves its details.")
    ] = None,
    follow_stdin: Annotated[
        bool, Option("--follow-stdin", help="Cancel when standard input is closed.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a job from a file; paths in it count from the file's folder."""
    from napari_teramind.jobs.process import end_with_stdin
    from napari_teramind.jobs.specs import load_spec

    if follow_stdin:
        end_with_stdin()
    _run_spec(lambda: load_spec(job), json, log_folder)


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line in this process and return its exit code.

    Parameters
    ----------
    argv
        Arguments without the program's name; default: those of this process.

    Returns
    -------
    int
        0 done, 1 failed, 2 bad input, 130 cancelled.
    """
    try:
        return int(app(argv, prog_name="teramind", standalone_mode=False) or 0)
    except typer.TyperException as error:
        message = error.format_message()
        if message:  # empty after help was shown in place of a verb
            print(message if message.endswith((".", "?")) else f"{message}.", file=sys.stderr)
        return error.exit_code


def main() -> NoReturn:
    """Run ``teramind`` as a program."""
    # Asked to end, a job cleans up as after Ctrl-C; on Windows it simply ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Beside other busy programs, threads that spin while they wait made training 3 to 8 times
    # slower; must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone, as in `teramind info brain.zarr | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)

"""The verb ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from napari_teramind.cli.app import app
from napari_teramind.cli.options import ROI, Device, Json, Panel, Seed, examples, numbers, run_spec
from napari_teramind.model.config import KernelsWish
from napari_teramind.training.record import stored_job

WHERE = ("brains", "validation", "exclude")
"""Fields of a job that say what is learned from."""


@app.command(
    epilog=examples(
        "teramind train supp_m.zarr supp_f.zarr -o run --steps 2000",
        "teramind train supp_m.zarr -o run --preset packaged --validate supp_f.zarr",
        "teramind train liver.zarr -o run --exclude 256,512,256,512 --time-limit 300",
        "teramind train -o run --resume",
        "teramind train liver.zarr -o run --preset published --dry-run",
    )
)
def train(
    context: typer.Context,
    out: Annotated[Path, Option("--out", "-o", help="Folder of the run, new.", show_default=False)],
    brains: Annotated[
        list[str] | None,
        Argument(
            help="Brains to learn from; with --resume they need not be named.", show_default=False
        ),
    ] = None,
    preset: Annotated[
        Literal["packaged", "published", "custom"],
        Option(
            help="Settings that go together: a small network for CPUs, or the published one. "
            "Options given beside it count more; 'custom' has the defaults shown here."
        ),
    ] = "custom",
    validation: Annotated[
        list[str],
        Option("--validate", help="Brain to measure the loss on, never to learn from."),
    ] = [],  # noqa: B006  # typer copies it
    exclude: Annotated[
        str | None, Option(metavar=ROI, help="Pixels to hold out, in every slice.")
    ] = None,
    init: Annotated[
        Path | None, Option(help="Checkpoint to start from; genes are found by name.")
    ] = None,
    channels: Annotated[int, Option(help="Base channels: the network's size.")] = 16,
    gene_channels: Annotated[
        tuple[int, int, int],
        Option(metavar="N N N", help="Channels of the three finer gene features."),
    ] = (128, 64, 32),
    gene_slices: Annotated[
        int, Option("--gene-slices", "-S", help="Gene window S: 1, 4, 8 or 16.")
    ] = 4,
    patch: Annotated[int, Option(help="Side of a patch in px: 32, 64 or 128.")] = 64,
    dropout: Annotated[float, Option(help="Share of activations dropped; published: 0.1.")] = 0.1,
    prediction: Annotated[
        Literal["epsilon", "v"],
        Option(help="What the network predicts: the noise, as published, or the velocity."),
    ] = "v",
    genes: Panel = None,
    crop: Annotated[
        int | None, Option(help="Side of a training crop in px; 256, or 128 for patches of 32.")
    ] = None,
    block: Annotated[
        int, Option(min=2, help="Shifted patches on a side of a sample; published: 2.")
    ] = 2,
    shifted: Annotated[
        float,
        Option(min=0, help="Weight of the loss on shifted patches; 0 spares half of the work."),
    ] = 1.0,
    batch: Annotated[int, Option(min=1, help="Samples in one evaluation, of all processes.")] = 8,
    accumulate: Annotated[int, Option(min=1, help="Evaluations in one step.")] = 1,
    steps: Annotated[int, Option(min=1, help="Optimiser steps.")] = 2000,
    optimizer: Annotated[
        Literal["adam", "muon"], Option(help="adam: as published; muon: needs fewer steps.")
    ] = "adam",
    learning_rate: Annotated[float, Option("--learning-rate", "--lr", help="Of a step.")] = 5e-4,
    warmup: Annotated[int, Option(min=0, help="Steps until the learning rate is reached.")] = 100,
    final_lr: Annotated[
        float, Option(help="Share of the learning rate left in the end; 1: all of it.")
    ] = 0.1,
    clip: Annotated[float, Option(help="Largest norm of the gradient.")] = 1.0,
    ema: Annotated[
        float, Option(help="Decay of the average of the weights; 0: no average.")
    ] = 0.995,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], Option(help="float16: as published.")
    ] = "float32",
    kernels: Annotated[
        KernelsWish,
        Option(help="compiled: faster, with a C++ compiler; auto: on a CPU, if there is one."),
    ] = "auto",
    time_limit: Annotated[
        float | None, Option(help="Seconds after which training ends, saved.")
    ] = None,
    validate_every: Annotated[
        int, Option(min=0, help="Steps between held-out losses; 0: never.")
    ] = 200,
    sample_every: Annotated[
        int, Option(min=0, help="Steps between generated pictures; 0: never.")
    ] = 400,
    keep: Annotated[int, Option(min=0, help="Checkpoints of single steps to keep.")] = 3,
    workers: Annotated[
        int | None, Option(min=0, help="Processes that read; none on a CPU, up to 4 for a GPU.")
    ] = None,
    processes: Annotated[
        int, Option("--processes", "--devices", min=1, help="Processes or GPUs that train.")
    ] = 1,
    seed: Seed = 0,
    device: Device = "auto",
    dry_run: Annotated[
        bool, Option("--dry-run", help="Time a few steps, say what it would take, and end.")
    ] = False,
    resume: Annotated[
        bool, Option("--resume", help="Go on with the run in the folder, with its own settings.")
    ] = False,
    json: Json = False,
) -> None:
    """Fit a network to brains."""
    from napari_teramind.jobs.specs import build_spec

    # What was not given is left to the preset.
    given = {
        name: value
        for name, value in context.params.items()
        if str(getattr(context.get_parameter_source(name), "name", "")) != "DEFAULT"
    }
    given.pop("json", None)
    if exclude is not None:
        given["exclude"] = numbers("--exclude", exclude, ROI)
    stored = stored_job(out) if resume else {}
    if "preset" in given:  # which counts more than what an earlier one has set
        stored = {name: stored[name] for name in (*WHERE, "genes") if name in stored}
    if not brains and not stored:
        raise typer.BadParameter(
            f"{out} holds no run to go on with." if resume else "Name a brain to learn from.",
            param_hint="'BRAINS...'",
        )
    values = {**stored, **given, "verb": "train"}
    run_spec(lambda: build_spec(values, "The command line"), json)

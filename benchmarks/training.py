"""Measure the training step: ours against the published network with Conv3d and unfused norms.

``python benchmarks/training.py`` gives both networks the same weights (random, none zero) and the
same batches, checks that loss and gradients agree, and times loss and backward pass of each in
turn, each in a process of its own with one number of threads: the published form in float32, ours
in float32 and in mixed precision. Results go to ``benchmarks/results/training.json``;
``--profile`` prints where the time of our step goes instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import machine, report, world
from published.network import PublishedNetwork
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from napari_teramind.memory import keep_freed_memory
from napari_teramind.model import ModelConfig, TeraMind, kernels
from napari_teramind.model.names import published_names
from napari_teramind.training.loss import Batch, diffuse, losses

RESULTS = Path(__file__).parent / "results" / "training.json"
SEED = 11


def make_batch(config: ModelConfig, size: int, device: str) -> Batch:
    """Draw a batch of 2 x 2 shifted patches."""
    generator = torch.Generator().manual_seed(SEED)
    side = 2 * config.patch
    shape = (size, config.stains, config.image_slices, side, side)
    clean, noise = torch.randn(2, *shape, generator=generator)
    rates = torch.full((size, config.genes, config.gene_slices, side // 16, side // 16), world.RATE)
    genes = torch.poisson(rates, generator=generator)
    t = torch.randint(0, 1000, (size,), generator=generator)
    mask = torch.ones(size, 1, 1, side, side)
    mask[..., : config.patch // 2, :] = 0
    parts = (part.to(device) for part in (clean, genes, mask, t, noise))
    return diffuse(*parts, "epsilon")


def our_loss(model: TeraMind, batch: Batch) -> Tensor:
    """Return the loss of this package's training."""
    collage, shifted = losses(model, batch)
    return collage + shifted


def published_loss(network: PublishedNetwork, batch: Batch) -> Tensor:
    """Return the published loss, by the published network."""
    half = network.config.patch // 2
    inner, outer = network(batch.noisy, batch.genes, batch.t)
    collage = ((batch.target[..., half:-half, half:-half] - inner.float()) ** 2).mean()
    return collage + (batch.mask * (batch.target - outer.float()) ** 2).mean()


def networks(config: ModelConfig, device: str) -> tuple[TeraMind, PublishedNetwork]:
    """Make both networks with the same weights."""
    ours = world.random_network(config, SEED)
    state = dict(ours.named_parameters())
    theirs = PublishedNetwork(config).eval()
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    theirs.load_published(
        {
            name: state[mine].detach().view(shapes[name])
            for mine, name in published_names(ours).items()
        }
    )
    return ours.to(device), theirs.to(device)


def agreement(ours: TeraMind, theirs: PublishedNetwork, batch: Batch) -> dict[str, float]:
    """Compare loss and all gradients, dropout off."""
    a, b = our_loss(ours, batch), published_loss(theirs, batch)
    a.backward()
    b.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    worst = 0.0
    state = dict(ours.named_parameters())
    for mine, name in published_names(ours).items():
        expected, found = gradients[name], state[mine].grad
        assert expected is not None
        assert found is not None
        difference = (found.flatten() - expected.flatten()).norm() / expected.norm()
        worst = max(worst, float(difference))
    return {"loss": float((abs(a - b) / b).detach()), "worst_gradient": worst}


@contextmanager
def mixed(device: str, dtype: torch.dtype | None) -> Iterator[None]:
    """Autocast, if a type is given."""
    with torch.autocast(device.partition(":")[0], dtype, enabled=dtype is not None):
        yield


def make_step(
    network: nn.Module,
    loss: Callable[[Any, Batch], Tensor],
    batch: Batch,
    dtype: torch.dtype | None,
) -> Callable[[], None]:
    """Return a training step without the optimiser."""

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with mixed(str(batch.noisy.device), dtype):
            value = loss(network, batch)
        value.backward()

    return step


@dataclass(frozen=True)
class Side:
    """One way to train, which is timed in a process of its own.

    Attributes
    ----------
    label
        What people read.
    published
        The network in its published form, or ours.
    precision
        Name of a type, for mixed precision where it is not float32.
    kernels
        Form of our kernels.
    kept
        Whether the process keeps freed memory, as every job of this package does.
    """

    label: str
    published: bool
    precision: str = "float32"
    kernels: kernels.Kernels = "eager"
    kept: bool = True


def sides(options: argparse.Namespace) -> list[Side]:
    """List what is timed; the first is what the others are compared with."""
    low = options.mixed
    found = [
        Side("published, float32", published=True, kept=False),
        Side("published, float32, freed memory kept", published=True),
        Side("ours, float32, eager kernels", published=False),
        Side("ours, float32", published=False, kernels="compiled"),
        Side(f"ours, {low} autocast, eager kernels", published=False, precision=low),
        Side(f"ours, {low} autocast", published=False, precision=low, kernels="compiled"),
    ]
    if options.device.startswith("cuda"):
        found.insert(2, Side(f"published, {low} autocast", published=True, precision=low))
    return found


def step_of(side: Side, options: argparse.Namespace) -> Callable[[], None]:
    """Set this process up for one way to train, and return its step."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    if side.kept:
        keep_freed_memory()
    kernels.choose(side.kernels)
    ours, theirs = networks(configuration(options), options.device)
    batch = make_batch(ours.config, options.batch, options.device)
    dtype = None if side.precision == "float32" else getattr(torch, side.precision)
    if side.published:
        return make_step(theirs.train(), published_loss, batch, dtype)
    return make_step(ours.train(), our_loss, batch, dtype)


def serve(side: Side, options: argparse.Namespace) -> None:
    """Take a step whenever a line is read, and print its wall and processor seconds."""
    step = step_of(side, options)
    for _ in sys.stdin:
        processor = time.process_time()
        wall = machine.seconds(step, options.device)
        print(json.dumps((wall, time.process_time() - processor)), flush=True)


def configuration(options: argparse.Namespace) -> ModelConfig:
    """Shape of both networks."""
    return ModelConfig(
        genes=options.genes, channels=options.channels, time_channels=8 * options.channels
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Check agreement, then time all ways in turn, each in a process of its own.

    In turn, so that whatever else the machine does falls on all of them alike.
    """
    ours, theirs = networks(configuration(options), options.device)
    agrees = agreement(ours, theirs, make_batch(ours.config, 1, options.device))
    print("relative differences, float32:", agrees, flush=True)
    if max(agrees.values()) > 1e-3:
        raise RuntimeError("The two networks do not agree.")
    del ours, theirs
    times: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        started = [(side, stack.enter_context(_started(side))) for side in sides(options)]
        for number in range(options.repeats + 1):
            for side, process in started:
                wall, processor = _ask(process)
                if number:  # the first step of each makes its kernels
                    times.setdefault(side.label, []).append((wall, processor))
    return {"agreement": agrees, "runs": _runs(times, options.batch)}


@contextmanager
def _started(side: Side) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", json.dumps(asdict(side))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _ask(process: subprocess.Popen[str]) -> tuple[float, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("A measurement failed; its message stands above.")
    wall, processor = json.loads(line)
    return wall, processor


def _runs(times: dict[str, list[tuple[float, float]]], batch: int) -> list[dict[str, Any]]:
    """Samples per second, by the median of wall and processor time."""
    runs = []
    for label, pairs in times.items():
        wall, processor = (statistics.median(column) for column in zip(*pairs, strict=True))
        runs.append(
            {
                "label": label,
                "samples_per_second": batch / wall,
                "samples_per_processor_second": batch / processor,
                "seconds": [round(pair[0], 3) for pair in pairs],
                "processor_seconds": [round(pair[1], 3) for pair in pairs],
            }
        )
    for run in runs:
        for key in ("samples_per_second", "samples_per_processor_second"):
            run[f"{key}_over_published"] = run[key] / runs[0][key]
    return runs


def show_profile(label: str, step: Callable[[], None]) -> None:
    """Print the most expensive operations of a step."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    averages = found.key_averages(group_by_input_shape=False)
    print(label)
    print(averages.table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=44))


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--channels", type=int, default=16, help="base channels")
    add("--genes", type=int, default=68)
    add("--batch", type=int, default=4, help="samples of a batch")
    add("--repeats", type=int, default=5)
    add("--device", default="cpu")
    add("--mixed", default="bfloat16", choices=["bfloat16", "float16"])
    add("--threads", type=int, help="processor threads; torch's own choice if not given")
    add("--profile", action="store_true")
    add("--results", type=Path, default=RESULTS)
    add("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(Side(**json.loads(options.side)), options)
        return
    if options.profile:
        side = sides(options)[-1]
        show_profile(side.label, step_of(side, options))
        return
    torch.set_num_threads(options.threads or torch.get_num_threads())
    results = measure(options)
    results["machine"] = {**machine.facts(options.device), "threads": torch.get_num_threads()}
    results["settings"] = {
        k: v for k, v in vars(options).items() if k not in ("profile", "results", "side")
    }
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(results, indent=2) + "\n")
    heads = ["", "samples/s", "times published", "samples/processor s", "times published"]
    keys = ("samples_per_second", "samples_per_processor_second")
    rows = [
        [run["label"], *(f"{run[k + end]:.3f}" for k in keys for end in ("", "_over_published"))]
        for run in results["runs"]
    ]
    print(report.table(heads, rows))
    print(options.results)


if __name__ == "__main__":
    main()

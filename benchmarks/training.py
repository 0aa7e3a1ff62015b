"""Measure the training step: ours against the published network with Conv3d and unfused norms.

``python benchmarks/training.py`` gives both networks the same weights (random, none zero) and the
same batches, checks that loss and gradients agree, and times loss and backward pass of each in
turn, in one process with one number of threads: the published form in float32, ours in float32 and
in mixed precision. Results go to ``benchmarks/results/training.json``; ``--profile`` prints where
the time of our step goes instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measuring import machine, report, world
from published.network import PublishedNetwork
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

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
    form: kernels.Kernels = "eager",
) -> Callable[[], None]:
    """Return a training step without the optimiser."""

    def step() -> None:
        kernels.choose(form)
        network.zero_grad(set_to_none=True)
        with mixed(str(batch.noisy.device), dtype):
            value = loss(network, batch)
        value.backward()

    return step


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Check agreement, then time all variants in turn."""
    device = options.device
    config = ModelConfig(
        genes=options.genes, channels=options.channels, time_channels=8 * options.channels
    )
    ours, theirs = networks(config, device)
    small = make_batch(config, 1, device)
    agrees = agreement(ours, theirs, small)
    print("relative differences, float32:", agrees, flush=True)
    if max(agrees.values()) > 1e-3:
        raise RuntimeError("The two networks do not agree.")
    ours.train()
    theirs.train()
    batch = make_batch(config, options.batch, device)
    low = getattr(torch, options.mixed)
    steps = {
        "published, float32": make_step(theirs, published_loss, batch, None),
        "ours, float32": make_step(ours, our_loss, batch, None),
        f"ours, {options.mixed} autocast": make_step(ours, our_loss, batch, low),
        "ours, float32, compiled": make_step(ours, our_loss, batch, None, "compiled"),
        f"ours, {options.mixed} autocast, compiled": make_step(
            ours, our_loss, batch, low, "compiled"
        ),
    }
    if device.startswith("cuda"):
        label = f"published, {options.mixed} autocast"
        steps[label] = make_step(theirs, published_loss, batch, low)
    if options.profile:
        for label in list(steps)[1:]:
            show_profile(label, steps[label])
        return {}
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in steps}
    # In turn, so that whatever else the machine does falls on all of them alike.
    for number in range(options.repeats + 1):
        for label, step in steps.items():
            processor = time.process_time()
            wall = machine.seconds(step, device)
            if number:
                times[label].append((wall, time.process_time() - processor))
    return {"agreement": agrees, "runs": _runs(times, options.batch)}


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
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    results = measure(options)
    if options.profile:
        return
    results["machine"] = {**machine.facts(options.device), "threads": torch.get_num_threads()}
    results["settings"] = {
        k: v for k, v in vars(options).items() if k not in ("profile", "results")
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

r"""Measure our simulation against the published schedule: same weights, same field, in one run.

``python benchmarks/simulate.py`` makes a random network without zero weights and a brain of random
counts, generates the brain by the published schedule, re-created in ``benchmarks/published``, and
by this package, and compares seconds, network operations, bytes and memory. Every measurement is a
process of its own. Four parts, of which ``--parts`` picks some:

- ``main``: the published schedule and ours, in float32 and in lower precisions;
- ``ladder``: every gain by itself, on a smaller field and with fewer steps;
- ``areas``: fields of 1, 4 and 16 times the area at one width;
- ``workers``: one process, and two processes on halves, with the same number of threads.

On a CUDA device (``--device cuda``), in the published size::

    python benchmarks/simulate.py --device cuda --channels 64 --genes 229 --published float16 \
        --ours float32 autocast-bfloat16 bfloat16 float16 --size 2048 --ladder-size 2048

Results go to ``benchmarks/results/simulate.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import flops, machine, ours, report, world
from measuring.conv3d import Conv3dTeraMind, unfuse
from published.network import PublishedNetwork
from published.schedule import PublishedSchedule, to_uint8
from safetensors.torch import load_file

from napari_teramind.memory import keep_freed_memory
from napari_teramind.model import ModelConfig, TeraMind, kernels, load_model

RESULTS = Path(__file__).parent / "results" / "simulate.json"
SEED = 7

PUBLISHED_LADDER = {
    "published": {"both_decoders": True, "cache_features": False},
    "collage decoder alone": {"both_decoders": False, "cache_features": False},
    "gene features once": {"both_decoders": False, "cache_features": True},
}
PLAIN = {"kept": False, "kernels": "eager"}
KEPT = {"kept": True, "kernels": "eager"}
BEST = {"kept": True, "kernels": "compiled"}
"""Whether a process keeps freed memory, as every job does; in what form it computes."""

OUR_LADDER: dict[str, tuple[str, dict[str, Any]]] = {
    "wide bands, no state on disk": ("conv3d", PLAIN),
    "layout, packed convolutions": ("unfused", PLAIN),
    "fewer passes in norms, linear layers as convolutions": ("ours", PLAIN),
    "freed memory kept": ("ours", KEPT),
    "one pass between convolutions": ("ours", BEST),
}


# One measurement, in a process of its own ---------------------------------------------------------


def measure(part: dict[str, Any]) -> dict[str, Any]:
    """Generate a field one way and measure it."""
    torch.set_num_threads(part["threads"] or torch.get_num_threads())
    if part["kept"]:
        keep_freed_memory()
    kernels.choose(part["kernels"])
    folder, device = Path(part["folder"]), part["device"]
    config = ModelConfig(**{**part["config"], "gene_channels": (128, 64, 32)})
    side = measure_published if part["side"] == "published" else measure_ours
    found = side(part, folder, config, device)
    found["threads"] = torch.get_num_threads()
    return found


def measure_published(
    part: dict[str, Any], folder: Path, config: ModelConfig, device: str
) -> dict[str, Any]:
    """Run the published schedule; reading noise and genes is not counted."""
    network = PublishedNetwork(config).eval()
    network.load_published(load_file(folder / "network.safetensors")).to(device)
    noise, genes = world.field_arrays(folder, config, SEED)
    precision = part["precision"]
    autocast = None if precision == "float32" else getattr(torch, precision)
    switches = PUBLISHED_LADDER[part["variant"]]
    with tempfile.TemporaryDirectory(dir=folder) as states:
        warm = PublishedSchedule(network, Path(states), autocast=autocast)
        pad = config.patch // 16
        warm.run(noise[..., :256, :256], genes[..., : 16 + pad, : 16 + pad], steps=1)
        schedule = PublishedSchedule(network, Path(states), autocast=autocast, **switches)
        with machine.Watch(device) as watch:
            last = schedule.run(noise, genes, part["steps"])
        np.save(folder / f"{part['name']}.npy", to_uint8(last))
    patches = flops.published_patches(*noise.shape[2:], part["steps"], config.patch, **switches)
    each = flops.as_conv3d(config)
    return {
        **watch.result,
        "patches": asdict(patches),
        "gflop_as_conv3d": patches.flop(each) / 1e9,
        "gflop_executed": patches.flop(each) / 1e9,
        "state_bytes": {"read": schedule.state_read, "written": schedule.state_written},
        "result_bytes": int(last.size),
    }


def measure_ours(
    part: dict[str, Any], folder: Path, config: ModelConfig, device: str
) -> dict[str, Any]:
    """Run this package's engine from store to store, with one of the networks of the ladder."""
    model = _network(part["variant"], folder, config, device)
    model, autocast = ours.in_precision(model, part["precision"])
    patches = flops.count_patches(model)
    p, (y0, y1, x0, x1) = config.patch, part["roi"]
    with torch.autocast(device.partition(":")[0], autocast, enabled=autocast is not None):
        warm = (y0, y0 + p, x0, x0 + p)
        ours.generate(folder, model, warm, 1, SEED, f"{part['name']}-warm")
        before = asdict(patches)
        with machine.Watch(device) as watch:
            plan = ours.generate(folder, model, (y0, y1, x0, x1), part["steps"], SEED, part["name"])
    np.save(folder / f"{part['name']}.npy", ours.result(folder, part["name"]))
    counts = {kind: count - before[kind] for kind, count in asdict(patches).items()}
    counted = flops.Patches(**counts)
    if not all(counts.values()):
        raise RuntimeError(f"The engine's evaluations were not all counted: {counts}")
    stored = sum(file.stat().st_size for file in Path(plan["path"]).rglob("*") if file.is_file())
    return {
        **watch.result,
        **{key: value for key, value in plan.items() if key != "path"},
        "patches": counts,
        "gflop_as_conv3d": counted.flop(flops.as_conv3d(config)) / 1e9,
        "gflop_executed": counted.flop(_executed(part["variant"], config, device)) / 1e9,
        "result_bytes": stored,
    }


def _executed(variant: str, config: ModelConfig, device: str) -> dict[str, float]:
    """Operations of a patch as a network of the ladder evaluates them."""
    if variant == "conv3d":
        return flops.as_conv3d(config)
    return flops.as_ours(config, device)


def _network(variant: str, folder: Path, config: ModelConfig, device: str) -> TeraMind:
    """Load the world's network in one of its forms."""
    path = folder / "network.safetensors"
    if variant == "unfused":
        unfuse()
    model = load_model(path, device=device)
    if variant != "conv3d":
        return model
    reference = Conv3dTeraMind(config).eval()
    reference.published.load_published(load_file(path))
    reference.gene_names = model.gene_names
    return reference.to(device)


# The parts ---------------------------------------------------------------------------------------


class Bench:
    """Starts measurements and gathers what they say."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.config = ModelConfig(
            genes=options.genes, channels=options.channels, time_channels=8 * options.channels
        )

    def start(
        self, folder: Path, side: str, variant: str, precision: str, **more: Any
    ) -> subprocess.Popen[str]:
        """Start one measurement."""
        part = {
            "folder": str(folder),
            "side": side,
            "variant": variant,
            "precision": precision,
            "device": self.options.device,
            "threads": self.options.threads,
            "config": {k: getattr(self.config, k) for k in ("genes", "channels", "time_channels")},
            **more,
        }
        command = [sys.executable, __file__, "--measure", json.dumps(part)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for a measurement."""
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError("A measurement failed; its message stands above.")
        found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return found

    def run(self, label: str, *args: Any, **more: Any) -> dict[str, Any]:
        """Make one measurement."""
        found = {"label": label, **self.finish(self.start(*args, **more))}
        print(
            f"  {label}: {found['seconds']:.1f} s, {found['gflop_as_conv3d']:,.0f} GFLOP, "
            f"{found['peak_bytes'] / 1e9:.2f} GB",
            flush=True,
        )
        return found

    def world(self, folder: str, height: int, width: int) -> Path:
        """Make network and brain."""
        world.make_world(Path(folder), self.config, height, width, SEED)
        return Path(folder)

    def main(self) -> list[dict[str, Any]]:
        """Compare the published schedule with ours in every precision."""
        o = self.options
        with tempfile.TemporaryDirectory() as name:
            folder = self.world(name, o.size, o.size)
            common = {"steps": o.steps, "roi": [0, o.size, 0, o.size]}
            runs = [
                self.run(
                    f"published, {o.published}", folder, "published", "published", o.published,
                    name="published", **PLAIN, **common,
                ),
            ]  # fmt: skip
            for precision in o.ours:
                label = f"ours, {precision}"
                runs.append(
                    self.run(
                        label, folder, "ours", "ours", precision,
                        name=precision, **BEST, **common,
                    )
                )  # fmt: skip
            return _with_differences(folder, runs, ["published", *o.ours])

    def ladder(self) -> list[dict[str, Any]]:
        """Take one inefficiency away after the other."""
        o = self.options
        with tempfile.TemporaryDirectory() as name:
            folder = self.world(name, o.ladder_size, o.ladder_size)
            common = {"steps": o.ladder_steps, "roi": [0, o.ladder_size, 0, o.ladder_size]}
            rungs = [("published", v, o.published, v, PLAIN) for v in PUBLISHED_LADDER]
            rungs += [("ours", v, "float32", label, how) for label, (v, how) in OUR_LADDER.items()]
            rungs += [("ours", "ours", p, p, BEST) for p in o.ours if p != "float32"]
            # Not a rung: what keeping freed memory alone would give the published schedule.
            kept = "published, freed memory kept"
            rungs.append(("published", "published", o.published, kept, KEPT))
            names = [f"rung{i}" for i in range(len(rungs))]
            runs = [
                self.run(label, folder, side, variant, precision, name=name, **how, **common)
                for name, (side, variant, precision, label, how) in zip(names, rungs, strict=True)
            ]
            return _with_differences(folder, runs, names)

    def areas(self) -> list[dict[str, Any]]:
        """Let the field grow at one width."""
        o = self.options
        runs = []
        for factor in (1, 4, 16):
            height = factor * o.area_size
            with tempfile.TemporaryDirectory() as name:
                folder = self.world(name, height, o.area_size)
                label = f"{factor}x: {height} x {o.area_size} px"
                roi = [0, height, 0, o.area_size]
                run = self.run(
                    label, folder, "ours", "ours", o.area_precision,
                    name="area", steps=o.ladder_steps, roi=roi, **BEST,
                )  # fmt: skip
                run["megapixels"] = height * o.area_size * self.config.image_slices / 1e6
                runs.append(run)
        return runs

    def workers(self) -> list[dict[str, Any]]:
        """Compare one process with two on halves; both use all threads."""
        o = self.options
        height, threads = 4 * o.area_size, o.threads or torch.get_num_threads()
        with tempfile.TemporaryDirectory() as name:
            folder = self.world(name, height, o.area_size)
            runs = []
            for count in (1, 2):
                started = [
                    self.start(
                        folder, "ours", "ours", o.area_precision, name=f"of{count}-{i}",
                        steps=o.ladder_steps, threads=max(1, threads // count),
                        roi=[i * height // count, (i + 1) * height // count, 0, o.area_size],
                        **BEST,
                    )
                    for i in range(count)
                ]  # fmt: skip
                halves = [self.finish(process) for process in started]
                runs.append(
                    {
                        "workers": count,
                        "threads_each": halves[0]["threads"],
                        "seconds": max(half["seconds"] for half in halves),
                        "evaluations": sum(half["planned_evaluations"] for half in halves),
                        "peak_bytes_each": max(half["peak_bytes"] for half in halves),
                    }
                )
                print(f"  workers {count}: {runs[-1]['seconds']:.1f} s", flush=True)
            whole = np.load(folder / "of1-0.npy")
            parts = np.concatenate([np.load(folder / f"of2-{i}.npy") for i in range(2)], axis=2)
            runs[-1]["pixels_that_differ_from_one_worker"] = float((whole != parts).mean())
            return runs


def _with_differences(
    folder: Path, runs: list[dict[str, Any]], names: list[str]
) -> list[dict[str, Any]]:
    """Add how far every result lies from ours in float32, in grey levels."""
    images = [np.load(folder / f"{name}.npy").astype(np.int16) for name in names]
    standard = next(
        image
        for run, image in zip(runs, images, strict=True)
        if run["label"] in ("ours, float32", "one pass between convolutions")
    )
    for run, image in zip(runs, images, strict=True):
        run["grey_levels_off"] = float(np.abs(image - standard).mean())
        run["saturated"] = float(((image == 0) | (image == 255)).mean())
    return runs


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=report.PARTS, default=list(report.PARTS))
    add("--channels", type=int, default=16, help="base channels")
    add("--genes", type=int, default=68)
    add("--size", type=int, default=1024, help="side of the field in px, a multiple of 256")
    add("--steps", type=int, default=15)
    add("--ladder-size", type=int, default=512)
    add("--ladder-steps", type=int, default=4, help="steps of ladder, areas and workers")
    add("--area-size", type=int, default=256, help="width of areas and workers, in px")
    add("--area-precision", default="float32")
    add("--device", default="cpu")
    add("--published", default="float32", choices=["float32", "float16", "bfloat16"])
    add("--ours", nargs="+", default=["float32", "bfloat16"])
    add("--threads", type=int, help="processor threads; torch's own choice if not given")
    add("--results", type=Path, default=RESULTS)
    add("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(json.loads(options.measure))))
        return
    if "float32" not in options.ours:
        parser.error("--ours must contain float32, which the others are compared with.")
    bench = Bench(options)
    settings = {k: v for k, v in vars(options).items() if k not in ("measure", "results", "parts")}
    results: dict[str, Any] = {"machine": machine.facts(options.device), "settings": settings}
    results["gflop_per_patch"] = {
        "as_conv3d": {k: v / 1e9 for k, v in flops.as_conv3d(bench.config).items()},
        "executed_by_ours": {
            k: v / 1e9 for k, v in flops.as_ours(bench.config, options.device).items()
        },
    }
    side = 8192 if options.device.startswith("cuda") else 2048
    results["matrix_peak"] = {
        name: machine.matrix_peak(options.device, getattr(torch, name), side)
        for name in {p.removeprefix("autocast-") for p in [options.published, *options.ours]}
    }
    for part in options.parts:
        print(part, flush=True)
        results[part] = getattr(bench, part)()
        # After every part: the next one may take an hour.
        report.store(results, options.results)
    print("\n" + report.tables(results))
    print(options.results)


if __name__ == "__main__":
    main()

"""Measure a network on a phantom that it was not trained on, beside three simpler predictions.

    python scripts/evaluate_network.py --checkpoint network.safetensors --brain main.zarr
        --train supp_m.zarr supp_f.zarr

(on one line).

Fields of 512 x 512 px of tissue, at native resolution: PSNR and SSIM of both stains, number of
nuclei and mean nuclear area by watershed, against the truth; for the network (one sample, and the
mean of several), the mean image of the training brains, a linear regression of every pixel on the
genes of its bin, and the untrained network. Prints a table and writes it as JSON, with a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import matplotlib as mpl
import numpy as np
import torch

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.evaluate.images import psnr, ssim
from napari_teramind.evaluate.nuclei import find_nuclei, otsu_threshold
from napari_teramind.memory import keep_freed_memory
from napari_teramind.model import TeraMind, kernels

mpl.use("Agg")
import matplotlib.pyplot as plt

FIELD, BIN = 512, 16


@dataclass
class Scores:
    """What is measured of one way to predict, field by field."""

    psnr: list[list[float]] = field(default_factory=list)
    ssim: list[list[float]] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    otsu_count: list[int] = field(default_factory=list)
    otsu_areas: list[float] = field(default_factory=list)

    def add(self, real: np.ndarray, made: np.ndarray) -> None:
        """Measure one field, (stains, y, x)."""
        self.psnr.append([psnr(a, b) for a, b in zip(real, made, strict=True)])
        self.ssim.append([ssim(a, b) for a, b in zip(real, made, strict=True)])
        nuclei = find_nuclei(made[0])
        self.count.append(nuclei.count)
        self.areas.extend(nuclei.areas_um2.tolist())
        # Otsu's plain threshold and nuclei farther apart: as earlier networks were measured.
        plain = find_nuclei(made[0], threshold=otsu_threshold(made[0]), apart_um=2.4)
        self.otsu_count.append(plain.count)
        self.otsu_areas.extend(plain.areas_um2.tolist())

    def summary(self) -> dict[str, Any]:
        """Return means over fields."""
        return {
            "psnr": np.mean(self.psnr, 0).round(2).tolist(),
            "ssim": np.mean(self.ssim, 0).round(4).tolist(),
            "nuclei per field": round(float(np.mean(self.count)), 2),
            "mean nuclear area, um2": round(float(np.mean(self.areas)), 1) if self.areas else 0.0,
            "nuclei per field, Otsu": round(float(np.mean(self.otsu_count)), 2),
            "mean nuclear area, um2, Otsu": (
                round(float(np.mean(self.otsu_areas)), 1) if self.otsu_areas else 0.0
            ),
        }


def tissue_places(brain: BrainStore, wanted: int, seed: int) -> list[tuple[int, int, int]]:
    """Draw random places (first slice of a group, y, x) whose field is tissue in both slices."""
    assert brain.tissue is not None
    tissue = np.asarray(brain.tissue.levels[0]) > 0
    factor = round(brain.tissue.scale(0)[-1] / brain.pixel_size)
    side = FIELD // factor
    rng = np.random.default_rng(seed)
    places: list[tuple[int, int, int]] = []
    while len(places) < -(-wanted // 2):
        z = 2 * int(rng.integers(brain.shape[0] // 2))
        y, x = (int(rng.integers((n - FIELD) // 64)) * 64 for n in brain.shape[1:])
        rows, columns = (
            slice(y // factor, y // factor + side),
            slice(x // factor, x // factor + side),
        )
        if tissue[z : z + 2, rows, columns].mean() > 0.95 and (z, y, x) not in places:
            places.append((z, y, x))
    return places


def fit_regression(
    brains: list[BrainStore], genes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Fit grey levels on the genes of the bin, over all tissue.

    Returns coefficients (genes + 1, stains) and the mean grey level of each stain. Genes are the
    same for all pixels of a bin, so that fitting the mean of its pixels gives the same.
    """
    total = np.zeros((len(genes) + 1, len(genes) + 1))
    target = np.zeros((len(genes) + 1, 2))
    for brain in brains:
        assert brain.tissue is not None
        rows, columns = (n // BIN for n in brain.shape[1:])
        # Level 4 of the stains is the mean over a bin.
        means = np.asarray(brain.stains.levels[4][:] if len(brain.stains.levels) > 4 else 0)
        for z in range(brain.shape[0]):
            if means.ndim:
                grey = means[:, z, :rows, :columns].astype(float)
            else:
                plane = brain.read_stains((0, rows * BIN, 0, columns * BIN), (z, z + 1))[:, 0]
                grey = plane.reshape(2, rows, BIN, columns, BIN).mean((2, 4))
            counts = brain.read_genes((0, rows, 0, columns), (z, z + 1), genes)[:, 0]
            tissue = np.asarray(brain.tissue.levels[0][z, :rows, :columns]) > 0
            x = np.concatenate([counts[:, tissue], np.ones((1, int(tissue.sum())))])
            total += x @ x.T
            target += x @ grey[:, tissue].T
    coefficients = np.linalg.solve(total + 1e-6 * np.eye(len(total)), target)
    return coefficients, target[-1] / total[-1, -1]


def regress(
    brain: BrainStore, place: tuple[int, int, int], genes: tuple[str, ...], fit: np.ndarray
) -> np.ndarray:
    """Predict two slices of a field by the regression: (stains, z, y, x)."""
    z, y, x = place
    bins = (y // BIN, (y + FIELD) // BIN, x // BIN, (x + FIELD) // BIN)
    counts = brain.read_genes(bins, (z, z + 2), genes)
    grey = np.einsum("gzyx,gs->szyx", counts, fit[:-1]) + fit[-1][:, None, None, None]
    return np.clip(grey, 0, 255).repeat(BIN, 2).repeat(BIN, 3).astype(np.uint8)


def untrained(model: TeraMind, seed: int = 0) -> TeraMind:
    """Return a network of the same shape with its initial weights."""
    torch.manual_seed(seed)
    fresh = TeraMind(model.config).eval()
    fresh.gene_names = model.gene_names
    return fresh


def draw(path: Path, real: np.ndarray, made: np.ndarray, mean: np.ndarray) -> None:
    """Draw a field: real, one sample, mean of samples; both stains."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 8.2), layout="constrained")
    for row, stain in zip(axes, ("DAPI", "PolyT"), strict=True):
        k = 0 if stain == "DAPI" else 1
        for axis, image, words in zip(
            row, (real, made, mean), ("real", "one sample", "mean of samples"), strict=True
        ):
            axis.imshow(image[k], cmap="gray", vmin=0, vmax=255)
            axis.set_title(f"{stain}, {words}")
            axis.set_axis_off()
    figure.savefig(path, dpi=75)
    plt.close(figure)


def table(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    heads = ["PSNR DAPI, dB", "PSNR PolyT, dB", "SSIM DAPI", "SSIM PolyT", "nuclei per field",
             "mean nuclear area, um2", "nuclei per field, Otsu",
             "mean nuclear area, um2, Otsu"]  # fmt: skip
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, row in results.items():
        (p0, p1), (s0, s1) = row["psnr"], row["ssim"]
        figures = (p0, p1, s0, s1, *(row[head] for head in heads[4:]))
        lines.append(
            f"| {name} | " + " | ".join("" if v is None else str(v) for v in figures) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--brain", type=Path, required=True, help="not trained on")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="trained on")
    parser.add_argument("--fields", type=int, default=16)
    parser.add_argument("--replicates", type=int, default=8)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--sampler", default="ddim")
    parser.add_argument("--halo", default="2", help="patches around a field, or 'exact'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("evaluation.json"))
    options = parser.parse_args()
    keep_freed_memory()
    kernels.choose(kernels.decide("auto", "cpu"))
    brain = tm.open_brain(options.brain)
    model = tm.load_model(options.checkpoint)
    genes = model.gene_names
    assert genes is not None
    fit, mean = fit_regression([tm.open_brain(path) for path in options.train], genes)
    scores = {
        name: Scores()
        for name in ("truth", "network, one sample", "network, mean of samples", "mean image",
                     "linear regression", "untrained network")
    }  # fmt: skip
    halo: Any = options.halo if options.halo == "exact" else int(options.halo)
    began = time.monotonic()

    def sample(network: TeraMind, place: tuple[int, int, int], seed: int) -> np.ndarray:
        z, y, x = place
        return tm.simulate(
            brain, network, (y, y + FIELD, x, x + FIELD), (z, z + 2), seed=seed,
            steps=options.steps, sampler=options.sampler, halo=halo,
        )  # fmt: skip

    places = tissue_places(brain, options.fields, options.seed)
    for n, place in enumerate(places):
        z, y, x = place
        real = brain.read_stains((y, y + FIELD, x, x + FIELD), (z, z + 2))
        samples = np.stack([sample(model, place, 100 * n + k) for k in range(options.replicates)])
        average = samples.mean(0).astype(np.uint8)
        fresh = sample(untrained(model), place, 0)
        flat = np.broadcast_to(mean[:, None, None, None], real.shape).astype(np.uint8)
        linear = regress(brain, place, genes, fit)
        for s in range(2):
            for name, made in zip(
                scores, (real, samples[0], average, flat, linear, fresh), strict=True
            ):
                scores[name].add(real[:, s], made[:, s])
        if n == 0:
            draw(options.out.with_suffix(".png"), real[:, 0], samples[0][:, 0], average[:, 0])
        print(f"field {2 * n + 2} of {2 * len(places)}, {time.monotonic() - began:.0f} s",
              file=sys.stderr, flush=True)  # fmt: skip
        results = {name: score.summary() for name, score in scores.items()}
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
        settings["train"] = [path.name for path in options.train]
        settings["checkpoint"], settings["brain"] = options.checkpoint.name, options.brain.name
        del settings["out"]
        record = {
            "settings": settings,
            "checkpoint_sha256": model.sha256,
            "fields measured": 2 * (n + 1),
            "results": {k: {**v, "psnr": [None if p == float("inf") else p for p in v["psnr"]]}
                        for k, v in results.items()},
        }  # fmt: skip
        options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(table(record["results"]))


if __name__ == "__main__":
    main()

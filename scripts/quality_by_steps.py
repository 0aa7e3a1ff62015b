"""Draw how a result depends on sampler and steps, on a phantom that was not trained on.

    python scripts/quality_by_steps.py --brain main.zarr

Every result starts from the same noise. Two questions: how far it is from the limit of many steps
(mean difference in grey levels from DDIM with ``--limit`` steps), and how it compares with the
truth (PSNR and SSIM). Writes a figure and, beside the checkpoint's records, the numbers as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import matplotlib as mpl
import numpy as np

import napari_teramind as tm
from evaluate_network import tissue_places
from napari_teramind.evaluate.images import psnr, ssim

mpl.use("Agg")
import matplotlib.pyplot as plt

SIDE = 256
STEPS = (3, 4, 6, 8, 10, 15, 25, 50)
SAMPLERS = {"ddim": "DDIM", "dpm++2m": "DPM-Solver++ (2M)"}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return means over the fields: sampler, steps, distance to the limit, PSNR, SSIM."""
    brain, model = tm.open_brain(options.brain), tm.load_model(options.checkpoint)
    places = tissue_places(brain, 2 * options.fields, options.seed)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for number, (z, y, x) in enumerate(places):
        roi, slices = (y, y + SIDE, x, x + SIDE), (z, z + 2)
        real = brain.read_stains(roi, slices)

        def generate(
            sampler: str, steps: int, roi: Any = roi, slices: Any = slices, seed: int = number
        ) -> np.ndarray:
            image: np.ndarray = tm.simulate(
                brain, model, roi, slices, seed=seed, steps=steps, sampler=sampler, halo=0
            )
            return image.astype(float)

        limit = generate("ddim", options.limit)
        for sampler in SAMPLERS:
            for steps in STEPS:
                made = generate(sampler, steps)
                planes = [(real[k, s], made[k, s]) for k in range(len(real)) for s in range(2)]
                found.setdefault((sampler, steps), []).append(
                    [
                        float(np.abs(made - limit).mean()),
                        float(np.mean([psnr(a, b) for a, b in planes])),
                        float(np.mean([ssim(a, b) for a, b in planes])),
                    ]
                )
        print(f"field {number + 1} of {len(places)}", flush=True)
    runs = []
    for (sampler, steps), values in found.items():
        distance, p, s = np.mean(values, 0)
        runs.append(
            {
                "sampler": sampler,
                "steps": steps,
                "grey levels from the limit": round(float(distance), 2),
                "psnr": round(float(p), 2),
                "ssim": round(float(s), 4),
            }
        )
    return {"fields": len(places), "limit": options.limit, "runs": runs}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the three measures by steps."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    measures = (
        ("grey levels from the limit", f"grey levels from {results['limit']} steps of DDIM"),
        ("psnr", "PSNR against the truth, dB"),
        ("ssim", "SSIM against the truth"),
    )
    for axis, (key, words) in zip(axes, measures, strict=True):
        for sampler, name in SAMPLERS.items():
            runs = [run for run in results["runs"] if run["sampler"] == sampler]
            axis.plot([r["steps"] for r in runs], [r[key] for r in runs], "o-", label=name)
        axis.set_xscale("log")
        axis.set_xticks(STEPS, [str(n) for n in STEPS])
        axis.minorticks_off()
        axis.set_xlabel("steps")
        axis.set_title(words, fontsize=10)
    axes[0].legend()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--brain", type=Path, required=True, help="not trained on")
    parser.add_argument("--checkpoint", default="packaged")
    parser.add_argument("--fields", type=int, default=2)
    parser.add_argument("--limit", type=int, default=200, help="steps of DDIM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/phantom/steps.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/quality-by-steps.png"))
    options = parser.parse_args()
    results = measure(options)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    draw(results, options.figure)
    print(options.out, options.figure)


if __name__ == "__main__":
    main()

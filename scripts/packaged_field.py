"""Draw a field of a phantom: real, one sample of a network, and the mean of several.

usage: packaged_field.py --brain BRAIN --out PICTURE.png [--checkpoint FILE] [--samples N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

import napari_teramind as tm

SIDE = 512
COLORS = {"DAPI": (0.25, 0.45, 1.0), "PolyT": (1.0, 0.5, 0.05)}


def main() -> None:
    """Generate and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brain", type=Path, required=True, help="a phantom, not trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", default="packaged")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument(
        "--place", type=int, nargs=3, default=(4, 1024, 1280), metavar=("Z", "Y", "X")
    )
    options = parser.parse_args()
    mpl.use("Agg")
    brain = tm.open_brain(options.brain)
    model = tm.load_model(options.checkpoint)
    z, y, x = options.place
    roi, slices = (y, y + SIDE, x, x + SIDE), (z, z + 1)
    samples = np.stack(
        [
            tm.simulate(brain, model, roi, slices, halo=1, steps=options.steps, seed=seed)[:, 0]
            for seed in range(options.samples)
        ]
    )
    real = brain.read_stains(roi, slices)[:, 0]
    draw(options.out, brain.stain_names, real, samples)


def draw(out: Path, names: tuple[str, ...], real: np.ndarray, samples: np.ndarray) -> None:
    """Draw the real field, a sample and the mean, each in the colours of the stains."""
    from matplotlib import pyplot as plt

    mean = samples.mean(axis=0)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
    titles = ("real", "generated, one sample", f"mean of {len(samples)} samples")
    for axis, image, title in zip(axes, (real, samples[0], mean), titles, strict=True):
        colors = np.array([COLORS.get(name, (1.0, 1.0, 1.0)) for name in names])
        picture = np.tensordot(image / 255.0, colors, axes=(0, 0))
        axis.imshow(np.clip(1.3 * picture, 0, 1))
        axis.set_title(title)
        axis.axis("off")
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main()

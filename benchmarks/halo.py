"""Measure how far a quick surround is from the exact one, and what each costs.

``python benchmarks/halo.py [BRAIN]`` generates fields of 256 x 256 px x 2 slices of a brain
(default: a phantom of size S that it makes), with the packaged network, once with the exact
surround and once with each quick one, the same noise. Told are grey levels of difference on
average, within the outermost 32 px and inside of them; structural similarity of quick with exact,
beside that of two exact samples with different seeds, which says what a difference means; patch
evaluations and seconds.

Results go to ``benchmarks/results/halo.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine
from skimage.metrics import structural_similarity

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.model import TeraMind
from napari_teramind.model.packaged import PACKAGED, checkpoint_path
from napari_teramind.phantom import make_phantom
from napari_teramind.simulate import Request, lay_out

RESULTS = Path(__file__).parent / "results" / "halo.json"
SIDE, BORDER = 256, 32
HALOS = (0, 1, 2, 3, 4, 6)


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("brain", nargs="?")
    parser.add_argument("--fields", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[8])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.brain or str(Path(folder) / "phantom.zarr")
        if options.brain is None:
            make_phantom(Path(path), size="S")
        run_all(tm.open_brain(path), options)


def run_all(brain: BrainStore, options: argparse.Namespace) -> None:
    """Measure every number of steps."""
    model = tm.load_model(checkpoint_path(PACKAGED))
    rois = places(brain, options.fields, options.seed)
    results: dict[str, Any] = {
        "machine": machine.facts(),
        "command": f"python benchmarks/halo.py BRAIN --fields {options.fields}",
        "network": model.sha256,
        "fields": [{"roi": roi, "slices": slices} for roi, slices in rois],
        "steps": {},
    }
    for steps in options.steps:
        results["steps"][steps] = compare(brain, model, rois, steps)
        table(results["steps"][steps], steps)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


def places(
    brain: BrainStore, count: int, seed: int
) -> list[tuple[tuple[int, int, int, int], tuple[int, int]]]:
    """Return fields at random that are all tissue, off the patch grid as a user's are."""
    rng = np.random.default_rng(seed)
    assert brain.tissue is not None
    mask, depth = brain.tissue.levels[0], brain.shape[0] // 2
    factor = round(brain.tissue.scale(0)[-1] / brain.pixel_size)
    found: list[Any] = []
    while len(found) < count:
        z = 2 * int(rng.integers(depth))
        y, x = (int(rng.integers(0, size - SIDE)) for size in brain.shape[1:])
        part = np.asarray(
            mask[z : z + 2, y // factor : (y + SIDE) // factor, x // factor : (x + SIDE) // factor]
        )
        if part.all():
            found.append(((y, y + SIDE, x, x + SIDE), (z, z + 2)))
    return found


def compare(
    brain: BrainStore, model: TeraMind, rois: list[Any], steps: int
) -> list[dict[str, Any]]:
    """Generate every field with every surround."""
    rows: dict[Any, list[dict[str, float]]] = {}
    for roi, slices in rois:
        exact, row = run(brain, model, roi, slices, steps, "exact")
        other, _ = run(brain, model, roi, slices, steps, "exact", seed=1)
        rows.setdefault("exact", []).append(row)
        rows.setdefault("another seed", []).append(differences(other, exact))
        for halo in HALOS:
            image, row = run(brain, model, roi, slices, steps, halo)
            rows.setdefault(halo, []).append({**row, **differences(image, exact)})
    return [
        {"halo": halo, **{key: float(np.mean([row[key] for row in of])) for key in of[0]}}
        for halo, of in rows.items()
    ]


def run(
    brain: BrainStore, model: TeraMind, roi: Any, slices: Any, steps: int, halo: Any, seed: int = 0
) -> tuple[np.ndarray, dict[str, float]]:
    """Generate a field; return it and what it took."""
    layout = lay_out(brain, model.config, Request(roi, slices, steps=steps, halo=halo))
    evaluations = layout.evaluations_of(None, layout.target) * len(layout.groups)
    began = time.perf_counter()
    image = tm.simulate(brain, model, roi, slices, seed=seed, steps=steps, halo=halo)
    return image, {"evaluations": evaluations, "seconds": time.perf_counter() - began}


def differences(image: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Compare (stains, z, y, x) uint8."""
    away = np.abs(image.astype(float) - exact)
    inside = np.s_[..., BORDER:-BORDER, BORDER:-BORDER]
    edge = np.ones(away.shape, bool)
    edge[inside] = False
    similar = [
        structural_similarity(a, b) for x, y in zip(image, exact, strict=True)
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    return {
        "grey_levels": float(away.mean()),
        "at_the_border": float(away[edge].mean()),
        "inside": float(away[inside].mean()),
        "ssim": float(np.mean(similar)),
    }


def table(rows: list[dict[str, Any]], steps: int) -> None:
    """Print the results of a number of steps."""
    print(
        f"{steps} steps\nsurround        grey levels  border  inside   SSIM  evaluations  seconds"
    )
    for row in rows:
        values = [
            f"{row[key]:{width}.{digits}f}" if key in row else " " * width
            for key, width, digits in (
                ("grey_levels", 11, 2), ("at_the_border", 7, 2), ("inside", 7, 2), ("ssim", 6, 3),
                ("evaluations", 12, 0), ("seconds", 8, 1),
            )
        ]  # fmt: skip
        print(f"{row['halo']!s:14}", *values)


if __name__ == "__main__":
    main()

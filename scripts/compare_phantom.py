"""Compare a phantom with a real MERSCOPE region, check stated bounds, and draw one figure.

    python scripts/compare_phantom.py --real ../shared/data/merscope_region/region_0

imports the region as any user would (its Cellbound2 stands for PolyT, focal planes projected by
maximum), makes a phantom of size S unless --phantom names one, measures both in the same way and
ends with exit code 1 when a bound does not hold. The real tissue is liver: it shares instrument,
resolution and scale with brain sections, not the arrangement of cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from skimage import segmentation

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.brain.importers.merscope import import_merscope
from napari_teramind.evaluate.nuclei import find_nuclei
from napari_teramind.phantom import make_phantom

PIXEL = 0.108
FIELD = 512
# Wavelengths between which spectra are compared, micrometre.
WAVELENGTHS = np.geomspace(20, 0.5, 13)
STAINS = ("DAPI", "PolyT")
# Bounds: relative difference of the median diameter, factors for the others.
DIAMETER, TRANSCRIPTS, SPECTRUM = 0.25, 2.0, 3.0


@dataclass
class Measures:
    """What is measured of fields of 512 x 512 px.

    Attributes
    ----------
    fields : list of array of uint8, shape (2, 512, 512)
    spectra : array, shape (2, bands)
        Mean power in bands of wavelength, DAPI and PolyT, grey levels squared.
    diameters : array
        Of nuclei found by watershed and not cut by the border, micrometre.
    nuclei : int
        Nuclei found, cut ones included.
    transcripts : int
    per_bin : array
        Transcripts in each bin.
    """

    fields: list[np.ndarray]
    spectra: np.ndarray
    diameters: np.ndarray
    nuclei: int
    transcripts: int
    per_bin: np.ndarray

    @property
    def per_nucleus(self) -> float:
        """Transcripts per nucleus."""
        return self.transcripts / self.nuclei


def spectrum(image: np.ndarray) -> np.ndarray:
    """Mean power of a field in the bands of `WAVELENGTHS`."""
    window = np.outer(np.hanning(FIELD), np.hanning(FIELD))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(FIELD, PIXEL)] * 2))
    edges = 1 / WAVELENGTHS
    return np.array([power[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(edges)])


def measure_fields(brain: BrainStore, places: list[tuple[int, int, int]]) -> Measures:
    """Measure fields of a brain, given as (slice, y, x)."""
    fields, spectra, diameters, per_bin = [], [], [], []
    nuclei = 0
    for z, y, x in places:
        field = brain.read_stains((y, y + FIELD, x, x + FIELD), (z, z + 1))[:, 0]
        bins = (y // 16, (y + FIELD) // 16, x // 16, (x + FIELD) // 16)
        per_bin.append(brain.read_genes(bins, (z, z + 1)).sum(0).ravel())
        found = find_nuclei(field[0], PIXEL)
        nuclei += found.count
        diameters.append(found.diameters_um)
        spectra.append([spectrum(stain.astype(float)) for stain in field])
        fields.append(field)
    counts = np.concatenate(per_bin)
    return Measures(
        fields, np.mean(spectra, 0), np.concatenate(diameters), nuclei, int(counts.sum()), counts
    )


def tissue_fields(brain: BrainStore, most: int) -> list[tuple[int, int, int]]:
    """Fields that are all tissue and do not overlap, spread evenly over a phantom."""
    assert brain.tissue is not None
    tissue = np.asarray(brain.tissue.levels[0]) > 0
    side, step = FIELD // 16, 8
    places = []
    for z, free in enumerate(tissue.copy()):
        for y in range(0, free.shape[0] - side + 1, step):
            for x in range(0, free.shape[1] - side + 1, step):
                if free[y : y + side, x : x + side].mean() > 0.98:
                    places.append((z, y * 16, x * 16))
                    free[y : y + side, x : x + side] = False
    return [places[i] for i in np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)]


def check(real: Measures, phantom: Measures) -> dict[str, Any]:
    """Compare with the bounds."""
    medians = float(np.median(real.diameters)), float(np.median(phantom.diameters))
    difference = abs(medians[1] / medians[0] - 1)
    transcripts = phantom.per_nucleus / real.per_nucleus
    ratios = phantom.spectra / real.spectra
    per_bin = float(phantom.per_bin.mean() / real.per_bin.mean())
    return {
        "median nuclear diameter, um": {"real": medians[0], "phantom": medians[1]},
        "median nuclear diameter within 25 %": bool(difference <= DIAMETER),
        "transcripts per nucleus": {"real": real.per_nucleus, "phantom": phantom.per_nucleus},
        "transcripts per nucleus within a factor of 2": _within(transcripts, TRANSCRIPTS),
        "transcripts per bin, phantom over real": per_bin,
        "power spectrum, phantom over real": {
            stain: [round(float(v), 2) for v in ratios[k]] for k, stain in enumerate(STAINS)
        },
        "power spectrum within a factor of 3": all(_within(v, SPECTRUM) for v in ratios.ravel()),
        "fields of the phantom": len(phantom.fields),
    }


def _within(ratio: float, factor: float) -> bool:
    return bool(1 / factor <= ratio <= factor)


def draw(real: Measures, phantom: Measures, path: Path) -> None:
    """Draw pictures side by side above the distributions."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(14, 10.5), layout="constrained")
    middle = len(phantom.fields) // 2
    for column, (name, field) in enumerate(
        (("real", real.fields[0]), ("phantom", phantom.fields[middle]))
    ):
        for stain in range(2):
            axis = axes[0, 2 * column + stain]
            axis.imshow(field[stain], cmap="gray", vmin=0, vmax=255)
            label = "Cellbound2" if name == "real" and stain else STAINS[stain]
            axis.set_title(f"{label}, {name}")
            axis.set_axis_off()
            axis.plot([FIELD - 20 - 10 / PIXEL, FIELD - 20], [FIELD - 20] * 2, "w", lw=3)
    _draw_images(axes[1], real, phantom)
    _draw_counts(axes[2], real, phantom)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_images(axes: Any, real: Measures, phantom: Measures) -> None:
    centres = np.sqrt(WAVELENGTHS[1:] * WAVELENGTHS[:-1])
    for k, stain in enumerate(STAINS):
        for name, m in (("real", real), ("phantom", phantom)):
            values = np.concatenate([field[k].ravel() for field in m.fields])
            axes[k].hist(values, np.arange(0, 257, 4), density=True, histtype="step", label=name)
            axes[2 + k].plot(centres, m.spectra[k], "o-", ms=3, label=name)
        axes[k].set(title=f"Grey levels, {stain}", yscale="log")
        band = real.spectra[k] / SPECTRUM, real.spectra[k] * SPECTRUM
        axes[2 + k].fill_between(centres, *band, alpha=0.15, label="factor of 3")
        axes[2 + k].set(
            title=f"Power spectrum, {stain}", xscale="log", yscale="log", xlabel="wavelength, µm"
        )
    for axis in axes:
        axis.legend()


def _draw_counts(axes: Any, real: Measures, phantom: Measures) -> None:
    for name, m in (("real", real), ("phantom", phantom)):
        text = f"{name}: {len(m.diameters)}, median {np.median(m.diameters):.1f}"
        axes[0].hist(m.diameters, np.arange(3, 16), density=True, histtype="step", label=text)
        axes[1].hist(
            m.per_bin, np.arange(-0.5, 25), density=True, histtype="step",
            label=f"{name}: mean {m.per_bin.mean():.2f}",
        )  # fmt: skip
    axes[0].set(title="Diameter of nuclei, µm")
    axes[1].set(title="Transcripts per bin", yscale="log")
    axes[2].bar(["real", "phantom"], [real.per_nucleus, phantom.per_nucleus], color=["C0", "C1"])
    axes[2].set(title="Transcripts per nucleus")
    for axis in axes[:2]:
        axis.legend()
    axes[3].imshow(_overlay(phantom.fields[0]))
    axes[3].set(title="Watershed on the phantom")
    axes[3].set_axis_off()


def _overlay(field: np.ndarray) -> np.ndarray:
    grey = np.stack([field[0]] * 3, -1) / 255
    return segmentation.mark_boundaries(grey, find_nuclei(field[0]).labels, color=(1, 0.5, 0))


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", type=Path, required=True, help="MERSCOPE region folder")
    parser.add_argument("--phantom", type=Path, help="phantom to compare; made when not given")
    parser.add_argument("--figure", type=Path, default=Path("docs/images/phantom-real.png"))
    parser.add_argument("--fields", type=int, default=60, help="at most so many phantom fields")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        import_merscope(
            [options.real], f"{folder}/real.zarr", stains={"DAPI": "DAPI", "PolyT": "Cellbound2"}
        )
        real = measure_fields(open_brain(f"{folder}/real.zarr"), [(0, 0, 0)])
        if options.phantom is None:
            brain = make_phantom(f"{folder}/phantom.zarr", size="S")
        else:
            brain = open_brain(options.phantom)
        phantom = measure_fields(brain, tissue_fields(brain, options.fields))
    result = check(real, phantom)
    print(json.dumps(result, indent=2))
    draw(real, phantom, options.figure)
    print(options.figure)
    return 0 if all(value for value in result.values() if isinstance(value, bool)) else 1


if __name__ == "__main__":
    sys.exit(main())

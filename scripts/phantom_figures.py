"""Make the pictures of docs/phantom.md and print its tables of expression by structure.

    python scripts/phantom_figures.py --phantom phantom.zarr

takes a phantom of the main animal, size S or larger, and makes one when none is named. Pictures in
napari come from ``scripts/screenshots.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.phantom import make_phantom
from napari_teramind.phantom.anatomy import Anatomy, ProceduralAnatomy

mpl.use("Agg")
import matplotlib.pyplot as plt

BIN, PIXEL = 16, 0.108
GENES = ("Slc17a7", "Slc17a6", "Gad1", "Th", "Nr4a2", "Aqp4", "Mog", "Cldn5")
STRUCTURES = (
    "MOB", "Isocortex", "6b", "CLA", "PIR", "CA1", "DG", "CP", "TH", "HY", "MB", "SNc", "SNr",
    "VTA", "PAG", "P", "MY", "CBX", "fiber tracts",
)  # fmt: skip
# Transcripts of four genes in one picture.
SHOWN = {"Slc17a7": "#00c060", "Slc17a6": "#ff3030", "Gad1": "#4080ff", "Th": "#ffe000"}


def paint(ids: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Give structures their colours of the atlas."""
    found, place = np.unique(ids, return_inverse=True)
    colours = [
        mpl.colors.to_rgb("#" + anatomy.table[int(i)].color_hex) if i else (0, 0, 0) for i in found
    ]
    return np.array(colours)[place.reshape(ids.shape)]


def draw_anatomy(path: Path) -> None:
    """Draw coronal, sagittal and horizontal planes of the procedural brain."""
    anatomy = ProceduralAnatomy()
    step = 0.03
    dv, ml = np.meshgrid(np.arange(0, 7.7, step), np.arange(-5.35, 5.35, step), indexing="ij")
    figure, axes = plt.subplots(2, 5, figsize=(15, 5.6), layout="constrained")
    for axis, ap in zip(axes[0], (1.2, 4.8, 7.2, 8.4, 11.6), strict=True):
        axis.imshow(paint(anatomy.at(ap, dv, ml), anatomy))
        axis.set_title(f"coronal, AP {ap} mm")
    planes = np.arange(0, 13.2, step)
    for axis, side in zip(axes[1, :3], (0.15, 1.5, 3.0), strict=True):
        column = np.arange(0, 7.7, step)
        plane = np.stack([anatomy.at(ap, column, np.full(column.shape, side)) for ap in planes], 1)
        axis.imshow(paint(plane, anatomy))
        axis.set_title(f"sagittal, {side} mm lateral")
    for axis, depth in zip(axes[1, 3:], (2.4, 5.0), strict=True):
        row = np.arange(-5.35, 5.35, step)
        plane = np.stack([anatomy.at(ap, np.full(row.shape, depth), row) for ap in planes])
        axis.imshow(paint(plane.swapaxes(0, 1), anatomy))
        axis.set_title(f"horizontal, {depth} mm from the top")
    for axis in axes.ravel():
        axis.set_axis_off()
    figure.savefig(path, dpi=75)
    plt.close(figure)


def stains_picture(stains: np.ndarray) -> np.ndarray:
    """Blend DAPI in blue and PolyT in orange, as napari does."""
    dapi, polyt = stains[0] / 255.0, stains[1] / 255.0
    return np.clip(np.stack([polyt, polyt * 0.5 + dapi * 0.15, dapi], -1) * 1.2, 0, 1)


def draw_sections(brain: BrainStore, path: Path) -> None:
    """Draw stains, genes and structures of four sections side by side."""
    assert brain.structures is not None
    anatomy = ProceduralAnatomy()
    sections = [round(f * (brain.shape[0] - 1)) for f in (0.09, 0.46, 0.64, 0.91)]
    figure, axes = plt.subplots(3, 4, figsize=(15, 8.6), layout="constrained", facecolor="black")
    for column, z in enumerate(sections):
        axes[0, column].imshow(stains_picture(np.asarray(brain.stains.levels[2][:, z])))
        rows, columns = brain.shape[1] // BIN, brain.shape[2] // BIN
        counts = brain.read_genes((0, rows, 0, columns), (z, z + 1), list(SHOWN))[:, 0]
        colours = np.array([mpl.colors.to_rgb(c) for c in SHOWN.values()])
        light = np.stack([gaussian_filter(c, 1.0) for c in counts])
        axes[1, column].imshow(np.clip(np.einsum("ghw,gc->hwc", light, colours) * 0.25, 0, 1))
        axes[2, column].imshow(paint(np.asarray(brain.structures.levels[0][z]), anatomy))
    for k, (gene, colour) in enumerate(SHOWN.items()):
        axes[1, 0].text(0.02, 0.95 - 0.08 * k, gene, color=colour, transform=axes[1, 0].transAxes)
    for axis in axes.ravel():
        axis.set_axis_off()
    figure.savefig(path, dpi=75)
    plt.close(figure)


def draw_closeup(brain: BrainStore, path: Path) -> None:
    """Draw transcripts over stains, around the dopaminergic cells of the substantia nigra."""
    cells, transcripts = brain.table("cells"), brain.table("transcripts")
    at = cells[(cells["type"] == "Dopaminergic") & (cells["acronym"] == "SNc")].iloc[0]
    side = 900
    y, x = (int(at[c] / PIXEL) - side // 2 for c in ("y_um", "x_um"))
    z = int(at["slice"])
    stains = brain.read_stains((y, y + side, x, x + side), (z, z + 1))[:, 0]
    here = transcripts[transcripts["slice"] == z]
    figure, axes = plt.subplots(1, 2, figsize=(15, 7.6), layout="constrained")
    for axis in axes:
        axis.imshow(stains_picture(stains), extent=(0, side * PIXEL, side * PIXEL, 0))
        axis.set_xlabel("µm")
    for gene, colour in {**SHOWN, "Mog": "#d0d0d0", "Aqp4": "#ff80ff"}.items():
        some = here[here["gene"] == gene]
        place = some["x_um"] - x * PIXEL, some["y_um"] - y * PIXEL
        axes[1].scatter(*place, s=5, c=colour, linewidths=0, label=gene)
    axes[1].set(xlim=(0, side * PIXEL), ylim=(side * PIXEL, 0))
    axes[1].legend(markerscale=3, loc="upper right")
    figure.savefig(path, dpi=75)
    plt.close(figure)


def members(ids: np.ndarray, acronym: str) -> np.ndarray:
    """Tell which structure ids belong to a structure of the table, descendants included."""
    table = ProceduralAnatomy().table
    if acronym == "6b":
        return np.isin(ids, [i for i, s in table.items() if s.acronym.endswith("6b")])
    return np.asarray(table.mask(ids, acronym))


def expression_by_area(brain: BrainStore) -> pd.DataFrame:
    """Mean transcripts per 1,000 square micrometre by structure and gene, over all sections."""
    assert brain.structures is not None
    counts = np.asarray(brain.genes.levels[0][[brain.gene_names.index(g) for g in GENES]])
    structures = np.asarray(brain.structures.levels[0])
    area = (BIN * PIXEL) ** 2 / 1000
    rows: dict[str, Any] = {}
    for acronym in STRUCTURES:
        mask = members(structures, acronym)
        if mask.any():
            rows[acronym] = counts[:, mask].sum(1, dtype=float) / (mask.sum() * area)
    return pd.DataFrame(rows, index=list(GENES)).T.round(1)


def expression_by_cell(brain: BrainStore) -> pd.DataFrame:
    """Mean transcripts per cell by structure and gene, over the cells that lie in a structure."""
    cells = brain.table("cells").set_index("id")
    transcripts = brain.table("transcripts")
    own = transcripts[transcripts["gene"].isin(GENES) & (transcripts["cell"] > 0)]
    counts = pd.crosstab(own["cell"], own["gene"]).reindex(
        index=cells.index, columns=list(GENES), fill_value=0
    )
    ids = cells["structure"].to_numpy(np.uint32)
    rows = {a: counts[members(ids, a)].mean() for a in STRUCTURES if members(ids, a).any()}
    return pd.DataFrame(rows).T.round(1)


def markdown(frame: pd.DataFrame) -> str:
    """Write a table as Markdown."""
    lines = ["| structure | " + " | ".join(frame.columns) + " |"]
    lines.append("|---" * (len(frame.columns) + 1) + "|")
    for name, row in frame.iterrows():
        lines.append(f"| {name} | " + " | ".join(f"{v:.1f}" for v in row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--phantom", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.phantom is None:
            brain = make_phantom(f"{folder}/phantom.zarr", size="S")
        else:
            brain = open_brain(options.phantom)
        draw_anatomy(options.out / "phantom-anatomy.png")
        draw_sections(brain, options.out / "phantom-sections.png")
        draw_closeup(brain, options.out / "phantom-closeup.png")
        print(markdown(expression_by_cell(brain)))
        print(markdown(expression_by_area(brain)))


if __name__ == "__main__":
    main()

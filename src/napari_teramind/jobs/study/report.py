"""The report of a study: one page, with the numbers of every table and figure to be downloaded."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_teramind
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.study.config import Study
from napari_teramind.jobs.study.tables import (
    by_slice,
    by_structure,
    download,
    heatmap,
    read_table,
    summary,
)
from napari_teramind.words import listed

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.evaluate.pictures import Box
    from napari_teramind.jobs.study.protocol import Attended, Judged

REPORT = "report.html"
_CELL_BINS = 6
LAYER_UM, CELLS_UM = 200.0, 40.0
"""Sides of the parts that are shown beside all that was generated: a layer of cells, few cells."""


def write_report(
    study: Study,
    judged: Sequence[Judged],
    attended: Sequence[Attended],
    expression: Path | None,
    job: JobContext,
) -> Path:
    """Write the report of a study.

    Parameters
    ----------
    study
        The study.
    judged
        Its experiments; pictures show the first.
    attended
        Its pairs.
    expression
        Table of mean expression by structure, of the animal that the first one is tested on; None
        if that has no structures.
    job
        Told how far it is.

    Returns
    -------
    Path
        ``report.html`` in the study's folder.
    """
    from napari_teramind.brain import open_brain
    from napari_teramind.brain.export import staged
    from napari_teramind.evaluate.pages import page

    job.report("Writing the report", 0, 0)
    first = judged[0]
    brain = open_brain(study.animals[first.experiment.test].brain)
    tables = {each.name: read_table(each.metrics) for each in judged}
    text = page(
        "report.html",
        title=study.title,
        lead=_lead(study, judged),
        compared=_compared(brain, first),
        summary=summary(tables),
        slices=by_slice(tables[first.name]),
        structures=by_structure(tables[first.name]),
        expression=None if expression is None else heatmap(expression),
        attention=[_attention(each) for each in attended],
        downloads={each.name: download(each.metrics) for each in judged},
        first=first.name,
        animal=first.experiment.test,
        provenance=_provenance(study, judged),
        footer=(
            f"Made by napari-teramind {napari_teramind.__version__} on "
            f"{time.strftime('%Y-%m-%d')}; method: Wu et al. 2025, arXiv 2503.01220."
        ),
    )
    path = study.out / REPORT
    with staged(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _lead(study: Study, judged: Sequence[Judged]) -> str:
    trained = [
        f"{each.name}: "
        + (
            f"trained on {listed(each.experiment.train)}, tested on {each.experiment.test}"
            if each.experiment.train
            else f"{each.checkpoint.name}, tested on {each.experiment.test}"
        )
        for each in judged
    ]
    return f"{len(study.animals)} animals ({listed(list(study.animals))}). {'; '.join(trained)}."


# Real beside generated


def _compared(brain: BrainStore, judged: Judged) -> dict[str, Any]:
    """Show the slice and the places with most transcripts, real and generated, at three zooms."""
    from napari_teramind.evaluate.pages import picture
    from napari_teramind.evaluate.pictures import view

    image = brain.simulations[judged.result]
    said = image.attributes["teramind"]
    (y0, y1, x0, x1), (z0, z1) = said["roi"], said["slices"]
    counts = np.stack([_totals(brain, (y0, y1, x0, x1), z) for z in range(z0, z1)])
    z = z0 + int(counts.sum(axis=(1, 2)).argmax())
    size = brain.pixel_size
    row, column = _densest(counts[z - z0])
    centre = (y0 + 16 * row + 8) * size, (x0 + 16 * column + 8) * size
    whole = (y0 * size, y1 * size, x0 * size, x1 * size)
    rows = []
    for box in _zooms(whole, centre):
        rows.append(
            {
                "words": f"{box[1] - box[0]:,.0f} x {box[3] - box[2]:,.0f} \N{MICRO SIGN}m",
                "real": picture(view(brain.stains, z, box)),
                "generated": picture(view(image, z - z0, box)),
            }
        )
    return {"slice": z, "stains": listed(list(brain.stain_names)), "rows": rows}


def _zooms(whole: Box, centre: tuple[float, float]) -> list[Box]:
    """Return a part, and two squares in it around a place, ever smaller (micrometers)."""
    short = min(whole[1] - whole[0], whole[3] - whole[2])
    boxes = [whole]
    for most, share in ((LAYER_UM, 0.4), (CELLS_UM, 0.15)):
        side = min(most, share * short)
        y, x = (
            min(max(c - side / 2, low), high - side)
            for c, low, high in zip(centre, whole[::2], whole[1::2], strict=True)
        )
        boxes.append((y, y + side, x, x + side))
    return boxes


def _totals(brain: BrainStore, roi: tuple[int, int, int, int], z: int) -> np.ndarray:
    """Return transcripts of all genes per bin (rows, columns) of an ROI."""
    y0, y1, x0, x1 = roi
    box = (y0 // 16, -(-y1 // 16), x0 // 16, -(-x1 // 16))
    total = np.zeros((box[1] - box[0], box[3] - box[2]))
    for start in range(0, len(brain.gene_names), 16):
        names = brain.gene_names[start : start + 16]
        total += brain.read_genes(box, (z, z + 1), genes=names)[:, 0].sum(axis=0)
    return total


def _densest(counts: np.ndarray) -> tuple[int, int]:
    from scipy.ndimage import uniform_filter

    smooth = uniform_filter(counts.astype(float), _CELL_BINS, mode="constant")
    row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
    return int(row), int(column)


# Attention


def _attention(each: Attended) -> dict[str, Any]:
    animals = []
    for animal, path in each.tables.items():
        best = _best(path, each.pair)
        animals.append(
            {
                "name": animal,
                "best": best,
                "picture": download(each.figures[animal])["address"],
                "numbers": download(path),
            }
        )
    return {
        "pair": "-".join(each.pair),
        "experiment": each.experiment,
        "animals": animals,
        "agreement": _agreement(each.agreement),
    }


def _agreement(numbers: dict[str, float]) -> str:
    """Say how far the animals agree; nothing of a single one."""
    if not numbers:
        return ""
    between = [f"{value:.2f}" for name, value in numbers.items() if name.startswith("spearman")]
    return (
        f"Kendall's W of the ranks of structures is {numbers['kendall_w']:.2f} (1: all animals"
        f" agree, 0: none do); Spearman's rho of any two animals is {listed(between)}."
    )


def _best(path: Path, pair: tuple[str, str]) -> list[dict[str, str]]:
    from napari_teramind.attention.pairs import pair_name
    from napari_teramind.attention.statistics import ranking

    table = ranking(read_table(path), "attention", pair_name(pair), "ensemble").head(8)
    return [
        {
            "acronym": row["acronym"],
            "name": row["name"],
            "mean": f"{row['mean']:.3g}",
        }
        for row in table.to_dict("records")
    ]


# Provenance


def _provenance(study: Study, judged: Sequence[Judged]) -> list[tuple[str, str]]:
    import torch

    from napari_teramind.model import load_model

    facts = [
        ("napari-teramind", napari_teramind.__version__),
        ("Python, torch", f"{platform.python_version()}, {torch.__version__}"),
        ("Machine", f"{platform.system()} {platform.machine()}"),
    ]
    for each in judged:
        digest = str(load_model(each.checkpoint).sha256)[:16]
        facts.append((f"Network of {each.name}", f"{each.checkpoint.name}, sha256 {digest}..."))
    facts.append(("Study", json.dumps(study.model_dump(mode="json"), indent=2)))
    return facts

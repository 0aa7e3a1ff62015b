"""The report of a study: one page, with the numbers of every table and figure to be downloaded."""

from __future__ import annotations

import base64
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
from napari_teramind.words import listed

if TYPE_CHECKING:
    import pandas as pd

    from napari_teramind.brain import BrainStore
    from napari_teramind.jobs.study.protocol import Attended, Judged

REPORT = "report.html"
ZOOMS_UM = (None, 200.0, 40.0)
"""Sides of the parts that are shown: all that was generated, a layer of cells, a few cells."""
_TOP = 15


def write_report(
    study: Study, judged: Sequence[Judged], attended: Sequence[Attended], job: JobContext
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
    tables = {each.name: _read(each.metrics) for each in judged}
    text = page(
        "report.html",
        title=study.title,
        lead=_lead(study, judged),
        compared=_compared(brain, first),
        summary=_summary(tables),
        slices=_by_slice(tables[first.name]),
        structures=_by_structure(tables[first.name]),
        attention=[_attention(each) for each in attended],
        downloads={each.name: download(each.metrics) for each in judged},
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


def download(path: Path) -> dict[str, str]:
    """Return a file as a link that holds it."""
    kind = {".csv": "text/csv", ".png": "image/png"}.get(path.suffix, "application/octet-stream")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"name": path.name.replace(" ", "-"), "address": f"data:{kind};base64,{data}"}


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False, na_values=[""])


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
    middle = _densest(counts[z - z0])
    centre = ((y0 + 16 * middle[0] + 8) * size, (x0 + 16 * middle[1] + 8) * size)
    rows = []
    for side in ZOOMS_UM:
        if side is None or side >= max(y1 - y0, x1 - x0) * size:
            box = (y0 * size, y1 * size, x0 * size, x1 * size)
            words = f"{(y1 - y0) * size:,.0f} x {(x1 - x0) * size:,.0f} um"
        else:
            corner = [
                min(max(c - side / 2, low * size), max(low * size, high * size - side))
                for c, low, high in zip(centre, (y0, x0), (y1, x1), strict=True)
            ]
            box = (corner[0], corner[0] + side, corner[1], corner[1] + side)
            words = f"{side:g} um a side"
        rows.append(
            {
                "words": words,
                "real": picture(view(brain.stains, z, box)),
                "generated": picture(view(image, z - z0, box)),
            }
        )
    return {"slice": z, "stains": listed(list(brain.stain_names)), "rows": rows}


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

    smooth = uniform_filter(counts.astype(float), 16, mode="constant")
    row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
    return int(row), int(column)


# Tables


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of whole slices, each."""
    of_all = table["structure"].isna()
    return table[of_all & table["slice"].astype(str).str.fullmatch(r"\d+")]


def _summary(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return mean and spread over slices: a row per experiment and stain, a column per metric."""
    found, metrics = [], list[str]()
    for experiment, table in tables.items():
        whole = _whole(table)
        for stain, rows in whole.groupby("stain", sort=False):
            values = {}
            for metric, numbers in rows.groupby("metric", sort=False)["value"]:
                spread = f" \N{PLUS-MINUS SIGN} {numbers.std():.2g}" if len(numbers) > 1 else ""
                values[metric] = f"{numbers.mean():.3g}{spread}"
                metrics += [str(metric)] if metric not in metrics else []
            found.append({"experiment": experiment, "stain": stain, "values": values})
    return {"metrics": metrics, "rows": found}


def _by_slice(table: pd.DataFrame) -> dict[str, Any]:
    """Draw PSNR and SSIM of every slice."""
    from matplotlib.figure import Figure

    whole = _whole(table)
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, metric, title in zip(axes, ("psnr", "ssim"), ("PSNR (dB)", "SSIM"), strict=True):
        for stain, rows in whole[whole["metric"] == metric].groupby("stain", sort=False):
            axis.plot(rows["slice"].astype(int), rows["value"], marker="o", label=str(stain))
        axis.set(xlabel="slice", ylabel=title)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    return {"picture": _drawn(figure), "numbers": _as_csv(whole, "metrics-by-slice.csv")}


def _drawn(figure: Any) -> str:
    import io

    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode("ascii")


def _as_csv(table: pd.DataFrame, name: str) -> dict[str, str]:
    data = base64.b64encode(table.to_csv(index=False).encode()).decode("ascii")
    return {"name": name, "address": f"data:text/csv;base64,{data}"}


def _by_structure(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return the largest structures, a column per stain and metric; None if there are none."""
    rows = table[table["structure"].notna()]
    if rows.empty:
        return None
    wide = rows.pivot_table(
        index="structure", columns=["stain", "metric"], values="value", aggfunc="mean", sort=False
    )
    size = rows.groupby("structure")["n"].max().reindex(wide.index)
    order = size.sort_values(ascending=False).index[:_TOP]
    columns = [column for column in wide.columns if column[1] in ("psnr", "ssim")]
    body = [(name, [f"{wide.loc[name, column]:.3g}" for column in columns]) for name in order]
    heads = [f"{column[0]} {str(column[1]).upper()}" for column in columns]
    return {"heads": heads, "rows": body, "numbers": _as_csv(rows, "metrics-by-structure.csv")}


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
        "agreement": [(name.replace("_", " "), f"{v:.3f}") for name, v in each.agreement.items()],
    }


def _best(path: Path, pair: tuple[str, str]) -> list[dict[str, str]]:
    from napari_teramind.attention.pairs import pair_name
    from napari_teramind.attention.statistics import ranking

    table = ranking(_read(path), "attention", pair_name(pair), "ensemble").head(8)
    return [
        {
            "acronym": row["acronym"],
            "name": row["name"],
            "enrichment": f"{row['enrichment']:.2f}",
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

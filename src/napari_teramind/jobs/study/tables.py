"""Tables and plots of a report, each with its numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_STRUCTURES = 20
"""Structures that are shown, the largest."""
_DIVISIONS = (
    "Isocortex", "OLF", "HPF", "CTXsp", "STR", "PAL", "TH", "HY", "MB", "P", "MY", "CB",
    "fiber tracts", "VS",
)  # fmt: skip
"""The major divisions of the Allen ontology."""
_HEADS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "grey_wasserstein": "Grey levels apart",
    "nuclei": "Nuclei: real, generated",
    "nucleus_area_mean": "Their area (\N{MICRO SIGN}m\N{SUPERSCRIPT TWO}): real, generated",
    "texture_distance": "Texture apart",
    "fid": "FID",
    "sfid": "sFID",
}
"""Metrics in the order in which they are shown, and what they are called."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table; "NA" is a name like any other."""
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"slice": str})


def download(path: Path) -> dict[str, str]:
    """Return a file as a link that holds it."""
    kind = {".csv": "text/csv", ".png": "image/png"}.get(path.suffix, "application/octet-stream")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"name": path.name.replace(" ", "-"), "address": f"data:{kind};base64,{data}"}


def summary(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return what holds for all that was generated.

    Parameters
    ----------
    tables : dict
        Tables of `teramind evaluate`, by experiment.

    Returns
    -------
    dict
        ``heads`` of columns; ``rows`` of experiment, stain and a text per column.
    """
    found: list[tuple[str, str, dict[str, str]]] = []
    for experiment, table in tables.items():
        overall = table[table["structure"] == "all"]
        for stain, rows in overall.groupby("stain", sort=False):
            values = rows.set_index(["slice", "metric"])["value"].to_dict()
            texts = {metric: _text(values, metric) for metric in _HEADS}
            found.append((experiment, str(stain), texts))
    shown = [metric for metric in _HEADS if any(texts[metric] for _, _, texts in found)]
    return {
        "heads": [_HEADS[metric] for metric in shown],
        "rows": [
            {"experiment": experiment, "stain": stain, "values": [texts[m] for m in shown]}
            for experiment, stain, texts in found
        ],
    }


def _text(values: Mapping[Any, float], metric: str) -> str:
    """Return mean and spread over slices, or what was measured over all at once."""
    if ("all", metric) in values:
        return f"{values['all', metric]:.3g}"
    if ("mean", metric) in values:
        spread = values.get(("std", metric))
        text = f"{values['mean', metric]:.3g}"
        return text if spread is None else f"{text} \N{PLUS-MINUS SIGN} {spread:.2g}"
    both = [values.get(("mean", f"{metric}_{side}")) for side in ("reference", "result")]
    return "" if None in both else ", ".join(f"{value:,.0f}" for value in both)


def by_slice(table: pd.DataFrame) -> dict[str, Any]:
    """Draw PSNR and SSIM of every slice."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    whole = table[(table["structure"] == "all") & table["slice"].str.fullmatch(r"\d+")]
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, metric in zip(axes, ("psnr", "ssim"), strict=True):
        for stain, rows in whole[whole["metric"] == metric].groupby("stain", sort=False):
            axis.plot(rows["slice"].astype(int), rows["value"], marker="o", label=str(stain))
        axis.set(xlabel="slice", ylabel=_HEADS[metric])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    return {"picture": _drawn(figure), "numbers": _as_csv(whole, "metrics-by-slice.csv")}


def by_structure(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return the largest structures, a column per stain and metric; None if there are none."""
    rows = table[(table["structure"] != "all") & (table["slice"] == "mean")]
    if rows.empty:
        return None
    pixels = table[(table["metric"] == "psnr") & table["slice"].str.fullmatch(r"\d+")]
    size = pixels.groupby("structure")["n"].sum().sort_values(ascending=False)
    wide = rows.pivot_table(index="structure", columns=["stain", "metric"], values="value")
    columns = [(s, m) for s in rows["stain"].unique() for m in ("psnr", "ssim") if (s, m) in wide]
    largest = size.index.intersection(wide.index, sort=False)[:_STRUCTURES]
    numbers = wide.reindex(index=largest, columns=columns).to_numpy(float)
    body = [
        (name, [f"{value:.3g}" if np.isfinite(value) else "" for value in row])
        for name, row in zip(largest, numbers, strict=True)
    ]
    heads = [f"{stain} {_HEADS[metric]}" for stain, metric in columns]
    return {"heads": heads, "rows": body, "numbers": _as_csv(rows, "metrics-by-structure.csv")}


def heatmap(path: Path) -> dict[str, Any]:
    """Draw mean expression of every gene in the major divisions (Fig. 8e of the paper).

    Where there are no three of them, the largest structures are drawn. Genes stand beside genes
    that are expressed alike.

    Parameters
    ----------
    path : Path
        Table of ``teramind evaluate --expression``.
    """
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import leaves_list, linkage

    table = read_table(path)
    wide = table.pivot_table(index="acronym", columns="gene", values="mean_log2")
    size = table.groupby("acronym")["bins"].first().sort_values(ascending=False)
    divisions = [name for name in _DIVISIONS if name in wide.index]
    wide = wide.loc[divisions if len(divisions) > 2 else list(size.index[:_STRUCTURES])]
    if len(wide.columns) > 2:
        apart = wide.to_numpy().T / np.maximum(wide.to_numpy().max(axis=0), 1e-9)[:, None]
        wide = wide.iloc[:, leaves_list(linkage(apart, "average", optimal_ordering=True))]
    width = max(8.0, 0.13 * len(wide.columns) + 2)
    figure = Figure(figsize=(width, 0.24 * len(wide) + 1.6), layout="constrained")
    axis = figure.subplots()
    drawn = axis.imshow(wide.to_numpy(), aspect="auto", cmap="magma", interpolation="nearest")
    axis.set_yticks(range(len(wide)), wide.index, fontsize=7)
    if len(wide.columns) <= 120:
        axis.set_xticks(range(len(wide.columns)), wide.columns, rotation=90, fontsize=6)
    else:
        axis.set(xticks=[], xlabel=f"{len(wide.columns)} genes")
    figure.colorbar(drawn, ax=axis, label="mean log2(count + 1)", pad=0.01)
    return {"picture": _drawn(figure), "numbers": download(path)}


def _drawn(figure: Figure) -> str:
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode("ascii")


def _as_csv(table: pd.DataFrame, name: str) -> dict[str, str]:
    data = base64.b64encode(table.to_csv(index=False).encode()).decode("ascii")
    return {"name": name, "address": f"data:text/csv;base64,{data}"}

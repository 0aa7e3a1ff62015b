"""A figure of a pair: expression, attention, trend, structures that stand out (paper Fig. 3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.attention.display import displayed_attention, displayed_expression, smoothed
from napari_teramind.attention.pairs import MapName, Pair, pair_name
from napari_teramind.attention.quantities import Atlas2D, Maps, brain_atlas
from napari_teramind.attention.statistics import ranking, structure_statistics
from napari_teramind.attention.tiles import Unit
from napari_teramind.attention.trend import attention_trend
from napari_teramind.brain.export import check_target, staged
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_teramind.attention.trend import Trend
    from napari_teramind.brain import BrainStore

_SIDE = 1500
_BARS = 12


def figure_of_pair(
    brain: BrainStore,
    maps: Maps,
    path: Path,
    pair: Pair | None = None,
    map_name: MapName = "ensemble",
    z: int | None = None,
    atlas: Atlas2D | None = None,
    overwrite: bool = False,
    report: Any = None,
) -> Path:
    """Draw the panels of a pair into a PNG file.

    Parameters
    ----------
    brain, maps
        The brain, and maps in memory or of its store.
    path
        The ``.png`` file.
    pair
        Which pair; the first if None.
    map_name
        Which map.
    z
        Slice of the brain; the one with most attention if None.
    atlas
        Structures on the brain's bins; its own labels if None.
    overwrite
        Replace what is there.
    report
        Progress callback.

    Raises
    ------
    UserError
        If the maps hold no such pair, map or slice.
    """
    check_target(path, overwrite, (".png",))
    atlas = brain_atlas(brain) if atlas is None else atlas
    pairs = list(dict.fromkeys(c.pair for c in maps.channels if c.pair is not None))
    pair = pairs[0] if pair is None else pair
    if pair not in pairs:
        held = ", ".join(pair_name(known) for known in pairs)
        raise UserError(f"These maps hold no pair {pair_name(pair)}; they hold {held}.")
    statistics = structure_statistics(brain, maps, atlas, report=report)
    trend = attention_trend(brain, maps, pair, map_name, atlas=atlas, report=report)
    z = _best_slice(maps, pair, map_name) if z is None else z
    first, last = maps.region.slices
    if not first <= z < last:
        raise UserError(f"Slice {z} is not in these maps, which hold {first} to {last - 1}.")
    layer, counts = (_plane(maps, pair, map_name, kind, z) for kind in ("attention", "expression"))
    with staged(path) as partial:
        _draw(partial, maps, pair, map_name, z, layer, counts, statistics, trend, brain)
    return path


def _channels(maps: Maps, pair: Pair, map_name: MapName, kind: str) -> list[int]:
    def wanted(gene: str, channel: Any) -> bool:
        of_pair = kind == "expression" or (channel.pair, channel.map) == (pair, map_name)
        return bool(channel.kind == kind and channel.gene == gene and of_pair)

    found = [i for gene in pair for i, channel in enumerate(maps.channels) if wanted(gene, channel)]
    if len(found) != 2:
        raise UserError(f"These maps hold no {kind} of {pair_name(pair)} ({map_name}).")
    return found


def _best_slice(maps: Maps, pair: Pair, map_name: MapName) -> int:
    channels = _channels(maps, pair, map_name, "attention")
    totals = dict.fromkeys(range(*maps.region.slices), 0.0)
    for unit in maps.region.units(1):
        totals[unit.slices.start] += float(maps.read(unit, channels).sum(dtype=np.float64))
    return max(totals, key=lambda z: totals[z])


def _plane(maps: Maps, pair: Pair, map_name: MapName, kind: str, z: int) -> NDArray[np.float32]:
    """Both genes' channels of a slice, means of blocks of bins where it is large: (2, y, x)."""
    channels = _channels(maps, pair, map_name, kind)
    b0, b1, c0, c1 = maps.region.box
    step = max(1, -(-max(b1 - b0, c1 - c0) // _SIDE))
    rows = []
    # In bands of whole blocks, so that a slice of any size is shown.
    for y in range(b0, b1, 256 * step):
        box = (y, min(y + 256 * step, b1), c0, c1)
        band = maps.read(Unit(0, 0, box, range(z, z + 1), z), channels)[:, 0]
        height, width = band.shape[1] // step * step, band.shape[2] // step * step
        if height and width:
            shape = (2, height // step, step, width // step, step)
            rows.append(band[:, :height, :width].reshape(shape).mean(axis=(2, 4)))
    return np.concatenate(rows, axis=1)


def _draw(
    path: Path,
    maps: Maps,
    pair: Pair,
    map_name: MapName,
    z: int,
    layer: NDArray[np.float32],
    counts: NDArray[np.float32],
    statistics: pd.DataFrame,
    trend: Trend,
    brain: BrainStore,
) -> None:
    # Objects only: pyplot would start a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    b0, b1, c0, c1 = maps.region.box
    side = 16 * brain.pixel_size
    extent = (c0 * side, c1 * side, b1 * side, b0 * side)
    images = [
        (rf"$\it{{{pair[0]}}}$ expression", smoothed(displayed_expression(counts[0])), "viridis"),
        (rf"$\it{{{pair[1]}}}$ expression", smoothed(displayed_expression(counts[1])), "viridis"),
        (
            f"attention, {map_name}",
            smoothed(displayed_attention(layer, counts, maps.genes)),
            "inferno",
        ),
    ]
    for ax, (title, image, colors) in zip(axes[0], images, strict=True):
        top = float(np.percentile(image, 99.5)) or 1.0
        shown = ax.imshow(image, cmap=colors, extent=extent, vmin=0, vmax=top)
        ax.set_title(title)
        ax.set_xlabel("\N{MICRO SIGN}m")
        figure.colorbar(shown, ax=ax, shrink=0.7, label="log2, smoothed")
    line = trend.table
    ax = axes[1][0]
    ax.plot(line["expression"], line["mean"], color="C0")
    low, high = line["mean"] - line["std"], line["mean"] + line["std"]
    ax.fill_between(line["expression"], low, high, color="C0", alpha=0.2)
    ax.set_title(f"r = {trend.pearson:.2f}, {trend.bins:,} bins")
    ax.set_xlabel("log2(counts of the pair + 1)")
    ax.set_ylabel("log2(n attention + 1)")
    for ax, quantity, title, label, usual in (
        (axes[1][1], "attention", "attention (A times counts)", "mean attention", None),
        (
            axes[1][2],
            "A",
            "A alone",
            "mean A[a, b] + A[b, a] (line: all genes alike)",
            2 / maps.genes,
        ),
    ):
        best = ranking(statistics, quantity, pair_name(pair), map_name).head(_BARS)[::-1]
        ax.barh(best["acronym"], best["mean"], color="C1")
        if usual is not None:
            ax.axvline(usual, color="0.3", linewidth=0.8)
        ax.set_title(title)
        ax.set_xlabel(label)
    figure.suptitle(f"{pair_name(pair)}, slice {z} of {brain.name}")
    figure.savefig(path, dpi=150)

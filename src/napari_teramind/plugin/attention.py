"""Layers of attention results, with the paper's transforms applied as they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_teramind.attention.display import (
    SIGMA,
    displayed_attention,
    displayed_expression,
    smoothed,
)
from napari_teramind.attention.pairs import MapName, Pair, pair_name
from napari_teramind.attention.quantities import list_quantities
from napari_teramind.errors import UserError
from napari_teramind.plugin.layers import AXES, TAG, UNITS, LayerTuple, brain_key
from napari_teramind.plugin.lazy import channel_pyramid
from napari_teramind.plugin.remote import read

if TYPE_CHECKING:
    import zarr

    from napari_teramind.attention import StoredMaps
    from napari_teramind.brain import BrainStore

Shown = Literal["attention", "A", "a", "b"]
"""A times counts, A alone, expression of the pair's first gene or of the second."""

SHOWN: tuple[Shown, ...] = ("attention", "A", "a", "b")
COLORMAPS = {"attention": "inferno", "A": "inferno", "a": "viridis", "b": "viridis"}
BRIGHTEST = 99.5
"""Percentile, where there is anything, at which a layer is at its brightest."""
DARKEST = 50
"""Percentile at which A alone, which is never near 0, is at its darkest."""
BINS = 2 * SIGMA
"""Standard deviation of the paper's smoothing in bins: it is stated for half their resolution."""
REACH = 4
"""Standard deviations to which the smoothing reaches."""


@dataclass(frozen=True)
class View:
    """What of a result is looked at.

    Attributes
    ----------
    pair, map
        Of which pair and map.
    shown
        Which quantity.
    """

    pair: Pair
    map: MapName
    shown: Shown

    @property
    def title(self) -> str:
        """Name of the layer."""
        if self.shown in ("a", "b"):
            return f"{self.pair[self.shown == 'b']} expression"
        words = "attention" if self.shown == "attention" else "A alone"
        where = "" if self.map == "ensemble" else f" ({self.map})"
        return f"{pair_name(self.pair)} {words}{where}"


class ShownLevel:
    """One level of a result as it is shown: (z, y, x), computed for what is read of it.

    The stored values stay as they are: log2, masking and smoothing belong to looking.

    Parameters
    ----------
    array
        (c, z, y, x), stored.
    values, counts, computed
        Channels: of what is shown, the counts of both genes, and one that is above 0 wherever
        anything was computed.
    genes
        Number of genes in the network's panel.
    shown
        What is shown.
    sigma
        Of the smoothing, in pixels of this level.
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(
        self,
        array: zarr.Array | np.ndarray,
        values: Sequence[int],
        counts: Sequence[int],
        computed: int,
        genes: int,
        shown: Shown,
        sigma: float,
    ) -> None:
        self._array, self._values, self._counts = array, tuple(values), tuple(counts)
        self._computed = computed
        self._genes, self._shown, self._sigma = genes, shown, sigma
        self.shape: tuple[int, ...] = tuple(array.shape[1:])

    def __getitem__(self, key: tuple[int | slice, slice, slice]) -> np.ndarray:
        z, rows, columns = key
        margin = int(np.ceil(REACH * self._sigma))
        wide, inner = [], []
        for part, length in zip((rows, columns), self.shape[1:], strict=True):
            start, stop, _ = part.indices(length)
            low, high = max(0, start - margin), min(length, stop + margin)
            wide.append(slice(low, high))
            inner.append(slice(start - low, stop - low))
        image = smoothed(self._transformed((z, *wide)), self._sigma)
        # What is smoothed would glow beyond the structures that were asked for.
        image = np.where(self._read((self._computed,), (z, *wide))[0] > 0, image, 0)
        return np.ascontiguousarray(image[..., inner[0], inner[1]])

    def _transformed(self, place: tuple[int | slice, ...]) -> np.ndarray:
        values = self._read(self._values, place)
        match self._shown:
            case "attention":
                return displayed_attention(values, self._read(self._counts, place), self._genes)
            case "A":
                # 1 where both attend to one another as if all genes were alike.
                return self._genes / 2 * values.sum(axis=0)
            case _:
                return displayed_expression(values[0])

    def _read(self, channels: Sequence[int], place: tuple[int | slice, ...]) -> np.ndarray:
        # One at a time: the other channels of a shard are not read.
        return np.stack([read(self._array, (c, *place)).astype(np.float32) for c in channels])


def views(maps: StoredMaps) -> list[View]:
    """List all that a result can show, maps of a pair in their own order."""
    keys = dict.fromkeys((c.pair, c.map) for c in maps.channels if c.pair is not None)
    return [View(pair, name, shown) for pair, name in keys for shown in SHOWN]  # type: ignore[arg-type]


def shown_levels(maps: StoredMaps, view: View) -> list[ShownLevel]:
    """Return the levels of a result as they are shown.

    Raises
    ------
    UserError
        If the result does not hold the pair or map.
    """
    values, counts = _channels(maps, view)
    computed = next(i for i, channel in enumerate(maps.channels) if channel.kind == "A")
    return [
        ShownLevel(array, values, counts, computed, maps.genes, view.shown, BINS / 2**level)
        for level, array in enumerate(maps.image.levels)
    ]


def attention_layer(brain: BrainStore, maps: StoredMaps, view: View) -> LayerTuple:
    """Return a view of a result as a volume; one coarse level of it is read for the contrast."""
    levels = shown_levels(maps, view)
    pyramid = channel_pyramid(levels, None)  # type: ignore[arg-type]
    tag = {
        "brain": brain_key(brain.path),
        "kind": "attention",
        "name": maps.name,
        "pair": list(view.pair),
        "map": view.map,
        "shown": view.shown,
    }
    meta: dict[str, Any] = {
        "name": layer_name(view, maps.name),
        "scale": maps.image.scale(0)[-3:],
        "translate": maps.image.translation(0)[-3:],
        "units": UNITS,
        "axis_labels": AXES,
        "colormap": COLORMAPS[view.shown],
        "contrast_limits": contrast(levels[len(pyramid) - 1], view.shown),
        "blending": "additive",
        "rendering": "mip",
        "rgb": False,
        "metadata": {TAG: tag},
        "multiscale": len(pyramid) > 1,
    }
    return (pyramid if len(pyramid) > 1 else pyramid[0]), meta, "image"


def layer_name(view: View, result: str) -> str:
    """Return "Nr4a2-Th attention, SNc" for a view of a result that is called "Nr4a2-Th, SNc"."""
    pair = pair_name(view.pair)
    if result == pair or result.startswith((f"{pair}, ", f"{pair} (")):
        return view.title + result.removeprefix(pair)
    return f"{view.title}, {result}"


def contrast(level: ShownLevel, shown: Shown) -> tuple[float, float]:
    """Return the window in which a level shows best."""
    depth = level.shape[0]
    picked = np.unique(np.linspace(0, depth - 1, min(depth, 50)).round().astype(int))
    whole = slice(None)
    values = np.concatenate([level[int(z), whole, whole].ravel() for z in picked])
    there = values[values > 0]
    if not there.size:
        return 0.0, 1.0
    low = float(np.percentile(there, DARKEST)) if shown == "A" else 0.0
    high = float(np.percentile(there, BRIGHTEST))
    return low, max(high, low + 1e-3)


def _channels(maps: StoredMaps, view: View) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found = list_quantities(maps.channels)
    counts = next((q.channels for q in found if q.word == "expression" and q.pair == view.pair), ())
    if view.shown in ("a", "b"):
        gene = view.pair[view.shown == "b"]
        values = next((q.channels for q in found if q.gene == gene), ())
    else:
        values = next(
            (
                q.channels
                for q in found
                if (q.word, q.pair, q.map) == (view.shown, view.pair, view.map)
            ),
            (),
        )
    if not values or len(counts) != 2:
        raise UserError(
            f"The result {maps.name} holds no {view.title}; compute it, or choose another."
        )
    return values, counts

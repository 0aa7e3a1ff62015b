"""Layers from stores: data, place in the world, names, colours and contrast for napari."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.plugin.lazy import LazyView, Recode, channel_pyramid
from napari_teramind.plugin.looks import structure_colormap, structure_features
from napari_teramind.simulate.replicates import DEVIATION

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_teramind.brain import BrainStore, MultiscaleImage

LayerTuple = tuple[Any, dict[str, Any], str]

TAG = "teramind"
"""Key under which a layer's metadata say what it shows and from which brain."""

AXES = ("z", "y", "x")
UNITS = ("um", "um", "um")
CONTOUR = 2
STRUCTURE_OPACITY = 0.8

# Okabe and Ito's hues, which survive the common colour blindnesses, without the two that stand for
# DAPI and PolyT, and lighter than theirs, as they are added to a dark image.
GENE_COLORS = ("#00E6A8", "#F7EC5A", "#FF8FCB", "#7CCBFF", "#FF7A45", "#FFFFFF")


def tag_of(layer: Layer) -> dict[str, Any]:
    """Return what we know about a layer: brain, kind, name; empty for one that is not ours."""
    tag = layer.metadata.get(TAG, {})
    return tag if isinstance(tag, dict) else {}


def layer_color(layer: Layer) -> str:
    """Return the brightest colour of an image layer's colormap, as #rrggbb."""
    red, green, blue = (round(255 * float(c)) for c in layer.colormap.colors[-1][:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def brain_layers(brain: BrainStore) -> list[LayerTuple]:
    """Return all layers with which a brain opens, in drawing order.

    Stains, results kept in the brain (hidden; none of more than `MOST_RESULTS`, which the Brain
    panel opens one by one), structures. Nothing but metadata is read.
    """
    layers = stain_layers(brain)
    results = sorted(brain.simulations)
    for name in results if len(results) <= MOST_RESULTS else ():
        layers += [
            (data, {**meta, "visible": False}, kind)
            for data, meta, kind in simulation_layers(brain, name)
        ]
    if brain.structures is not None:
        layers.append(structure_layer(brain))
    return layers


MOST_RESULTS = 6
"""Results with whose layers a brain opens: every layer takes napari some hundredths of a second."""
DEVIATION_WINDOW = (0.0, 64.0)
"""Grey levels: the least and the most that are told apart."""


def stain_layers(brain: BrainStore) -> list[LayerTuple]:
    """Return one additive image layer per stain."""
    return [
        _image(brain, brain.stains, i, channel.name, f"#{channel.color}", channel.window, "stain")
        for i, channel in enumerate(brain.stains.channels)
    ]


def gene_layer(brain: BrainStore, gene: str, color: str | None = None) -> LayerTuple:
    """Return one gene as a lazily read additive layer.

    Parameters
    ----------
    brain
        An open store.
    gene
        One of ``brain.gene_names``.
    color
        Hexadecimal colour; None picks one that depends on the symbol only.
    """
    index = brain.gene_names.index(gene)
    if color is None:
        color = GENE_COLORS[zlib.crc32(gene.encode()) % len(GENE_COLORS)]
    pyramid = channel_pyramid(brain.genes.levels, index)
    window = (0.0, _brightest(pyramid[-1]))
    return _image(brain, brain.genes, index, gene, color, window, "gene")


def simulation_layers(
    brain: BrainStore, name: str, image: MultiscaleImage | None = None
) -> list[LayerTuple]:
    """Return a stored result: its stains with the colours and contrast of the real ones.

    The lowest covers the real stains under it, so that both are never seen added together.
    """
    image = brain.simulations[name] if image is None else image
    made = image.provenance
    seed = made.get("seed", made.get("spec", {}).get("seed"))
    edited = bool(made.get("request", {}).get("edits"))
    statistic = made.get("statistic", "")
    real = {channel.name: channel for channel in brain.stains.channels}
    layers = []
    for i, channel in enumerate(image.channels):
        look = real.get(channel.name, channel)
        title = generated_name(channel.name, seed, name, edited, statistic, len(made.get("of", ())))
        data, meta, kind = _image(
            brain, image, i, title, f"#{look.color}", look.window, "simulation"
        )
        if statistic == DEVIATION:
            meta |= {"colormap": "inferno", "contrast_limits": DEVIATION_WINDOW, "visible": False}
        meta["metadata"][TAG] |= {"stain": channel.name, "simulation": name, "edited": edited}
        if i == 0:
            meta["blending"] = "translucent_no_depth"
        layers.append((data, meta, kind))
    return layers


def generated_name(
    stain: str,
    seed: int | None,
    name: str = "",
    edited: bool = False,
    statistic: str = "",
    samples: int = 0,
) -> str:
    """Name of a generated stain's layer, as ``DAPI (generated, seed 0)``.

    Parameters
    ----------
    stain
        Of which stain.
    seed
        Its seed, if that is known; else ``name`` says what it is.
    name
        Of the result.
    edited
        Whether genes were edited.
    statistic, samples
        What the layer tells of how many replicates.
    """
    how = "edited" if edited else "generated"
    if statistic:
        return f"{stain} ({how}, {statistic} of {samples})"
    return f"{stain} ({how}, {name if seed is None else f'seed {seed}'})"


def structure_layer(brain: BrainStore) -> LayerTuple:
    """Return the structures as a labels layer: the atlas's colours, contours, names as features.

    Labels are numbered 1, 2, ... in the order of the atlas's ids, which are the features' column
    ``id``; see `Recode`.
    """
    image, table = brain.structures, brain.structure_table
    if image is None or table is None:
        raise ValueError(f"{brain.path} has no structures")
    repeat = max(1, round(image.scale(0)[-1] / brain.pixel_size))
    meta = placement(image, repeat) | {
        "name": "structures",
        "colormap": structure_colormap(table),
        "features": structure_features(table),
        "opacity": STRUCTURE_OPACITY,
        "blending": "translucent_no_depth",
        "metadata": {TAG: tag(brain, "structures", "structures")},
    }
    recode = Recode(table["id"].tolist())
    pyramid = channel_pyramid(image.levels, None, finest_repeat=repeat, recode=recode)
    return _with_data(pyramid, meta, "labels")


def _image(
    brain: BrainStore,
    image: MultiscaleImage,
    channel: int,
    name: str,
    color: str,
    window: Sequence[float],
    kind: str,
) -> LayerTuple:
    meta = placement(image) | {
        "name": name,
        "colormap": color,
        "contrast_limits": tuple(window),
        "blending": "additive",
        "metadata": {TAG: tag(brain, kind, name)},
        "rgb": False,
    }
    return _with_data(channel_pyramid(image.levels, channel), meta, "image")


def _with_data(pyramid: list[LazyView], meta: dict[str, Any], kind: str) -> LayerTuple:
    # napari takes a labels pyramid of one level for a flat image, and then lacks an axis.
    multiscale = len(pyramid) > 1
    return (pyramid if multiscale else pyramid[0]), meta | {"multiscale": multiscale}, kind


def placement(image: MultiscaleImage, repeat: int = 1) -> dict[str, Any]:
    """Return where a layer lies whose pixels are `repeat` times finer, in y and x, than stored."""
    z, y, x = image.scale(0)[-3:]
    z0, y0, x0 = image.translation(0)[-3:]
    back = (repeat - 1) / 2 / repeat
    return {
        "scale": (z, y / repeat, x / repeat),
        "translate": (z0, y0 - back * y, x0 - back * x),
        "units": UNITS,
        "axis_labels": AXES,
    }


def tag(brain: BrainStore, kind: str, name: str) -> dict[str, Any]:
    """Return what a layer's metadata say it shows; see `tag_of`."""
    return {"brain": brain_key(brain.path), "kind": kind, "name": name}


def brain_key(path: str | Path) -> str:
    """Return the one spelling of a brain's path by which layers and panels know it."""
    text = str(path)
    return text if "://" in text else str(Path(text).resolve())


def _brightest(level: LazyView) -> float:
    """Upper contrast limit of a gene: the 90th percentile where the gene occurs at all.

    Judged on at most five slices of a coarse level, whose values are means per bin, so that the
    gene shows when the whole slice is in view; near the ground every transcript is then a dot of
    full brightness.
    """
    at = np.unique(np.linspace(0, level.shape[0] - 1, 5).round().astype(int))
    values = np.concatenate([np.asarray(level[int(z)]).ravel() for z in at])
    present = values[values > 0]
    return float(np.percentile(present, 90)) if present.size else 1.0

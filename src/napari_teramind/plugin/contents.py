"""What a brain holds, item by item, with where each comes from, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.errors import UserError
from napari_teramind.plugin.attention import attention_layer, views
from napari_teramind.plugin.layers import (
    TAG,
    LayerTuple,
    simulation_layers,
    stain_layers,
    structure_layer,
)
from napari_teramind.simulate.edits import Edit
from napari_teramind.words import listed

Kind = Literal["stain", "simulation", "attention", "structures"]


@dataclass(frozen=True)
class Item:
    """A stain, a result or the structures of a brain.

    Attributes
    ----------
    kind
        What it is.
    name
        Its name in the brain, and in the tags of its layers.
    words
        What it is and where it comes from, in a sentence or two.
    """

    kind: Kind
    name: str
    words: str


def read_contents(path: str) -> list[Item]:
    """Read what a brain holds, in the order in which it is listed.

    Parameters
    ----------
    path
        The brain.

    Raises
    ------
    UserError
        If it cannot be opened.
    """
    brain = open_brain(path)
    items = [Item("stain", name, _stain(brain, name)) for name in brain.stain_names]
    for name in brain.simulations:
        image = brain.simulations[name]
        items.append(Item("simulation", name, simulation_words(image.provenance, brain.pixel_size)))
    for name in brain.attention:
        image = brain.attention[name]
        items.append(Item("attention", name, attention_words(image.provenance)))
    if brain.structures is not None and brain.structure_table is not None:
        atlas = brain.source.get("atlas")
        told = f"{len(brain.structure_table)} structures" + (f", atlas: {atlas}." if atlas else ".")
        items.append(Item("structures", "structures", told))
    return items


def item_layers(brain: BrainStore, kind: str, name: str) -> list[LayerTuple]:
    """Return the layers of an item, as they are shown at first.

    Raises
    ------
    UserError
        If the brain does not hold it any more.
    """
    from napari_teramind.attention import open_maps

    try:
        match kind:
            case "simulation":
                return simulation_layers(brain, name)
            case "structures":
                return [structure_layer(brain)]
            case "attention":
                maps = open_maps(brain, name)
                return [attention_layer(brain, maps, views(maps)[0])]
        return [layer for layer in stain_layers(brain) if layer[1]["metadata"][TAG]["name"] == name]
    except KeyError:
        raise UserError(f"{brain.path} has no {kind} {name!r} any more.") from None


def simulation_words(provenance: dict[str, Any], pixel_size: float) -> str:
    """Say how a result was generated, as far as its provenance says."""
    words = [_what(provenance)]
    match provenance.get("roi_px"), provenance.get("slices"):
        case [y0, y1, x0, x1], [z0, z1]:
            height, width = (y1 - y0) * pixel_size, (x1 - x0) * pixel_size
            which = f"slice {z0}" if z1 - z0 == 1 else f"slices {z0} to {z1 - 1}"
            words.append(f"{which}, {height:.0f} x {width:.0f} µm")
    if "seed" in provenance and "statistic" not in provenance:
        words.append(f"seed {provenance['seed']}")
    if "steps" in provenance:
        sampler = {"ddim": "DDIM", "dpm++2m": "DPM-Solver++"}.get(provenance.get("sampler", ""), "")
        words.append(f"{provenance['steps']} steps{f' of {sampler}' if sampler else ''}")
    halo = provenance.get("halo")
    if halo == "exact":
        words.append("exact surround")
    elif halo is not None:
        words.append(f"surround of {halo} patches")
    if provenance.get("checkpoint_sha256"):
        words.append(f"network {provenance['checkpoint_sha256'][:8]}")
    return f"{', '.join(words)}{_by(provenance)}."


def _what(provenance: dict[str, Any]) -> str:
    """Say what was generated: from which genes, and of how many samples it tells."""
    edits = provenance.get("request", {}).get("edits", ())
    what = "Generated"
    if edits:
        what += f" with {listed([Edit.from_dict(edit).words for edit in edits])}"
    if "statistic" in provenance:
        return f"{provenance['statistic'].capitalize()} of {len(provenance['of'])} samples, " + (
            what[0].lower() + what[1:]
        )
    return what


def attention_words(provenance: dict[str, Any]) -> str:
    """Say what an attention result was computed from, as far as its provenance says."""
    words = ["Attention"]
    pairs = provenance.get("pairs") or []
    if pairs:
        words[0] += f" of {listed(['-'.join(pair) for pair in pairs])}"
    structures = provenance.get("structures")
    words.append(f"within {listed(structures)}" if structures else "everywhere in its region")
    if provenance.get("checkpoint_sha256"):
        words.append(f"network {provenance['checkpoint_sha256'][:8]}")
    return f"{', '.join(words)}{_by(provenance)}."


def _by(provenance: dict[str, Any]) -> str:
    version = (provenance.get("versions") or {}).get("napari-teramind")
    return f"; napari-teramind {version}" if version else ""


def _stain(brain: BrainStore, name: str) -> str:
    return f"The real stain {name} of {brain.name}, {brain.pixel_size:g} µm a pixel."

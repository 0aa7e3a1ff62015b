"""How attention results look as layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_teramind.attention import attention_to_store, open_maps
from napari_teramind.brain import open_brain
from napari_teramind.brain.bins import bin_labels
from napari_teramind.plugin.attention import SHOWN, Shown, View, attention_layer

PAIR = ("Nr4a2", "Th")


@pytest.mark.parametrize("shown", SHOWN)
def test_nothing_glows_beyond_the_structures_asked_for(
    brain_copy: Path, make_network, shown: Shown
) -> None:
    brain = open_brain(brain_copy)
    level = brain.structures.levels[0]
    writable = zarr.open_array(str(level.store_path), mode="r+")
    writable[:, :8, 12:17] = 0  # a corner of the rectangle that is the thalamus
    labels = bin_labels(brain)
    network = make_network(genes=8, patch=64)
    network.gene_names = brain.gene_names[1:9]
    network.sha256 = "0" * 64
    attention_to_store(brain, network, "part", [PAIR], structures=["TH"])
    brain = open_brain(brain_copy)
    maps = open_maps(brain, "part")
    data, _, _ = attention_layer(brain, maps, View(PAIR, "ensemble", shown))
    fine = data[0] if isinstance(data, list) else data
    seen = np.stack([np.asarray(fine[z]) for z in range(fine.shape[0])])
    (thalamus,) = brain.structure_table.query("acronym == 'TH'")["id"]
    inside = labels(maps.region.box, range(*maps.region.slices)) == thalamus
    assert seen[inside].any()
    assert not inside.all()
    assert not seen[~inside].any()

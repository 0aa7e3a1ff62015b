"""How structures look: a label a structure, its colour, its name."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from napari_teramind.atlas.structures import structure_title

if TYPE_CHECKING:
    import pandas as pd
    from napari.layers import Layer
    from napari.utils.colormaps import DirectLabelColormap

UNKNOWN = "#808080"
"""Colour of structures that the atlas's table lacks, or gives no colour."""
CLEAR = "#00000000"
MARK = "#ffffff"

COLUMNS = ["id", "acronym", "name", "color_hex"]


def structure_features(table: pd.DataFrame) -> pd.DataFrame:
    """Make a row per label: its number, which napari knows as "index", and what it stands for.

    Labels are numbered 1, 2, ... in the order of the ids; see `Recode`.
    """
    import pandas as pd

    listed = _listed(table)
    rows = [
        (0, "-", "no structure"),
        *listed[COLUMNS[:3]].itertuples(index=False, name=None),
        (-1, "?", "not in the atlas"),
    ]
    return pd.DataFrame(rows, columns=COLUMNS[:3]).assign(index=range(len(rows)))


def structure_colormap(
    table: pd.DataFrame,
    hidden: Collection[int] = frozenset(),
    marked: Collection[int] = frozenset(),
) -> DirectLabelColormap:
    """Return the atlas's own colours, label by label.

    Structures with a hidden id are clear, those with a marked one stand out.
    """
    from napari.utils.colormaps import DirectLabelColormap

    listed = _listed(table)
    colors: dict[int | None, Any] = {None: UNKNOWN, 0: CLEAR}
    rows = zip(listed["id"], listed["color_hex"], strict=True)
    for label, (structure_id, color) in enumerate(rows, start=1):
        # pandas may read a missing colour as NaN.
        known = f"#{color}" if isinstance(color, str) and color else UNKNOWN
        if structure_id in marked:
            known = MARK
        elif structure_id in hidden:
            known = CLEAR
        colors[label] = known
    colors[len(listed) + 1] = UNKNOWN
    return DirectLabelColormap(color_dict=colors)


def structure_names(layer: Layer) -> dict[int, str]:
    """Return "SNc - Substantia nigra, compact part" for every label of a structures layer."""
    features = layer.features
    return {
        int(label): structure_title(acronym, name)
        for label, acronym, name in zip(
            features["index"], features["acronym"], features["name"], strict=True
        )
    }


def _listed(table: pd.DataFrame) -> pd.DataFrame:
    return table[COLUMNS].drop_duplicates("id").sort_values("id")

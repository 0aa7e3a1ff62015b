"""Results of attention in a brain, opened for reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.attention.pairs import MapChannel
from napari_teramind.attention.tiles import Region, Unit
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore, MultiscaleImage
    from napari_teramind.brain.bins import BinBox


@dataclass(frozen=True)
class StoredMaps:
    """A result ``attention/<name>`` of a brain.

    Attributes
    ----------
    name : str
        Its name.
    image : MultiscaleImage
        Its levels and places.
    region
        Bins and slices that it covers.
    channels
        What its channels are.
    genes : int
        Number of genes in the network's panel.
    structures : list of str or None
        The structures that it was computed in; None for all bins.
    """

    name: str
    image: MultiscaleImage
    region: Region
    channels: list[MapChannel]
    genes: int
    structures: list[str] | None

    def read(self, unit: Unit, channels: Sequence[int]) -> np.ndarray:
        """Read channels of a unit: (channels, z, y, x)."""
        (b0, _, c0, _), z0 = self.region.box, self.region.slices[0]
        y0, y1, x0, x1 = unit.box
        place = (
            slice(unit.slices.start - z0, unit.slices.stop - z0),
            slice(y0 - b0, y1 - b0),
            slice(x0 - c0, x1 - c0),
        )
        array = self.image.levels[0]
        # One channel at a time: the others of a shard are not read.
        return np.stack([np.asarray(array[(channel, *place)]) for channel in channels])


def open_maps(brain: BrainStore, name: str) -> StoredMaps:
    """Open a result ``attention/<name>``.

    Raises
    ------
    UserError
        If the brain has none of that name.
    """
    if name not in brain.attention:
        known = ", ".join(brain.attention) or "none"
        raise UserError(
            f"{brain.path} has no attention result {name!r} (it has {known}); compute it with"
            " 'teramind attention'."
        )
    image = brain.attention[name]
    said = image.attributes.get("teramind", {})
    try:
        box: BinBox = tuple(said["bins"])
        region = Region(box, tuple(said["slices"]))
        channels = [MapChannel.from_dict(values) for values in said["channels"]]
        structures = image.provenance.get("structures")
        return StoredMaps(name, image, region, channels, int(said["genes"]), structures)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{image.path} was not made by 'teramind attention' ({error!r}); compute it again."
        ) from error

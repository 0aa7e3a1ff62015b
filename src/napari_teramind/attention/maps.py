"""Attention of gene pairs as arrays, and what `napari_teramind.attention` returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.attention.pairs import MapChannel, MapName, Pair
from napari_teramind.attention.regions import structure_mask
from napari_teramind.attention.rows import TOKENS_AT_ONCE
from napari_teramind.attention.tiles import Region, Unit, region_of
from napari_teramind.attention.units import Computer
from napari_teramind.brain.layout import BIN, Placement
from napari_teramind.simulate.run import computation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind

Report = Callable[[str, int, int], None]
"""report(message, done, total)."""


@dataclass(frozen=True, repr=False)
class AttentionMaps(Mapping[str, "NDArray[np.float32]"]):
    """Attention of gene pairs in a region, at the resolution of the gene bins.

    A mapping from names of channels, as ``"Nr4a2-Th ensemble Th"``, to arrays (z, y, x).

    Attributes
    ----------
    channels : list of MapChannel
        What the channels are.
    data : array of float32, (channels, z, y, x)
        All of them.
    z_um, y_um, x_um : arrays of float
        True positions of the slices and of the centres of the bins, micrometers.
    placement : Placement
        Scale and translation in the brain's nominal grid.
    genes : int
        Number of genes in the network's panel: a uniform A is 1 / genes.
    provenance : dict
        How it was made.
    """

    channels: list[MapChannel]
    data: NDArray[np.float32]
    z_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    x_um: NDArray[np.float64]
    placement: Placement
    genes: int
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        shape = " x ".join(str(side) for side in self.data.shape[1:])
        return f"AttentionMaps({len(self.channels)} channels of {shape} bins)"

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        for channel, values in zip(self.channels, self.data, strict=True):
            if channel.name == name:
                return np.asarray(values)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (channel.name for channel in self.channels)

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def region(self) -> Region:
        """Bins and slices that the maps cover."""
        y, x = self.placement.corner
        z0 = int(self.provenance["slices"][0])
        depth, height, width = self.data.shape[1:]
        b0, c0 = y // BIN, x // BIN
        return Region((b0, b0 + height, c0, c0 + width), (z0, z0 + depth))

    @property
    def structures(self) -> list[str] | None:
        """Structures that the maps were computed in; None for all bins."""
        found: list[str] | None = self.provenance.get("structures")
        return found

    def read(self, unit: Unit, channels: Sequence[int]) -> NDArray[np.float32]:
        """Values of a unit: (channels, z, y, x)."""
        (b0, _, c0, _), z0 = self.region.box, self.region.slices[0]
        y0, y1, x0, x1 = unit.box
        levels = slice(unit.slices.start - z0, unit.slices.stop - z0)
        return self.data[list(channels), levels, y0 - b0 : y1 - b0, x0 - c0 : x1 - c0]

    @property
    def pairs(self) -> list[Pair]:
        """The pairs."""
        return list(dict.fromkeys(c.pair for c in self.channels if c.pair is not None))

    @property
    def maps(self) -> list[MapName]:
        """The maps of every pair."""
        return list(dict.fromkeys(c.map for c in self.channels if c.map is not None))

    def attention(
        self,
        pair: Sequence[str],
        map: MapName = "ensemble",  # noqa: A002  # the paper's word
    ) -> NDArray[np.float32]:
        """Attention of a pair, A times counts: (2, z, y, x), one value a gene."""
        return self._pick("attention", pair, map)

    def alone(
        self,
        pair: Sequence[str],
        map: MapName = "ensemble",  # noqa: A002
    ) -> NDArray[np.float32]:
        """Entries a->a, a->b, b->a, b->b of A alone: (2, 2, z, y, x)."""
        found = self._pick("A", pair, map)
        return found.reshape(2, 2, *found.shape[1:])

    def expression(self, gene: str) -> NDArray[np.float32]:
        """Counts of a gene: (z, y, x)."""
        return self[f"{gene} expression"]

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write everything to a file or folder; its name says in which form.

        Parameters
        ----------
        path
            ``.zarr``: OME-Zarr 0.5; ``.ome.tif``: pyramidal OME-TIFF; ``.nii`` or ``.nii.gz``:
            NIfTI with the channels as its fourth axis.
        overwrite
            Replace what is there.

        Raises
        ------
        UserError
            If something is there already, or the form is none of these.
        """
        from napari_teramind.attention.saving import save_maps

        return save_maps(self, Path(path), overwrite)

    def _pick(self, kind: str, pair: Sequence[str], name: str) -> NDArray[np.float32]:
        at = [
            i
            for i, channel in enumerate(self.channels)
            if channel.kind == kind and channel.pair == tuple(pair) and channel.map == name
        ]
        if not at:
            raise KeyError(f"{'-'.join(pair)} {name}")
        return np.asarray(self.data[at])


def attention(
    brain: BrainStore,
    model: TeraMind,
    pairs: Sequence[Sequence[str]],
    roi: tuple[int, int, int, int] | None = None,
    slices: tuple[int, int] | None = None,
    structures: Sequence[str] | None = None,
    maps: Sequence[str] | None = None,
    report: Report | None = None,
) -> AttentionMaps:
    """Compute the gene-gene attention of pairs of genes over a region.

    The value of gene a of a pair (a, b) is A[a, a] times its count plus A[a, b] times that of b,
    A being the softmaxed gene-gene map of the patch (paper Eq. 1, Fig. 3). At S = 4 the map is
    taken three times: with all slices ("ensemble"), and with two of them ("previous-current",
    "current-next").

    Parameters
    ----------
    brain
        The brain; its genes must contain the network's panel.
    model
        The network.
    pairs
        Gene symbols, as ``[("Nr4a2", "Th")]``.
    roi
        (y0, y1, x0, x1) px of the full-resolution grid, half open; the whole plane if None. It is
        widened to whole bins.
    slices
        (z0, z1), half open; all if None.
    structures
        Acronyms; bins outside these structures are left zero. All bins if None.
    maps
        Which of "previous-current", "current-next", "ensemble"; all that the network can give if
        None.
    report
        Progress callback.

    Returns
    -------
    AttentionMaps
        Arrays (z, y, x) float32 by name. For a whole large brain use the verb ``attention``,
        which writes into the store piece by piece.

    Raises
    ------
    UserError
        If a gene, a structure or the region is not to be had.
    """
    region = region_of(brain, roi, slices)
    mask = None
    if structures is not None:
        region, mask = structure_mask(brain, structures, region)
    computer = Computer(brain, model, pairs, maps, mask)
    values = np.zeros((len(computer.channels), *region.shape), np.float32)
    units = list(region.units(model.config.image_slices))
    (b0, _, c0, _), z0 = region.box, region.slices[0]
    for done, unit in enumerate(units):
        if report is not None:
            report("Computing attention", done, len(units))
        y0, y1, x0, x1 = unit.box
        place = (slice(unit.slices.start - z0, unit.slices.stop - z0),)
        values[(slice(None), *place, slice(y0 - b0, y1 - b0), slice(x0 - c0, x1 - c0))] = (
            computer.compute(unit)
        )
    if report is not None:
        report("Computing attention", len(units), len(units))
    return AttentionMaps(
        computer.channels,
        values,
        *coordinates(brain, region),
        placement_of(brain, region),
        model.config.genes,
        provenance_of(computer, region, structures),
    )


def placement_of(brain: BrainStore, region: Region) -> Placement:
    """Where a region's bins lie, on the brain's nominal grid."""
    z_scale, z_origin = brain.genes.scale()[1], brain.genes.translation()[1]
    corner = (region.box[0] * BIN, region.box[2] * BIN)
    return Placement(brain.pixel_size, BIN, z_scale, z_origin + region.slices[0] * z_scale, corner)


def coordinates(
    brain: BrainStore, region: Region
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """True positions of slices, and centres of rows and columns of bins, micrometers."""
    b0, b1, c0, c1 = region.box
    inset = (BIN - 1) / 2
    y = (np.arange(b0, b1, dtype=np.float64) * BIN + inset) * brain.pixel_size
    x = (np.arange(c0, c1, dtype=np.float64) * BIN + inset) * brain.pixel_size
    return brain.slice_positions[slice(*region.slices)].astype(np.float64), y, x


def provenance_of(
    computer: Computer, region: Region, structures: Sequence[str] | None
) -> dict[str, Any]:
    """Tell how maps are made, but for the job: network, brain, region, versions, device."""
    model = computer.model
    return {
        "brain": computer.brain.name,
        "pairs": [list(pair) for pair in computer.checked],
        "maps": list(computer.names),
        "bins": list(region.box),
        "slices": list(region.slices),
        "structures": None if structures is None else list(structures),
        "checkpoint_sha256": model.sha256,
        "model": model.config.to_dict(),
        "genes_matched": "by name" if model.gene_names else "by position",
        "batch_tokens": TOKENS_AT_ONCE,
        **computation(model),
    }

"""What to generate; and what that takes, before it starts. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_teramind.brain.bins import structure_ids
from napari_teramind.diffusion.samplers import plan_steps
from napari_teramind.errors import UserError
from napari_teramind.simulate.edits import Edit
from napari_teramind.simulate.region import (
    Halo,
    PatchBox,
    Roi,
    Settings,
    generated_area,
    slice_groups,
    step_windows,
)

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import ModelConfig

PLAIN_ROWS = 24
"""Up to this many patch rows a region is stepped as a whole, so that it sharpens everywhere at
once; larger ones go through in bands, which keeps memory flat."""

BAND = 8
"""Patch rows of a band: the encoder then works little more than on a whole field."""

BATCH = {"cpu": 8, "mps": 16, "cuda": 64}
"""Patches in one evaluation, by kind of device."""


LANE = 8
"""Columns of shards of a lane, at most: bounds the memory of a band on very wide brains."""


@dataclass(frozen=True)
class Request:
    """What to generate, but for the brain and the network.

    Attributes
    ----------
    roi
        (y0, y1, x0, x1) px of the full-resolution grid, half open.
    slices
        (z0, z1), half open; widened to whole slice groups for the computation.
    seed
        Seed of the noise.
    steps, sampler
        See :func:`~napari_teramind.diffusion.samplers.plan_steps`.
    halo
        ``"exact"``: the result equals the same crop of the whole brain; or a number of patches.
    noise
        ``"philox"`` or ``"published"``; see :func:`~napari_teramind.diffusion.noise.noise_field`.
    where
        ``"all"``, or ``"tissue"``: nothing is computed and stored where there is none; see
        :mod:`napari_teramind.simulate.tissue`.
    edits
        Changes of the gene counts; see :mod:`napari_teramind.simulate.edits`.
    structures
        Acronyms: of the region, only what lies in one of these is generated, and what surrounds
        it as the halo says; see :mod:`napari_teramind.simulate.tissue`.
    outline
        Corners (y, x) of a polygon in px: of the region, only what lies in it is generated.
    """

    roi: Roi
    slices: tuple[int, int]
    seed: int = 0
    steps: int = 15
    sampler: str = "ddim"
    halo: Halo = "exact"
    noise: str = "philox"
    where: Literal["all", "tissue"] = "all"
    edits: tuple[Edit, ...] = ()
    structures: tuple[str, ...] = ()
    outline: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        """Return the request whose :meth:`to_dict` this is."""
        y0, y1, x0, x1 = values["roi"]
        z0, z1 = values["slices"]
        edits = tuple(Edit.from_dict(edit) for edit in values.get("edits", ()))
        outline = tuple((float(y), float(x)) for y, x in values.get("outline", ()))
        return cls(
            **{
                **values,
                "roi": (y0, y1, x0, x1),
                "slices": (z0, z1),
                "edits": edits,
                "structures": tuple(values.get("structures", ())),
                "outline": outline,
            }
        )


@dataclass(frozen=True)
class Layout:
    """A request laid out on a brain's grid of patches for one kind of network.

    Attributes
    ----------
    request
        What was asked for, checked.
    patch, image_slices, stains
        Of the network.
    groups
        First slice of every slice group that is generated; results are cropped to the slices.
    target, area
        Patches that cover the region, and those that the run treats as existing.
    settings
        How a field is cut.
    """

    request: Request
    patch: int
    image_slices: int
    stains: int
    groups: tuple[int, ...]
    target: PatchBox
    area: PatchBox
    settings: Settings

    @property
    def windows(self) -> list[PatchBox]:
        """Patches of every step."""
        return step_windows(self.target, self.area, self.request.steps)

    def group_slices(self, first: int) -> tuple[int, int]:
        """Slices of a group."""
        return first, first + self.image_slices

    def wanted(self, first: int) -> range:
        """Slices of a group that were asked for."""
        z0, z1 = self.request.slices
        return range(max(first, z0), min(first + self.image_slices, z1))

    def evaluations_of(self, active: np.ndarray | None, target: PatchBox) -> int:
        """Count the evaluations of one group for a part of the region.

        Parameters
        ----------
        active
            (rows, columns) bool over the area, which patches are computed; None: all.
        target
            The part.
        """
        windows = step_windows(target, self.area, self.request.steps)
        if active is None:
            return sum(window.area for window in windows)
        sums = np.pad(active.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

        def inside(box: PatchBox) -> int:
            t, b = box.top - self.area.top, box.bottom - self.area.top
            left, r = box.left - self.area.left, box.right - self.area.left
            return int(sums[b, r] - sums[t, r] - sums[b, left] + sums[t, left])

        return sum(inside(window) for window in windows)


def lay_out(
    brain: BrainStore, config: ModelConfig, request: Request, device: str = "cpu"
) -> Layout:
    """Check a request and lay it out.

    Raises
    ------
    UserError
        If the region leaves the brain, or an option is not known.
    """
    brain.check_roi(request.roi, request.slices)
    if config.stains != len(brain.stain_names):
        raise UserError(
            f"The checkpoint generates {config.stains} stains but the brain has "
            f"{len(brain.stain_names)} ({', '.join(brain.stain_names)}); choose another checkpoint."
        )
    if 0 < len(request.outline) < 3:
        raise UserError("An outline has at least three corners (y, x).")
    if request.structures:
        structure_ids(brain, request.structures)
    plan_steps(request.sampler, request.steps)
    if request.noise not in ("philox", "published"):
        raise UserError(f"The noise '{request.noise}' is not known; use philox or published.")
    if request.where not in ("all", "tissue"):
        raise UserError(f"Where to generate is 'all' or 'tissue', not '{request.where}'.")
    _, height, width = brain.shape
    p = config.patch
    target = PatchBox.covering(request.roi, p)
    area = generated_area(target, PatchBox.covering((0, height, 0, width), p), request.halo)
    rows = step_windows(target, area, request.steps)[0].rows
    settings = Settings(
        band=None if rows <= PLAIN_ROWS else BAND,
        batch=BATCH.get(device.partition(":")[0], BATCH["cpu"]),
    )
    groups = tuple(slice_groups(request.slices, config.image_slices))
    return Layout(request, p, config.image_slices, config.stains, groups, target, area, settings)


def lanes(columns: int, wide: int) -> Iterator[tuple[int, int]]:
    """Cut a number of columns into lanes (first, end) of at most ``wide``, nearly equal."""
    count = -(-columns // wide)
    edges = [columns * k // count for k in range(count + 1)]
    yield from pairwise(edges)

"""Which patches hold tissue: the others need no work and no storage.

The rule: a patch is computed if its square, grown by `MARGIN` patches on every side, holds tissue
(the store's mask) in any slice of its group. Every other patch has the state -1 at all steps, as
everything beyond the brain has; so a run differs from one that computes everything only by what
the network sees at the border of the margin, half a patch to a step. A brain without a mask is
computed everywhere.

Where structures or an outline are asked for, the patches that hold some of them are computed, and
of those around them as many as the halo says: with the exact halo, all that count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.brain.bins import bin_labels, structure_ids
from napari_teramind.brain.layout import BIN
from napari_teramind.simulate.region import PatchBox, grown

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.simulate.request import Layout

MARGIN = 1
"""Patches around tissue that are computed too."""

_ROWS = 64


def tissue_patches(
    brain: BrainStore, area: PatchBox, patch: int, slices: tuple[int, int]
) -> np.ndarray | None:
    """Tell which patches of an area are computed, for one slice group.

    Parameters
    ----------
    brain
        The store.
    area
        Patches that a run treats as existing.
    patch
        Side of a patch in px.
    slices
        The group's slices (z0, z1); may reach beyond the stack.

    Returns
    -------
    ndarray or None
        (rows, columns) bool over ``area``; None if the brain has no mask.
    """
    if brain.tissue is None:
        return None
    mask = brain.tissue.levels[0]
    factor = round(brain.tissue.scale(0)[-1] / brain.pixel_size)
    z0, z1 = slices[0], min(slices[1], brain.shape[0])
    side = max(1, patch // factor)
    found = np.zeros((area.rows, area.columns), bool)
    # One patch more on every side: tissue beyond the area makes its border's patches active, so
    # that a part of a brain has the mask of the whole.
    wide = PatchBox(
        area.top - MARGIN, area.bottom + MARGIN, area.left - MARGIN, area.right + MARGIN
    )
    for top in range(wide.top, wide.bottom, _ROWS):
        bottom = min(top + _ROWS, wide.bottom)
        ys = slice(max(0, top * side), max(0, bottom * side))
        xs = slice(max(0, wide.left * side), max(0, wide.right * side))
        block = np.asarray(mask[z0:z1, ys, xs]).any(axis=0)
        rows, columns = np.nonzero(block)
        rows = (rows + ys.start) // side - area.top
        columns = (columns + xs.start) // side - area.left
        places = np.unique(np.stack([rows, columns], 1), axis=0)
        for row, column in places.tolist():
            found[
                max(0, row - MARGIN) : max(0, row + MARGIN + 1),
                max(0, column - MARGIN) : max(0, column + MARGIN + 1),
            ] = True
    return found


def wanted_patches(brain: BrainStore, layout: Layout, slices: tuple[int, int]) -> np.ndarray | None:
    """Tell which patches are computed for the sake of structures or an outline.

    Parameters
    ----------
    brain
        The store.
    layout
        Of the run.
    slices
        The group's slices; may reach beyond the stack.

    Returns
    -------
    ndarray or None
        (rows, columns) bool over the area; None if neither was asked for.
    """
    request, area, target = layout.request, layout.area, layout.target
    if not request.structures and not request.outline:
        return None
    b = layout.patch // BIN
    box = (target.top * b, target.bottom * b, target.left * b, target.right * b)
    inside = np.ones((box[1] - box[0], box[3] - box[2]), bool)
    if request.structures:
        ids = structure_ids(brain, request.structures)
        labels = bin_labels(brain)
        inside &= np.isin(labels(box, range(slices[0], min(slices[1], brain.shape[0]))), ids).any(
            axis=0
        )
    if request.outline:
        from skimage.measure import grid_points_in_poly

        corners = (np.asarray(request.outline) - BIN / 2) / BIN - (box[0], box[2])
        inside &= grid_points_in_poly(inside.shape, corners)
    patches = inside.reshape(target.rows, b, target.columns, b).any(axis=(1, 3))
    found = np.zeros((area.rows, area.columns), bool)
    top, left = target.top - area.top, target.left - area.left
    found[top : top + target.rows, left : left + target.columns] = patches
    around = request.steps - 1 if request.halo == "exact" else int(request.halo)
    for _ in range(around):
        found = grown(found)
    return found


class ActivePatches:
    """Which patches of a layout are computed, group by group; every mask is read once.

    Parameters
    ----------
    brain
        The store.
    layout
        Of the run.
    """

    def __init__(self, brain: BrainStore, layout: Layout) -> None:
        self._brain, self._layout = brain, layout
        self._masks: dict[int, np.ndarray | None] = {}

    def __getitem__(self, first: int) -> np.ndarray | None:
        """Return (rows, columns) bool over the area for the group at a slice; None: all are."""
        layout = self._layout
        request = layout.request
        if request.where == "all" and not request.structures and not request.outline:
            return None
        if first not in self._masks:
            slices = layout.group_slices(first)
            mask = None
            if request.where == "tissue":
                mask = tissue_patches(self._brain, layout.area, layout.patch, slices)
            within = wanted_patches(self._brain, layout, slices)
            if within is not None:
                mask = within if mask is None else mask & within
            self._masks[first] = mask
        return self._masks[first]

    def evaluations(self) -> int:
        """Count the collage patches that are evaluated, over all groups and steps."""
        return sum(self.evaluations_of(first, self._layout.target) for first in self._layout.groups)

    def evaluations_of(self, first: int, target: PatchBox) -> int:
        """Count the evaluations of one group for a part of the region."""
        return self._layout.evaluations_of(self[first], target)

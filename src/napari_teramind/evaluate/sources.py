"""What is compared: a generated result, and the real stains or another result.

The rule: a pixel counts if both images have it, if it was asked for when they were generated, and
if it is tissue. A result has the pixels of its region; one that was asked for in structures or in
an outline, those whose bin lies in them. Tissue is where the brain's mask says so, at the mask's
own resolution; in a brain without a mask, everywhere. A stain that is black throughout a slice is
not there: a slice without real stains is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.brain.bins import bin_labels, pixel_labels, structure_ids, structure_table
from napari_teramind.brain.layout import BIN
from napari_teramind.errors import UserError
from napari_teramind.evaluate.tiles import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.atlas import StructureTable
    from napari_teramind.brain import BrainStore, MultiscaleImage

Mask = Callable[[Box, int], "NDArray[np.bool_]"]


@dataclass(frozen=True)
class Source:
    """An image that is compared.

    Attributes
    ----------
    words : str
        What it is, for people.
    brain : BrainStore
        The brain that holds it.
    image : MultiscaleImage
        Its levels.
    stains : tuple of str
        Its channels.
    box, slices
        Pixels and slices of the brain that it has.
    asked : list of callable
        Each says which pixels (y, x) of a box and slice were asked for.
    """

    words: str
    brain: BrainStore
    image: MultiscaleImage
    stains: tuple[str, ...]
    box: Box
    slices: tuple[int, int]
    asked: tuple[Mask, ...] = ()

    def read(self, stain: str, z: int, box: Box) -> NDArray[np.uint8]:
        """Read one stain of a box of a slice, (y, x)."""
        y0, y1, x0, x1 = box
        top, left = self.box[0], self.box[2]
        place = (
            self.stains.index(stain),
            z - self.slices[0],
            slice(y0 - top, y1 - top),
            slice(x0 - left, x1 - left),
        )
        return np.asarray(self.image.levels[0][place])


@dataclass(frozen=True)
class Comparison:
    """Two images, and where they are compared.

    Attributes
    ----------
    reference, result : Source
        The real stains, or what is taken in their place; and what is judged.
    stains : tuple of str
        Stains that both have.
    box, slices
        Where both are: pixels, and (z0, z1).
    """

    reference: Source
    result: Source
    stains: tuple[str, ...]
    box: Box
    slices: tuple[int, int]

    @property
    def brain(self) -> BrainStore:
        """The brain of the result."""
        return self.result.brain

    @cached_property
    def structures(self) -> StructureTable:
        """Structures of the brain.

        Raises
        ------
        UserError
            If it has none.
        """
        return structure_table(self.brain)

    @cached_property
    def _tissue(self) -> Mask | None:
        mask = self.brain.tissue
        return None if mask is None else _mask(pixel_labels(self.brain, mask), None)

    def counts(self, box: Box, z: int) -> NDArray[np.bool_]:
        """Say which pixels (y, x) of a box and slice count."""
        found = np.ones((box[1] - box[0], box[3] - box[2]), bool)
        masks = [*self.reference.asked, *self.result.asked]
        for mask in masks if self._tissue is None else [self._tissue, *masks]:
            found &= mask(box, z)
        return found

    @cached_property
    def labels(self) -> Callable[[Box, range], NDArray[np.integer]]:
        """Reader of structure ids (z, y, x) of pixels."""
        image = self.brain.structures
        assert image is not None
        return pixel_labels(self.brain, image)


def compared(brain: BrainStore, name: str | None, against: Source | None = None) -> Comparison:
    """Lay a result over the real stains, or over another result.

    Parameters
    ----------
    brain
        The brain that holds the result.
    name
        Its name; not needed where there is only one.
    against
        What it is compared with; the brain's own stains if None.

    Raises
    ------
    UserError
        If there is no such result, or the two have nothing in common.
    """
    result = stored_result(brain, name)
    reference = real_stains(brain) if against is None else against
    if not np.isclose(reference.brain.pixel_size, brain.pixel_size):
        raise UserError(
            f"The pixels of {reference.words} are {reference.brain.pixel_size:g} um wide, those of"
            f" {result.words} {brain.pixel_size:g} um; compare results of one resolution."
        )
    stains = tuple(stain for stain in result.stains if stain in reference.stains)
    a, b = reference.box, result.box
    box = (max(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), min(a[3], b[3]))
    slices = (
        max(reference.slices[0], result.slices[0]),
        min(reference.slices[1], result.slices[1]),
    )
    empty = box[0] >= box[1] or box[2] >= box[3] or slices[0] >= slices[1]
    if empty or not stains:
        what = "stain" if not stains else "pixel"
        raise UserError(
            f"{sentence(reference.words)} and {result.words} have no {what} in common; compare"
            " others."
        )
    return Comparison(reference, result, stains, box, slices)


def real_stains(brain: BrainStore) -> Source:
    """Return the real stains of a brain as something to compare with."""
    depth, height, width = brain.shape
    words = f"the stains of {brain.path}"
    image = brain.stains
    _check_array(image, (depth, height, width), len(brain.stain_names), words)
    return Source(words, brain, image, brain.stain_names, (0, height, 0, width), (0, depth))


def stored_result(brain: BrainStore, name: str | None) -> Source:
    """Return a result ``simulations/<name>`` of a brain as something to compare.

    Parameters
    ----------
    brain
        The store.
    name
        Its name; not needed where there is only one.

    Raises
    ------
    UserError
        If there is none of that name, or it is not what 'teramind simulate' makes.
    """
    names = list(brain.simulations)
    if name is None and len(names) != 1:
        held = f"{len(names)} simulations ({', '.join(names)})" if names else "no simulation"
        hint = "name one with --result" if names else "make one with 'teramind simulate'"
        raise UserError(f"{brain.path} has {held}; {hint}.")
    name = names[0] if name is None else name
    if name not in names:
        known = ", ".join(names) or "none"
        raise UserError(
            f"{brain.path} has no simulation {name!r} (it has {known}); make it with"
            " 'teramind simulate', or choose another."
        )
    image = brain.simulations[name]
    words = f"the simulation {name!r} of {brain.path}"
    if image.provenance.get("statistic") == "standard deviation":
        raise UserError(
            f"{sentence(words)} is a standard deviation, not an image; choose another result."
        )
    said = image.attributes.get("teramind", {})
    try:
        y0, y1, x0, x1 = (int(edge) for edge in said["roi"])
        z0, z1 = (int(edge) for edge in said["slices"])
        asked = _asked(brain, image.provenance.get("request") or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{sentence(words)} does not say where it lies ({error!r}); generate it again with"
            " 'teramind simulate'."
        ) from error
    brain.check_roi((y0, y1, x0, x1), (z0, z1))
    stains = tuple(channel.name for channel in image.channels)
    _check_array(image, (z1 - z0, y1 - y0, x1 - x0), len(stains), words)
    return Source(words, brain, image, stains, (y0, y1, x0, x1), (z0, z1), asked)


def sentence(words: str) -> str:
    """Begin a sentence with words."""
    return words[:1].upper() + words[1:]


def _check_array(
    image: MultiscaleImage, shape: tuple[int, int, int], stains: int, words: str
) -> None:
    level = image.levels[0]
    if tuple(level.shape) != (stains, *shape) or level.dtype != np.uint8:
        raise UserError(
            f"{sentence(words)} should hold {stains} stains of {' x '.join(map(str, shape))} px in"
            f" 8 bits, but holds {' x '.join(map(str, level.shape))} of {level.dtype};"
            " copy or make it again."
        )


def _asked(brain: BrainStore, request: dict[str, Any]) -> tuple[Mask, ...]:
    """Return masks of the structures and the outline that a result was asked for in, in bins."""
    found: list[Mask] = []
    if request.get("structures"):
        ids = structure_ids(brain, [str(acronym) for acronym in request["structures"]])
        found.append(_mask(_by_bin(bin_labels(brain)), ids))
    if request.get("outline"):
        corners = np.asarray(request["outline"], float)
        if corners.ndim != 2 or corners.shape[1] != 2:
            raise ValueError("an outline has corners (y, x)")
        found.append(_outline(corners))
    return tuple(found)


def _mask(labels: Callable[[Box, range], Any], ids: NDArray[np.int64] | None) -> Mask:
    """Return a mask of the pixels with some ids; None: with any."""

    def mask(box: Box, z: int) -> NDArray[np.bool_]:
        block = labels(box, range(z, z + 1))[0]
        return np.asarray(block != 0 if ids is None else np.isin(block, ids))

    return mask


def _by_bin(labels: Callable[[Box, range], Any]) -> Callable[[Box, range], Any]:
    """Read labels of bins for boxes of pixels."""

    def read(box: Box, slices: range) -> Any:
        y0, y1, x0, x1 = box
        bins = (y0 // BIN, -(-y1 // BIN), x0 // BIN, -(-x1 // BIN))
        block = labels(bins, slices)
        rows = np.arange(y0, y1) // BIN - bins[0]
        columns = np.arange(x0, x1) // BIN - bins[2]
        return block[:, rows[:, None], columns[None, :]]

    return read


def _outline(corners: NDArray[np.float64]) -> Mask:
    """Return a mask of the bins whose centre lies in a polygon of pixels (y, x)."""

    def inside(bins: Box, slices: range) -> NDArray[np.bool_]:
        from skimage.measure import grid_points_in_poly

        b0, b1, c0, c1 = bins
        found = grid_points_in_poly((b1 - b0, c1 - c0), (corners - BIN / 2) / BIN - (b0, c0))
        return np.asarray(found)[None]

    return _mask(_by_bin(inside), None)

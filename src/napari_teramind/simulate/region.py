"""Which patches every step must compute for a region to come out exact.

A step's new value of a patch depends on the state within half a patch around it and on nothing
else (DESIGN 4.1), so what step s must compute is what step s + 1 computes, one patch wider on
every side, as far as the generated area reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_teramind.errors import UserError

Roi = tuple[int, int, int, int]
Halo = int | Literal["exact"]


OUTSIDE = -1.0
"""Image state beyond the generated area, and where there is no tissue."""


@dataclass(frozen=True)
class Settings:
    """How a field is cut; none of it changes the result beyond rounding.

    Attributes
    ----------
    band
        Patch rows advanced at a time; None for all.
    batch
        Patches in one evaluation of encoder or decoder; the last batch is padded to it, so that
        every evaluation has one shape.
    """

    band: int | None = None
    batch: int = 8


@dataclass(frozen=True)
class PatchBox:
    """A rectangle of patches, half open, on the grid anchored at the store's pixel (0, 0)."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def covering(cls, roi: Roi, patch: int) -> PatchBox:
        """Return the smallest box that covers a rectangle of pixels (y0, y1, x0, x1)."""
        y0, y1, x0, x1 = roi
        return cls(y0 // patch, -(-y1 // patch), x0 // patch, -(-x1 // patch))

    @property
    def rows(self) -> int:
        """Height in patches."""
        return self.bottom - self.top

    @property
    def columns(self) -> int:
        """Width in patches."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Number of patches."""
        return self.rows * self.columns

    def grown(self, patches: int, bounds: PatchBox) -> PatchBox:
        """Return the box grown on every side, as far as ``bounds`` allow."""
        return PatchBox(
            max(bounds.top, self.top - patches),
            min(bounds.bottom, self.bottom + patches),
            max(bounds.left, self.left - patches),
            min(bounds.right, self.right + patches),
        )

    def pixels(self, patch: int) -> Roi:
        """Return the box in pixels (y0, y1, x0, x1)."""
        return (self.top * patch, self.bottom * patch, self.left * patch, self.right * patch)


def generated_area(target: PatchBox, brain: PatchBox, halo: Halo) -> PatchBox:
    """Area that a run treats as existing: the brain, or the target and a halo of patches.

    With ``halo="exact"`` the target equals the same crop of any larger run. A number of patches is
    quicker: the run then behaves as if the brain ended there, which changes the target a little.
    """
    if halo == "exact":
        return brain
    if not isinstance(halo, int) or halo < 0:
        raise UserError(f"The halo must be 'exact' or a number of patches from 0, not {halo!r}.")
    return target.grown(halo, brain)


def step_windows(target: PatchBox, area: PatchBox, steps: int) -> list[PatchBox]:
    """Patches that each of ``steps`` steps must compute, first step first."""
    return [target.grown(steps - 1 - s, area) for s in range(steps)]


def slice_groups(slices: tuple[int, int], image_slices: int) -> list[int]:
    """First slice of every slice group that a range of slices touches."""
    first = slices[0] // image_slices * image_slices
    return list(range(first, slices[1], image_slices))


def grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask of patches with all their neighbours, diagonal ones too."""
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    found: np.ndarray = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return found

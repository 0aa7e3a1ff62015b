"""Where structures lie in a stack of labelled slices: extents and areas, found in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[int, int, int, int]

_COLUMNS = 7
"""id, z, area, y0, y1, x0, x1"""


@dataclass(frozen=True)
class Place:
    """Where a structure lies.

    Attributes
    ----------
    areas : dict of int
        Number of pixels by slice, for the slices that hold it.
    boxes : dict of int
        (y0, y1, x0, x1), half open, by slice.
    """

    areas: dict[int, int]
    boxes: dict[int, Box]

    @property
    def largest(self) -> int:
        """The slice that shows most of it."""
        return max(self.areas, key=lambda z: self.areas[z])

    @property
    def slices(self) -> tuple[int, int]:
        """First slice and the one after the last."""
        return min(self.areas), max(self.areas) + 1

    @property
    def box(self) -> Box:
        """The box that holds it on every slice."""
        y0, y1, x0, x1 = (list(sides) for sides in zip(*self.boxes.values(), strict=True))
        return min(y0), max(y1), min(x0), max(x1)


class StructurePlaces:
    """Places of all structures of a stack of slices. Make it with `find`.

    Parameters
    ----------
    rows : array of int, (n, 7)
        id, slice, area, y0, y1, x0, x1, a row for every id and slice.
    """

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self._rows = rows

    @classmethod
    def find(cls, depth: int, read: Callable[[int], NDArray[np.integer]]) -> StructurePlaces:
        """Look through a stack.

        Parameters
        ----------
        depth : int
            Number of slices.
        read : callable
            Returns the ids of a slice, (y, x); 0 is no structure.
        """
        import pandas as pd
        from scipy.ndimage import find_objects

        found: list[tuple[int, ...]] = []
        for z in range(depth):
            labels = np.asarray(read(z))
            # By hashing, not sorting: a slice has millions of pixels and few ids.
            codes, ids = pd.factorize(labels.ravel())
            areas = np.bincount(codes, minlength=len(ids))
            # Numbered from 1, as 0 stands for nothing here.
            boxes = find_objects((codes + 1).reshape(labels.shape))
            for structure_id, area, (rows, columns) in zip(ids, areas, boxes, strict=True):
                sides = (rows.start, rows.stop, columns.start, columns.stop)
                found.append((int(structure_id), z, int(area), *sides))
        rows = np.array(found, np.int64).reshape(-1, _COLUMNS)
        return cls(rows[rows[:, 0] != 0])

    @property
    def ids(self) -> frozenset[int]:
        """Ids that occur."""
        return frozenset(np.unique(self._rows[:, 0]).tolist())

    def of(self, ids: Iterable[int]) -> Place | None:
        """Return where some structures lie, taken together; None if nowhere."""
        picked = self._rows[np.isin(self._rows[:, 0], np.fromiter(ids, np.int64))]
        if not len(picked):
            return None
        areas: dict[int, int] = {}
        boxes: dict[int, Box] = {}
        for z in np.unique(picked[:, 1]).tolist():
            here = picked[picked[:, 1] == z]
            areas[z] = int(here[:, 2].sum())
            (y0, x0), (y1, x1) = here[:, [3, 5]].min(axis=0), here[:, [4, 6]].max(axis=0)
            boxes[z] = (int(y0), int(y1), int(x0), int(x1))
        return Place(areas, boxes)

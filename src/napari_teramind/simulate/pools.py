"""Tensors of patches kept by place on the grid, and recombined into collage patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Place = tuple[int, int]
"""Row and column on the grid of shifted patches."""


class PatchPool:
    """Keeps a few tensors for every shifted patch in use, in slots that are used again.

    Attributes
    ----------
    parts : list of Tensor
        One (slots, side, side, ...) tensor for every kind of value.
    """

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self._slots: dict[Place, int] = {}
        self._free: list[int] = []

    def __contains__(self, place: Place) -> bool:
        return place in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, places: Sequence[Place], values: Sequence[Tensor]) -> None:
        """Keep values, each (len(places), side, side, ...)."""
        self._grow(len(places), values)
        slots = [self._free.pop() for _ in places]
        self._slots.update(zip(places, slots, strict=True))
        index = torch.tensor(slots, device=values[0].device)
        for part, value in zip(self.parts, values, strict=True):
            part.index_copy_(0, index, value.to(part.dtype))

    def _grow(self, count: int, values: Sequence[Tensor]) -> None:
        """Make room for ``count`` more patches."""
        if not self.parts:
            self.parts = [value.new_empty(0, *value.shape[1:]) for value in values]
        short = count - len(self._free)
        if short <= 0:
            return
        have = self.parts[0].shape[0]
        for i, part in enumerate(self.parts):
            grown = part.new_empty(have + short, *part.shape[1:])
            grown[:have] = part
            self.parts[i] = grown
        self._free.extend(range(have + short - 1, have - 1, -1))

    def drop(self, places: Iterable[Place]) -> None:
        """Give slots back."""
        for place in places:
            self._free.append(self._slots.pop(place))

    def clear(self) -> None:
        """Give all slots back."""
        self.drop(list(self._slots))

    def drop_rows_above(self, row: int) -> None:
        """Give back the slots of all rows above one."""
        self.drop([place for place in self._slots if place[0] < row])

    def drop_columns_before(self, column: int) -> None:
        """Give back the slots of all columns left of one."""
        self.drop([place for place in self._slots if place[1] < column])

    def take(self, places: Sequence[Place]) -> list[Tensor]:
        """Return copies of what is kept for some patches."""
        index = self._index(places)
        return [part.index_select(0, index) for part in self.parts]

    def collage(self, places: Sequence[Place]) -> list[Tensor]:
        """Recombine collage patches, each from the shifted patches (row, column) to (+1, +1).

        A collage patch has one quarter of each of the four shifted patches that overlap it.
        """
        corners = [
            self._index([(r + dr, c + dc) for r, c in places]) for dr in (0, 1) for dc in (0, 1)
        ]
        collages = []
        for part in self.parts:
            half = part.shape[1] // 2
            out = part.new_empty(len(places), *part.shape[1:])
            first, second = slice(0, half), slice(half, 2 * half)
            for index, ys, xs in zip(
                corners,
                (first, first, second, second),
                (first, second, first, second),
                strict=True,
            ):
                opposite = part[
                    :,
                    second if ys is first else first,
                    second if xs is first else first,
                ]
                out[:, ys, xs] = opposite.index_select(0, index)
            collages.append(out)
        return collages

    def _index(self, places: Sequence[Place]) -> Tensor:
        slots = [self._slots[place] for place in places]
        return torch.tensor(slots, device=self.parts[0].device)

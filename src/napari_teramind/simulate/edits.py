"""Edits of gene expression: what if a gene were less, more, or absent.

An edit changes counts as they are read, never the store. It can change what is generated only near
its bins: the gene features of the shifted patches that hold them, and from there half a patch
further with every step (DESIGN 4.1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_teramind.brain.bins import BinBox, BinLabels, bin_labels, structure_ids
from napari_teramind.brain.layout import BIN
from napari_teramind.errors import UserError
from napari_teramind.simulate.region import PatchBox, Roi

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.brain import BrainStore

FORM = "GENE=VALUE or GENE*FACTOR, and where: GENE=0@VTA, GENE*2@Y0,Y1,X0,X1"
_WRITTEN = re.compile(r"\s*([^=*@\s]+)\s*([=*])\s*([^@\s]+)\s*(?:@\s*(.+?)\s*)?$")


@dataclass(frozen=True)
class Edit:
    """A change of one gene's counts.

    Attributes
    ----------
    gene
        A gene of the network's panel.
    how
        ``"multiply"`` the counts, or ``"set"`` every bin to a number; a knock-out sets 0.
    value
        Factor, or count of a bin; from 0.
    roi
        (y0, y1, x0, x1) px of the full-resolution grid: bins whose centre lies in it are changed.
        None: everywhere.
    structure
        Acronym: only bins in that structure, or in one of its parts, are changed.
    """

    gene: str
    how: Literal["set", "multiply"] = "set"
    value: float = 0.0
    roi: Roi | None = None
    structure: str | None = None

    def __post_init__(self) -> None:
        if self.how not in ("set", "multiply"):
            raise UserError(f"An edit sets or multiplies counts; '{self.how}' is not known.")
        if not (math.isfinite(self.value) and self.value >= 0):
            raise UserError(f"The edit of {self.gene} needs a number from 0, not {self.value}.")

    def __str__(self) -> str:
        """Write the edit as :func:`parse_edit` reads it."""
        where = ""
        if self.structure is not None:
            where = f"@{self.structure}"
        elif self.roi is not None:
            where = "@" + ",".join(map(str, self.roi))
        return f"{self.gene}{'=' if self.how == 'set' else '*'}{self.value:g}{where}"

    @property
    def words(self) -> str:
        """The edit as people would say it."""
        what = f"{self.gene} set to {self.value:g}"
        if self.how == "multiply":
            what = f"{self.gene} times {self.value:g}"
        elif self.value == 0:
            what = f"{self.gene} knocked out"
        if self.structure is not None:
            return f"{what} in {self.structure}"
        if self.roi is not None:
            return f"{what} in y {self.roi[0]} to {self.roi[1]}, x {self.roi[2]} to {self.roi[3]}"
        return what

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Edit:
        """Return the edit whose :meth:`to_dict` this is."""
        roi = values.get("roi")
        return cls(**{**values, "roi": None if roi is None else tuple(roi)})


def parse_edit(text: str) -> Edit:
    """Read an edit as people write it.

    Parameters
    ----------
    text
        ``Th=0``, ``Th*2.5``, ``Th=0@VTA``, ``Th=0@0,128,256,384``.

    Raises
    ------
    UserError
        If it is written in another way.
    """
    found = _WRITTEN.match(text)
    if found is None:
        raise UserError(f"The edit '{text}' cannot be read; write {FORM}.")
    gene, sign, number, where = found.groups()
    try:
        value = float(number)
    except ValueError:
        raise UserError(f"The edit '{text}' needs a number after '{sign}'.") from None
    how: Literal["set", "multiply"] = "set" if sign == "=" else "multiply"
    if where is None:
        return Edit(gene, how, value)
    if "," not in where:
        return Edit(gene, how, value, structure=where)
    try:
        y0, y1, x0, x1 = (int(part) for part in where.split(","))
    except ValueError:
        raise UserError(f"The place '{where}' of an edit is Y0,Y1,X0,X1 in pixels.") from None
    return Edit(gene, how, value, roi=(y0, y1, x0, x1))


class Edits:
    """Edits of a brain, ready to be made on what is read.

    Parameters
    ----------
    brain
        The store; it is not changed.
    edits
        Made in this order.
    genes
        The network's panel.

    Raises
    ------
    UserError
        If a gene is not in the panel, a rectangle holds no bin of the brain, or a structure is not
        known.
    """

    def __init__(self, brain: BrainStore, edits: Sequence[Edit], genes: Sequence[str]) -> None:
        self._brain, self._edits = brain, tuple(edits)
        unknown = [edit.gene for edit in self._edits if edit.gene not in genes]
        if unknown:
            raise UserError(
                f"The network does not look at {unknown[0]}, so that an edit of it changes "
                "nothing; choose a gene of its panel."
            )
        self._channels = [list(genes).index(edit.gene) for edit in self._edits]
        self._labels: BinLabels | None = None
        self._ids: dict[str, NDArray[np.int64]] = {}
        depth, height, width = brain.shape
        for edit in self._edits:
            if edit.roi is not None:
                brain.check_roi(edit.roi, (0, depth))
                if not _bin_mask(edit.roi, (0, -(-height // BIN), 0, -(-width // BIN))).any():
                    raise UserError(
                        f"The edit {edit} changes nothing: no bin of {BIN} px has its centre there."
                    )
            if edit.structure is not None:
                self._ids[edit.structure] = structure_ids(brain, [edit.structure])
        if self._ids:
            self._labels = bin_labels(brain)

    def __bool__(self) -> bool:
        return bool(self._edits)

    def apply(self, counts: NDArray[np.float32], box: BinBox, slices: tuple[int, int]) -> None:
        """Change counts in place.

        Parameters
        ----------
        counts
            (genes, z, y, x), the panel's genes in its order.
        box, slices
            What was read; may reach beyond the brain, where nothing is changed.
        """
        for edit, channel in zip(self._edits, self._channels, strict=True):
            mask = self._mask(edit, box, slices)
            values = counts[channel]
            if edit.how == "set":
                values[mask] = edit.value
            else:
                values[mask] *= edit.value

    def reach(self, area: PatchBox, patch: int, slices: tuple[int, int]) -> NDArray[np.bool_]:
        """Tell which collage patches of an area see an edit at the first step.

        Parameters
        ----------
        area
            Patches.
        patch
            Side of a patch in px.
        slices
            Gene slices of the group.

        Returns
        -------
        ndarray of bool, (rows, columns)
        """
        b = patch // BIN
        box = (
            area.top * b - b // 2,
            area.bottom * b + b - b // 2,
            area.left * b - b // 2,
            area.right * b + b - b // 2,
        )
        changed = np.zeros((box[1] - box[0], box[3] - box[2]), bool)
        for edit in self._edits:
            changed |= self._mask(edit, box, slices).any(axis=0)
        cells = changed.reshape(area.rows + 1, b, area.columns + 1, b)
        shifted = np.asarray(cells.any(axis=(1, 3)))
        seen: NDArray[np.bool_] = shifted[:-1, :-1] | shifted[1:, :-1]
        return seen | shifted[:-1, 1:] | shifted[1:, 1:]

    def _mask(self, edit: Edit, box: BinBox, slices: tuple[int, int]) -> NDArray[np.bool_]:
        """Bins of a box that an edit changes: (z, y, x)."""
        depth, height, width = self._brain.shape
        z = np.arange(*slices)
        plane = _bin_mask((0, height, 0, width), box)
        if edit.roi is not None:
            plane &= _bin_mask(edit.roi, box)
        mask = np.repeat(plane[None], len(z), axis=0)
        mask[(z < 0) | (z >= depth)] = False
        if edit.structure is not None and self._labels is not None and mask.any():
            inside = range(max(slices[0], 0), min(slices[1], depth))
            found = np.isin(self._labels(box, inside), self._ids[edit.structure])
            mask[inside.start - slices[0] : inside.stop - slices[0]] &= found
        return mask


def _bin_mask(roi: Roi, box: BinBox) -> NDArray[np.bool_]:
    """Bins of a box whose centre lies in a rectangle of pixels: (rows, columns)."""
    y0, y1, x0, x1 = roi
    rows = np.arange(*box[:2]) * BIN + BIN / 2
    columns = np.arange(*box[2:]) * BIN + BIN / 2
    return ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))[None, :]


def difference(old: Sequence[Edit], new: Sequence[Edit]) -> tuple[Edit, ...]:
    """Return the edits by which two lists differ: those after what they begin with alike."""
    alike = 0
    while alike < min(len(old), len(new)) and old[alike] == new[alike]:
        alike += 1
    return (*old[alike:], *new[alike:])

"""One section of a phantom: which structure lies at which pixel, and where its vessels run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.phantom.plan import BIN, BLOCK, FORM, PIXEL_SIZE, SLICES, VESSELS, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.phantom.anatomy import Anatomy

BLOCK_BINS = BLOCK // BIN
# Layers are drawn at least as thick as one row of cells, micrometre.
_THINNEST_UM = 5.0
# The form of one animal deviates from the atlas by waves of about this height and length, mm.
_WAVE_HEIGHT, _WAVE_LENGTH, _N_WAVES = 0.05, (3.0, 9.0), 6


class Section:
    """One coronal section.

    Parameters
    ----------
    plan : Plan
    anatomy : Anatomy
    z : int
        Index of the section.
    """

    def __init__(self, plan: Plan, anatomy: Anatomy, z: int) -> None:
        self.plan, self.anatomy, self.z = plan, anatomy, z
        self.height, self.width = plan.size.height, plan.size.width
        self._form = _Form.of(plan)
        # Each section lies on its slide a little turned and shifted.
        turn, down, right = plan.rng(SLICES, 1 + z).normal(size=3)
        self._turn = np.deg2rad(0.8 * turn)
        self._shift = (0.02 * down, 0.02 * right)
        self.structures = lru_cache(maxsize=512)(self._structures)

    @property
    def blocks(self) -> tuple[int, int]:
        """Number of blocks along y and x."""
        return -(-self.height // BLOCK), -(-self.width // BLOCK)

    def to_anatomy(
        self, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Map pixels to the frame of the anatomy.

        Parameters
        ----------
        y, x : arrays of float
            Pixels of the section.

        Returns
        -------
        dv, ml : arrays of float
            Millimetre from the top, and from the midline (negative on the left).
        """
        mm = PIXEL_SIZE / self.plan.um_per_mm
        down = (np.asarray(y) - (self.height - 1) / 2) * mm
        right = (np.asarray(x) - (self.width - 1) / 2) * mm
        cos, sin = np.cos(self._turn), np.sin(self._turn)
        dv0, dv1, _ = self.anatomy.frame_mm
        stretch_dv, stretch_ml = self.plan.animal.stretch
        dv = (cos * down - sin * right) / stretch_dv + (dv0 + dv1) / 2 + self._shift[0]
        ml = (sin * down + cos * right) / stretch_ml + self._shift[1]
        return self._form.deform(self.plan.ap_mm[self.z], dv, ml)

    def ids_at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.uint32]:
        """Structure ids at pixels of the section; arrays of one shape."""
        dv, ml = self.to_anatomy(y, x)
        finest = _THINNEST_UM / self.plan.um_per_mm
        return self.anatomy.at(self.plan.ap_mm[self.z], dv, ml, finest)

    def _structures(self, row: int, column: int) -> NDArray[np.uint32]:
        """Structure ids at the bins of a block; 0 beyond the section."""
        bins_y = row * BLOCK_BINS + np.arange(BLOCK_BINS)
        bins_x = column * BLOCK_BINS + np.arange(BLOCK_BINS)
        y, x = np.meshgrid(
            bins_y * BIN + (BIN - 1) / 2, bins_x * BIN + (BIN - 1) / 2, indexing="ij"
        )
        ids = self.ids_at(y, x)
        ids[(y < 0) | (y > self.height) | (x < 0) | (x > self.width)] = 0
        return ids

    def structures_around(self, row: int, column: int, margin: int) -> NDArray[np.uint32]:
        """Structure ids at the bins of a block and `margin` bins (up to a block) around it."""
        rows = [
            np.concatenate([self.structures(row + i, column + j) for j in (-1, 0, 1)], axis=1)
            for i in (-1, 0, 1)
        ]
        whole = np.concatenate(rows, axis=0)
        inner = slice(BLOCK_BINS - margin, 2 * BLOCK_BINS + margin)
        return whole[inner, inner]


@dataclass(frozen=True)
class _Form:
    """How the form of one animal's brain deviates from the atlas: a few long waves."""

    waves: NDArray[np.float64]
    phases: NDArray[np.float64]
    heights: NDArray[np.float64]

    @classmethod
    def of(cls, plan: Plan) -> _Form:
        rng = plan.rng(FORM)
        length = rng.uniform(*_WAVE_LENGTH, _N_WAVES)
        direction = rng.normal(size=(_N_WAVES, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        waves = 2 * np.pi * direction / length[:, None]
        phases = rng.uniform(0, 2 * np.pi, _N_WAVES)
        heights = rng.normal(size=(_N_WAVES, 2)) * _WAVE_HEIGHT
        return cls(waves, phases, heights)

    def deform(
        self, ap: float, dv: NDArray[np.float64], ml: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # In |ml|, so that the brain stays symmetric; the midline stays where it is.
        side = np.abs(ml)
        down, out = np.zeros_like(dv), np.zeros_like(dv)
        for wave, phase, (height_dv, height_ml) in zip(
            self.waves, self.phases, self.heights, strict=True
        ):
            swing = np.sin(wave[0] * ap + wave[1] * dv + wave[2] * side + phase)
            down += height_dv * swing
            out += height_ml * swing
        return dv + down, ml + np.sign(ml) * out * np.minimum(side, 1)


class Vessels:
    """Capillaries of a section, as the zero lines of a random field.

    Parameters
    ----------
    plan : Plan
    z : int
        Index of the section.
    """

    _N_WAVES = 14
    _LENGTHS_UM = (70.0, 150.0)
    _RADIUS_UM = 2.2

    def __init__(self, plan: Plan, z: int) -> None:
        rng = plan.rng(VESSELS, z)
        angle = rng.uniform(0, 2 * np.pi, self._N_WAVES)
        number = 2 * np.pi / rng.uniform(*self._LENGTHS_UM, self._N_WAVES)
        self._ky, self._kx = number * np.sin(angle), number * np.cos(angle)
        self._phase = rng.uniform(0, 2 * np.pi, self._N_WAVES)

    def locate(
        self, y_um: NDArray[np.float64], x_um: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Find out which points lie on a capillary, and its direction (radian from x towards y).

        Parameters
        ----------
        y_um, x_um : arrays of float, shape (n,)
            Points of the section, micrometre.
        """
        phase = y_um[:, None] * self._ky + x_um[:, None] * self._kx + self._phase
        value = np.cos(phase).sum(1)
        slope = -np.sin(phase)
        slope_y, slope_x = slope @ self._ky, slope @ self._kx
        # To first order the zero line is this far away.
        distance = np.abs(value) / np.maximum(np.hypot(slope_y, slope_x), 1e-9)
        return distance < self._RADIUS_UM, np.arctan2(slope_x, -slope_y)

"""Images of the phantom: DAPI and PolyT drawn from its cells, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_teramind.phantom import textures
from napari_teramind.phantom.expression import TRANSCRIPTS
from napari_teramind.phantom.plan import BIN, BLOCK, PIXEL_SIZE, STAIN
from napari_teramind.phantom.section import BLOCK_BINS
from napari_teramind.phantom.textures import HALF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.phantom.cells import CellField, Cells

    Image = NDArray[np.float32]


@dataclass(frozen=True)
class Optics:
    """How the microscope sees. Intensities in units of a bright nucleus, or a bright body.

    Attributes
    ----------
    blur_um : tuple of float
        Softness of an edge in focus: nuclei in DAPI, bodies in PolyT.
    haze : tuple of float
        Share of each cell's light that arrives from out of focus: DAPI, PolyT.
    haze_um : tuple of float
        Widths of the haze, micrometre: the near and the far part.
    tissue : tuple of float
        Light of tissue without cells: DAPI, PolyT.
    glass : tuple of float
        Light where there is no tissue.
    white : tuple of float
        Intensity that is written as 255.
    electrons : tuple of float
        Photoelectrons at white: shot noise is their square root.
    read_noise : float
        Grey levels.
    """

    blur_um: tuple[float, float] = (1.05, 0.75)
    haze: tuple[float, float] = (1.2, 0.5)
    haze_um: tuple[float, float] = (3.0, 10.0)
    tissue: tuple[float, float] = (0.03, 0.22)
    glass: tuple[float, float] = (0.012, 0.02)
    white: tuple[float, float] = (2.05, 1.95)
    electrons: tuple[float, float] = (2500.0, 1800.0)
    read_noise: float = 0.9


OPTICS = Optics()
# Radius of the body of a cortical neuron, micrometre.
_ORDINARY_BODY_UM = 6.5
# Side of a field of view of the instrument, pixels, and how much darker its corners are.
_FIELD_OF_VIEW, _VIGNETTING = 1852, 0.10


class Renderer:
    """Draws the blocks of a section.

    Parameters
    ----------
    cells : CellField
    optics : Optics
    """

    def __init__(self, cells: CellField, optics: Optics = OPTICS) -> None:
        self.cells, self.optics = cells, optics
        self.section = cells.section
        self._types = cells.profiles.types

    def block(self, row: int, column: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Draw one block, or what the section's edge leaves of it.

        Returns
        -------
        stains : array of uint8, shape (2, height, width)
            DAPI and PolyT.
        nuclei : array of uint32, shape (height, width)
            Ids of the cells whose nuclei lie there.
        """
        height = min(BLOCK, self.section.height - row * BLOCK)
        width = min(BLOCK, self.section.width - column * BLOCK)
        labels = np.zeros((height, width), np.uint32)
        if not self.section.structures_around(row, column, BLOCK_BINS).any():
            glass = [np.full((height, width), light, np.float32) for light in self.optics.glass]
            return self._expose(row, column, *glass), labels
        cells = self.cells.around(row, column)
        # From here on relative to the block.
        y, x = cells.y - row * BLOCK, cells.x - column * BLOCK
        dapi = np.zeros((height, width), np.float32)
        bodies = np.zeros((-(-height // HALF), -(-width // HALF)), np.float32)
        look = self._look(cells)
        for i in range(len(cells)):
            self._draw_body(bodies, cells, i, y[i], x[i], look)
            self._draw_nucleus(dapi, labels, cells, i, y[i], x[i], look)
        haze = self._haze(cells, y, x, look)
        tissue = self._tissue(row, column)
        dapi += _enlarge_middle(haze[0] + self.optics.glass[0] + tissue[0], BIN, dapi.shape)
        # PolyT has no detail finer than two pixels: it is put together at half resolution.
        fine, half = BIN // HALF, bodies.shape
        bodies += _enlarge_middle(haze[1] + self.optics.glass[1], fine, half)
        bodies += _enlarge_middle(tissue[1], fine, half) * self._neuropil(row, column, half)
        polyt = upsample(bodies, HALF)[:height, :width]
        return self._expose(row, column, dapi, polyt), labels

    def _look(self, cells: Cells) -> dict[str, NDArray[np.float64]]:
        brightness = np.array([t.dapi for t in self._types])[cells.type]
        mrna = self.cells.profiles.totals[cells.type] * cells.size / TRANSCRIPTS
        area = (cells.body * PIXEL_SIZE / _ORDINARY_BODY_UM) ** 2
        individual = (cells.texture >> np.uint32(8) & np.uint32(0xFF)) / 255
        focus = 1 / (1 + (cells.defocus / 3.0) ** 2)
        return {
            "dapi": brightness * (0.75 + 0.5 * individual) * focus,
            # Total mRNA, in part as density: small cells are less bright than they are dense.
            "polyt": mrna**0.5 * area**-0.25 * (0.5 + 0.5 * focus),
            "nucleus_edge": np.hypot(self.optics.blur_um[0], 0.35 * cells.defocus) / PIXEL_SIZE,
            "body_edge": np.hypot(self.optics.blur_um[1], 0.30 * cells.defocus) / PIXEL_SIZE,
        }

    def _draw_nucleus(
        self, canvas: Image, labels: NDArray[np.uint32], cells: Cells, i: int,
        y: float, x: float, look: dict[str, NDArray[np.float64]],
    ) -> None:  # fmt: skip
        edge = float(look["nucleus_edge"][i])
        radius, long = float(cells.radius[i]), float(cells.long[i])
        reach = radius * long**0.5 * 1.12 + 2.5 * edge
        box = _box(y, x, reach, canvas.shape)
        if box is None:
            return
        rows, columns = box
        bits = int(cells.texture[i])
        rho, rim = _egg(rows, columns, y, x, radius, long, float(cells.angle[i]), bits, 0.05)
        fill = _soft((rim - rho) * (radius / edge))
        dome = 0.72 + 0.28 * np.sqrt(np.maximum(1 - (rho / rim) ** 2, 0))
        centres = self._types[int(cells.type[i])].centres
        pattern = textures.crop(textures.chromatin(centres // 3 * 3 + 1), rows, columns, bits)
        canvas[rows, columns] += float(look["dapi"][i]) * fill * dome * pattern
        mask = rho < rim
        part = labels[rows, columns]
        part[mask] = cells.id[i]

    def _draw_body(
        self, canvas: Image, cells: Cells, i: int, y: float, x: float,
        look: dict[str, NDArray[np.float64]],
    ) -> None:  # fmt: skip
        y, x = (y - 0.5) / HALF, (x - 0.5) / HALF
        edge = float(look["body_edge"][i]) / HALF
        radius, long = float(cells.body[i]) / HALF, float(cells.long[i]) ** 1.2
        reach = radius * long**0.5 * 1.35 + 2 * edge
        box = _box(y, x, reach, canvas.shape)
        if box is None:
            return
        rows, columns = box
        bits = int(cells.texture[i])
        rho, rim = _egg(rows, columns, y, x, radius, long, float(cells.angle[i]), bits, 0.16)
        fill = _soft((rim - rho) * (radius / edge))
        # The nucleus holds less RNA than the cytoplasm around it.
        inner = float(cells.radius[i]) / HALF / radius
        hollow = 1 - 0.45 * _soft((inner - rho) * (1.4 * radius / edge))
        pattern = textures.crop(textures.cytoplasm(), rows, columns, bits >> 3)
        part = canvas[rows, columns]
        np.maximum(part, float(look["polyt"][i]) * fill * hollow * pattern, out=part)

    def _haze(
        self, cells: Cells, y: NDArray[np.float64], x: NDArray[np.float64],
        look: dict[str, NDArray[np.float64]],
    ) -> Image:  # fmt: skip
        """Light from out of focus, in the bins of the block and its neighbours: (stains, n, n)."""
        side = 3 * BLOCK_BINS
        out = np.empty((2, side, side), np.float32)
        at_y = np.clip(((y + BLOCK) / BIN).astype(int), 0, side - 1)
        at_x = np.clip(((x + BLOCK) / BIN).astype(int), 0, side - 1)
        near, far = (width / PIXEL_SIZE / BIN for width in self.optics.haze_um)
        for k, (name, radius) in enumerate((("dapi", cells.radius), ("polyt", cells.body))):
            spots = np.zeros((side, side), np.float32)
            # The light of a disc, gathered in one bin.
            light = look[name] * np.pi * (radius / BIN) ** 2 * self.optics.haze[k]
            np.add.at(spots, (at_y, at_x), light.astype(np.float32))
            out[k] = 0.45 * gaussian_filter(spots, near) + 0.55 * gaussian_filter(spots, far)
        return out

    def _tissue(self, row: int, column: int) -> Image:
        """Light of tissue without cells, in the bins of the block and its neighbours."""
        ids = self.section.structures_around(row, column, BLOCK_BINS)
        solid = (ids != 0) & ~np.isin(ids, self.cells.ventricles)
        white = np.isin(ids, self.cells.white_matter)
        stain = np.stack([solid * 1.0, solid * np.where(white, 0.55, 1.0)]).astype(np.float32)
        return np.stack([gaussian_filter(stain[k], 0.8) * self.optics.tissue[k] for k in range(2)])

    def _neuropil(self, row: int, column: int, shape: tuple[int, ...]) -> Image:
        """Uneven neuropil at half resolution, continuous over the section; mean 1."""
        texture = textures.neuropil()
        step = BLOCK // HALF
        at_y = (row * step + np.arange(shape[0]) + 389 * self.section.z) % len(texture)
        at_x = (column * step + np.arange(shape[1]) + 211 * self.section.z) % len(texture)
        return texture[np.ix_(at_y, at_x)]

    def _expose(self, row: int, column: int, dapi: Image, polyt: Image) -> NDArray[np.uint8]:
        """Illumination, shot and read noise, 8 bits."""
        optics = self.optics
        plan = self.section.plan
        rng = plan.rng(STAIN, self.section.z, row, column)
        light = self._illumination(row, column, dapi.shape)
        out = np.empty((2, *dapi.shape), np.uint8)
        for k, image in enumerate((dapi, polyt)):
            grey = image * light
            grey *= np.float32(255 / optics.white[k])
            # Variance of shot noise and read noise together, in grey levels.
            sigma = grey * np.float32(255 / optics.electrons[k])
            sigma += np.float32(optics.read_noise**2)
            np.sqrt(sigma, out=sigma)
            sigma *= rng.standard_normal(grey.shape, dtype=np.float32)
            grey += sigma
            grey += np.float32(0.5)
            np.clip(grey, 0, 255, out=grey)
            out[k] = grey
        return out

    def _illumination(self, row: int, column: int, shape: tuple[int, ...]) -> Image:
        """Darker corners of the instrument's fields of view, and a slow drift over the section."""
        z = self.section.z
        y = row * BLOCK + np.arange(shape[0], dtype=np.float32)
        x = column * BLOCK + np.arange(shape[1], dtype=np.float32)
        centre_y = (y + 311 * z) % _FIELD_OF_VIEW / _FIELD_OF_VIEW * 2 - 1
        centre_x = (x + 173 * z) % _FIELD_OF_VIEW / _FIELD_OF_VIEW * 2 - 1
        corner = (centre_y**2)[:, None] + (centre_x**2)[None, :]
        drift_y = 0.04 * np.sin(2 * np.pi * y / self.section.height + z)
        drift_x = 0.04 * np.cos(2 * np.pi * x / self.section.width + 2 * z)
        drift = (1 + drift_y[:, None]) * (1 + drift_x[None, :])
        return ((1 - _VIGNETTING / 2 * corner) * drift).astype(np.float32)


def upsample(image: Image, factor: int) -> Image:
    """Enlarge an image by linear interpolation between the centres of its pixels."""
    height, width = image.shape
    rows = np.empty((height, factor, width), np.float32)
    padded = np.pad(image, ((1, 1), (0, 0)), mode="edge")
    for k, low, share in _steps(factor):
        first, second = padded[low : low + height], padded[low + 1 : low + 1 + height]
        rows[:, k] = first + (second - first) * share
    tall = rows.reshape(height * factor, width)
    columns = np.empty((height * factor, width, factor), np.float32)
    padded = np.pad(tall, ((0, 0), (1, 1)), mode="edge")
    for k, low, share in _steps(factor):
        first, second = padded[:, low : low + width], padded[:, low + 1 : low + 1 + width]
        columns[:, :, k] = first + (second - first) * share
    return columns.reshape(height * factor, width * factor)


def _steps(factor: int) -> list[tuple[int, int, np.float32]]:
    """Places between two padded pixels: index, lower pixel, share of the upper one."""
    places = [(k + 0.5) / factor + 0.5 for k in range(factor)]
    return [(k, int(p), np.float32(p - int(p))) for k, p in enumerate(places)]


def _enlarge_middle(bins: Image, factor: int, shape: tuple[int, ...]) -> Image:
    """Enlarge the middle block of three times three, and crop it to a shape."""
    bottom, right = (BLOCK_BINS - -(-n // factor) for n in shape)
    middle = bins[
        BLOCK_BINS - 1 : 2 * BLOCK_BINS + 1 - bottom, BLOCK_BINS - 1 : 2 * BLOCK_BINS + 1 - right
    ]
    return upsample(middle, factor)[factor : factor + shape[0], factor : factor + shape[1]]


def _box(y: float, x: float, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Cut out what lies within reach of a point; None if nothing does."""
    top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, shape[0])
    left, right = max(int(x - reach), 0), min(int(x + reach) + 2, shape[1])
    if top >= bottom or left >= right:
        return None
    return slice(top, bottom), slice(left, right)


def _egg(
    rows: slice, columns: slice, y: float, x: float, radius: float, long: float, angle: float,
    bits: int, bumps: float,
) -> tuple[Image, Image]:  # fmt: skip
    """Elliptic distance from the centre (1 on the ellipse), and that of an uneven outline."""
    down = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(y))[:, None]
    right = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x))[None, :]
    cos, sin = np.cos(angle), np.sin(angle)
    stretch = long**0.5 * radius
    squeeze = radius / long**0.5
    u = (right * np.float32(cos) + down * np.float32(sin)) * np.float32(1 / stretch)
    v = (down * np.float32(cos) - right * np.float32(sin)) * np.float32(1 / squeeze)
    square = u * u + v * v
    rho = np.sqrt(square)
    # Second and third harmonic of the outline, without computing an angle.
    phase2 = 2 * np.pi * (bits & 15) / 16
    phase3 = 2 * np.pi * (bits >> 4 & 15) / 16
    safe = np.maximum(square, 1e-6)
    second = (np.cos(phase2) * (u * u - v * v) + np.sin(phase2) * 2 * u * v) / safe
    third = (
        np.cos(phase3) * u * (u * u - 3 * v * v) + np.sin(phase3) * v * (3 * u * u - v * v)
    ) / (safe * np.sqrt(safe))
    rim = (1 + bumps * (second + third)).astype(np.float32)
    return rho, rim


def _soft(signed: Image) -> Image:
    """Step softly from 0 outside to 1 inside; the argument is in units of the edge's width."""
    return np.asarray(0.5 + 0.5 * np.tanh(signed), np.float32)

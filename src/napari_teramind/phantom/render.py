"""Images of the phantom: DAPI and PolyT drawn from its cells, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_teramind.phantom.plan import BIN, BLOCK, PIXEL_SIZE, STAIN, generator
from napari_teramind.phantom.section import BLOCK_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_teramind.phantom.cells import CellField, Cells

    Image = NDArray[np.float32]


@dataclass(frozen=True)
class Optics:
    """How the microscope sees. Intensities in units of a bright nucleus, or a bright body.

    Attributes
    ----------
    blur_um : float
        Softness of an edge in focus.
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

    blur_um: float = 0.30
    haze: tuple[float, float] = (0.55, 0.45)
    haze_um: tuple[float, float] = (2.2, 9.0)
    tissue: tuple[float, float] = (0.03, 0.16)
    glass: tuple[float, float] = (0.012, 0.015)
    white: tuple[float, float] = (1.30, 1.25)
    electrons: tuple[float, float] = (2500.0, 1800.0)
    read_noise: float = 0.9


OPTICS = Optics()
# Cell bodies are drawn at half resolution.
_HALF = 2
# Side of a field of view of the instrument, pixels, and how much darker its corners are.
_FIELD_OF_VIEW, _VIGNETTING = 1852, 0.10
_TEXTURE = 1024


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
        """Draw one block.

        Returns
        -------
        stains : array of uint8, shape (2, BLOCK, BLOCK)
            DAPI and PolyT.
        nuclei : array of uint32, shape (BLOCK, BLOCK)
            Ids of the cells whose nuclei lie there.
        """
        cells = self.cells.around(row, column)
        # From here on relative to the block.
        y, x = cells.y - row * BLOCK, cells.x - column * BLOCK
        dapi = np.zeros((BLOCK, BLOCK), np.float32)
        bodies = np.zeros((BLOCK // _HALF, BLOCK // _HALF), np.float32)
        labels = np.zeros((BLOCK, BLOCK), np.uint32)
        look = self._look(cells)
        for i in range(len(cells)):
            self._draw_body(bodies, cells, i, y[i], x[i], look)
            self._draw_nucleus(dapi, labels, cells, i, y[i], x[i], look)
        polyt = upsample(bodies, _HALF)
        haze = self._haze(cells, y, x, look)
        tissue = self._tissue(row, column)
        dapi += _enlarge_middle(haze[0] + self.optics.glass[0] + tissue[0])
        polyt += _enlarge_middle(haze[1] + self.optics.glass[1])
        polyt += _enlarge_middle(tissue[1]) * upsample(self._neuropil(row, column), _HALF)
        return self._expose(row, column, dapi, polyt), labels

    def _look(self, cells: Cells) -> dict[str, NDArray[np.float64]]:
        brightness = np.array([t.dapi for t in self._types])[cells.type]
        mrna = (self.cells.profiles.totals / self.cells.profiles.totals.max())[cells.type]
        area = (cells.body / cells.body.mean()) ** 2 if len(cells) else cells.body
        individual = (cells.texture >> np.uint32(8) & np.uint32(0xFF)) / 255
        focus = 1 / (1 + (cells.defocus / 3.0) ** 2)
        return {
            "dapi": brightness * (0.75 + 0.5 * individual) * focus,
            # Total mRNA over the area that it fills, compressed as staining saturates.
            "polyt": np.sqrt(mrna * cells.size / np.maximum(area, 0.2)) * (0.5 + 0.5 * focus),
            "edge": np.hypot(self.optics.blur_um, 0.35 * cells.defocus) / PIXEL_SIZE,
        }

    def _draw_nucleus(
        self, canvas: Image, labels: NDArray[np.uint32], cells: Cells, i: int,
        y: float, x: float, look: dict[str, NDArray[np.float64]],
    ) -> None:  # fmt: skip
        edge = float(look["edge"][i])
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
        pattern = _crop(_chromatin(centres), rows, columns, bits)
        canvas[rows, columns] += float(look["dapi"][i]) * fill * dome * pattern
        mask = rho < rim
        part = labels[rows, columns]
        part[mask] = cells.id[i]

    def _draw_body(
        self, canvas: Image, cells: Cells, i: int, y: float, x: float,
        look: dict[str, NDArray[np.float64]],
    ) -> None:  # fmt: skip
        y, x = (y - 0.5) / _HALF, (x - 0.5) / _HALF
        edge = (float(look["edge"][i]) + 0.5 / PIXEL_SIZE) / _HALF
        radius, long = float(cells.body[i]) / _HALF, float(cells.long[i]) ** 1.2
        reach = radius * long**0.5 * 1.35 + 2 * edge
        box = _box(y, x, reach, canvas.shape)
        if box is None:
            return
        rows, columns = box
        bits = int(cells.texture[i])
        rho, rim = _egg(rows, columns, y, x, radius, long, float(cells.angle[i]), bits, 0.16)
        fill = _soft((rim - rho) * (radius / edge))
        # The nucleus holds less RNA than the cytoplasm around it.
        inner = float(cells.radius[i]) / _HALF / radius
        hollow = 1 - 0.42 * _soft((inner - rho) * (radius / edge))
        pattern = _crop(_cytoplasm(), rows, columns, bits >> 3)
        canvas[rows, columns] += float(look["polyt"][i]) * fill * hollow * pattern

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

    def _neuropil(self, row: int, column: int) -> Image:
        """Uneven neuropil at half resolution, continuous over the section; mean 1."""
        texture = _neuropil()
        step = BLOCK // _HALF
        at_y = (row * step + np.arange(step) + 389 * self.section.z) % len(texture)
        at_x = (column * step + np.arange(step) + 211 * self.section.z) % len(texture)
        return texture[np.ix_(at_y, at_x)]

    def _expose(self, row: int, column: int, dapi: Image, polyt: Image) -> NDArray[np.uint8]:
        """Illumination, shot and read noise, 8 bits."""
        optics = self.optics
        plan = self.section.plan
        rng = plan.rng(STAIN, self.section.z, row, column)
        light = self._illumination(row, column)
        out = np.empty((2, BLOCK, BLOCK), np.uint8)
        for k, image in enumerate((dapi, polyt)):
            grey = image * light
            grey *= 255 / optics.white[k]
            noise = rng.standard_normal(grey.shape, dtype=np.float32)
            # Variance of shot noise and read noise together, in grey levels.
            sigma = np.sqrt(grey * (255 / optics.electrons[k]) + optics.read_noise**2)
            grey += noise * sigma
            np.clip(grey, 0, 255, out=grey)
            out[k] = grey + 0.5
        return out

    def _illumination(self, row: int, column: int) -> Image:
        """Darker corners of the instrument's fields of view, and a slow drift over the section."""
        z = self.section.z
        y = row * BLOCK + np.arange(BLOCK, dtype=np.float32)
        x = column * BLOCK + np.arange(BLOCK, dtype=np.float32)
        centre_y = (y + 311 * z) % _FIELD_OF_VIEW / _FIELD_OF_VIEW * 2 - 1
        centre_x = (x + 173 * z) % _FIELD_OF_VIEW / _FIELD_OF_VIEW * 2 - 1
        corner = (centre_y**2)[:, None] + (centre_x**2)[None, :]
        drift_y = 0.04 * np.sin(2 * np.pi * y / self.section.height + z)
        drift_x = 0.04 * np.cos(2 * np.pi * x / self.section.width + 2 * z)
        drift = (1 + drift_y[:, None]) * (1 + drift_x[None, :])
        return ((1 - _VIGNETTING / 2 * corner) * drift).astype(np.float32)


def upsample(image: Image, factor: int) -> Image:
    """Enlarge an image by linear interpolation between the centres of its pixels."""
    tall = _lerp_rows(image, factor)
    return np.ascontiguousarray(_lerp_rows(np.ascontiguousarray(tall.T), factor).T)


def _lerp_rows(image: Image, factor: int) -> Image:
    padded = np.concatenate([image[:1], image, image[-1:]])
    out = np.empty((len(image), factor, image.shape[1]), np.float32)
    for k in range(factor):
        place = np.float32((k + 0.5) / factor - 0.5)
        low = 1 + int(np.floor(place))
        share = place - np.floor(place)
        first, second = padded[low : low + len(image)], padded[low + 1 : low + 1 + len(image)]
        out[:, k] = first * (1 - share) + second * share
    return out.reshape(-1, image.shape[1])


def _enlarge_middle(bins: Image) -> Image:
    """The middle block of three times three, from bins to pixels."""
    middle = bins[BLOCK_BINS - 1 : 2 * BLOCK_BINS + 1, BLOCK_BINS - 1 : 2 * BLOCK_BINS + 1]
    return upsample(middle, BIN)[BIN:-BIN, BIN:-BIN]


def _box(y: float, x: float, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """The part of a canvas within reach of a point, or None if there is none."""
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
    rim = 1 + np.float32(bumps) * second.astype(np.float32)
    rim += np.float32(bumps) * third.astype(np.float32)
    return rho, rim


def _soft(signed: Image) -> Image:
    """A soft step: 0 outside, 1 inside, in units of the edge's width."""
    return 0.5 + 0.5 * np.tanh(signed)


def _crop(texture: Image, rows: slice, columns: slice, bits: int) -> Image:
    """A random piece of a texture, in one of eight orientations."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    room = _TEXTURE - max(height, width)
    y0, x0 = bits * 7919 % room, bits * 104729 % room
    piece = texture
    if bits & 0x100:
        piece = piece.T
    if bits & 0x200:
        piece = piece[::-1]
    if bits & 0x400:
        piece = piece[:, ::-1]
    return piece[y0 : y0 + height, x0 : x0 + width]


@cache
def _chromatin(centres: int) -> Image:
    """Chromatin with this many chromocentres in an ordinary nucleus (70 um^2); mean about 1."""
    rng = generator(centres, 1)
    area = (_TEXTURE * PIXEL_SIZE) ** 2
    n = int(centres * area / 70)
    spots = np.zeros((3, _TEXTURE, _TEXTURE), np.float32)
    y, x = rng.integers(0, _TEXTURE, (2, n))
    kind = rng.integers(0, 3, n)
    np.add.at(spots, (kind, y, x), rng.uniform(0.5, 1.2, n).astype(np.float32))
    image = np.zeros((_TEXTURE, _TEXTURE), np.float32)
    for spot, radius_um, height in zip(spots, (0.32, 0.45, 0.62), (0.55, 0.6, 0.6), strict=True):
        sigma = radius_um / PIXEL_SIZE
        image += height * 2 * np.pi * sigma**2 * gaussian_filter(spot, sigma, mode="wrap")
    grain = rng.standard_normal((_TEXTURE, _TEXTURE)).astype(np.float32)
    fine = gaussian_filter(grain, 0.28 / PIXEL_SIZE, mode="wrap")
    coarse = gaussian_filter(grain[::-1], 1.0 / PIXEL_SIZE, mode="wrap")
    image += 0.62 + 0.07 * fine / fine.std() + 0.09 * coarse / coarse.std()
    return np.maximum(image, 0.2)


@cache
def _cytoplasm() -> Image:
    """Mottled cytoplasm; mean 1."""
    rng = generator(2)
    grain = rng.standard_normal((2, _TEXTURE, _TEXTURE)).astype(np.float32)
    fine = gaussian_filter(grain[0], 0.35 / PIXEL_SIZE / _HALF, mode="wrap")
    coarse = gaussian_filter(grain[1], 1.2 / PIXEL_SIZE / _HALF, mode="wrap")
    return np.maximum(1 + 0.10 * fine / fine.std() + 0.12 * coarse / coarse.std(), 0.2)


@cache
def _neuropil() -> Image:
    """Uneven neuropil at half resolution; mean 1."""
    rng = generator(3)
    grain = rng.standard_normal((2, _TEXTURE, _TEXTURE)).astype(np.float32)
    fine = gaussian_filter(grain[0], 0.5 / PIXEL_SIZE / _HALF, mode="wrap")
    coarse = gaussian_filter(grain[1], 2.5 / PIXEL_SIZE / _HALF, mode="wrap")
    return np.maximum(1 + 0.20 * fine / fine.std() + 0.20 * coarse / coarse.std(), 0.1)

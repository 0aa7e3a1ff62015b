"""The published inference: tile by tile, step by step, with the state on disk in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import zarr
from torch import Tensor

from .network import PublishedNetwork, patches

TILE = 256
OUTSIDE = -1.0


def abar(steps: int) -> tuple[list[int], np.ndarray]:
    """Times of a run, ascending, and the products of 1 - beta there.

    Linear betas 1e-4..0.02 over 1000 times; the smallest integer stride that gives the number of
    steps.
    """
    everything = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for stride in range(1, 1001):
        times = list(range(0, 1000, stride))
        if len(times) == steps:
            return times, everything[times]
    raise ValueError(f"No stride gives {steps} steps.")


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Map [-1, 1] to 0..255: (x + 1) 127.5, clipped, truncated."""
    return np.clip((x.astype(np.float32) + 1) * 127.5, 0, 255).astype(np.uint8)


@dataclass
class PublishedSchedule:
    """Sample a field as published; the switches take single inefficiencies away.

    Parameters
    ----------
    network
        On its device, in evaluation mode.
    folder
        Where the state goes: a Zarr array a step, a chunk a tile, of which two are kept.
    state
        Type of the state on disk; published: float16.
    both_decoders
        Run the decoder on the shifted patches too, and throw the result away, as published.
    cache_features
        Keep the gene features of every tile over all steps, in memory.
    autocast
        Type for mixed precision, or None.
    on_tile
        Called after every tile.
    """

    network: PublishedNetwork
    folder: Path
    state: str = "float16"
    both_decoders: bool = True
    cache_features: bool = False
    autocast: torch.dtype | None = None
    on_tile: Callable[[], None] | None = None
    state_read: int = field(default=0, init=False)
    state_written: int = field(default=0, init=False)
    tile_steps: int = field(default=0, init=False)
    features: dict[tuple[int, int], list[Tensor]] = field(default_factory=dict, init=False)

    @torch.inference_mode()
    def run(
        self,
        noise: np.ndarray,
        genes: np.ndarray,
        steps: int = 15,
        on_step: Callable[[int, np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """Sample a field.

        Parameters
        ----------
        noise
            (stains, M, H, W), sides multiples of 256 or not: tiles at the border may be smaller.
        genes
            (genes, S, (H + p)/16, (W + p)/16).
        steps
            Number of steps.
        on_step
            Called as ``on_step(step, state)`` after every step, for tests.

        Returns
        -------
        ndarray
            The last state as it is on disk.
        """
        times, products = abar(steps)
        current = self._create("noise", noise.shape)
        for rows, columns in self._tiles(noise.shape):
            self._write(current, rows, columns, noise[:, :, rows, columns])
        for done, i in enumerate(reversed(range(steps))):
            following = self._create(f"step{done + 1}", noise.shape)
            here, after = float(products[i]), float(products[i - 1]) if i else 1.0
            for rows, columns in self._tiles(noise.shape):
                x = self._padded(current, rows, columns)
                x = self._step(x, genes, times[i], here, after, rows, columns)
                self._write(following, rows, columns, x)
                self.tile_steps += 1
                if self.on_tile is not None:
                    self.on_tile()
            shutil.rmtree(self.folder / str(current.attrs["name"]))
            current = following
            if on_step is not None:
                on_step(done, np.asarray(current[:]))
        return np.asarray(current[:])

    def _create(self, name: str, shape: tuple[int, ...]) -> zarr.Array:
        """Make the array of a state."""
        chunks = (*shape[:2], min(TILE, shape[2]), min(TILE, shape[3]))
        return zarr.create_array(
            store=self.folder / name,
            shape=shape,
            chunks=chunks,
            dtype=self.state,
            compressors=None,
            attributes={"name": name},
            overwrite=True,
        )

    def _tiles(self, shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
        """Tiles of a field, row-major."""
        return [
            (slice(y, min(y + TILE, shape[2])), slice(x, min(x + TILE, shape[3])))
            for y in range(0, shape[2], TILE)
            for x in range(0, shape[3], TILE)
        ]

    def _write(self, array: zarr.Array, rows: slice, columns: slice, x: np.ndarray) -> None:
        values = x.astype(self.state)
        array[:, :, rows, columns] = values
        self.state_written += values.nbytes

    def _padded(self, array: zarr.Array, rows: slice, columns: slice) -> Tensor:
        """Read a tile with half a patch around it; -1 beyond the field."""
        half = self.network.config.patch // 2
        height, width = array.shape[2:]
        y0, y1 = max(rows.start - half, 0), min(rows.stop + half, height)
        x0, x1 = max(columns.start - half, 0), min(columns.stop + half, width)
        values = np.asarray(array[:, :, y0:y1, x0:x1])
        self.state_read += values.nbytes
        margin = [
            x0 - columns.start + half,
            columns.stop + half - x1,
            y0 - rows.start + half,
            rows.stop + half - y1,
        ]
        return F.pad(torch.from_numpy(values.astype(np.float32)), margin, value=OUTSIDE)

    def _step(
        self,
        x: Tensor,
        genes: np.ndarray,
        t: int,
        here: float,
        after: float,
        rows: slice,
        columns: slice,
    ) -> np.ndarray:
        """Take one DDIM step (eta 0, x0 clamped) on a padded tile."""
        config = self.network.config
        half = config.patch // 2
        device = next(self.network.parameters()).device
        bins = (
            slice(rows.start // 16, (rows.stop + config.patch) // 16),
            slice(columns.start // 16, (columns.stop + config.patch) // 16),
        )
        g = torch.from_numpy(np.ascontiguousarray(genes[:, :, *bins])).float()[None].to(device)
        x = x.to(device)
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            features = None
            if self.cache_features:
                place = (rows.start, columns.start)
                if place not in self.features:
                    self.features[place] = self.network.gene_features(patches(g, config.bins))
                features = self.features[place]
            time = torch.tensor([t], device=device)
            eps, *_ = self.network(x[None], g, time, self.both_decoders, features)
        inner, eps = x[..., half:-half, half:-half], eps[0].float()
        x0 = ((inner - (1 - here) ** 0.5 * eps) / here**0.5).clamp(-1, 1)
        eps = (inner - here**0.5 * x0) / (1 - here) ** 0.5
        return (after**0.5 * x0 + (1 - after) ** 0.5 * eps).cpu().numpy()

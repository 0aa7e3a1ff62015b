"""One pass over a field: bands of patch rows, every step one row behind the step before.

The engine knows arrays only. The state lives in one rolling buffer of patch rows; because a step
needs only half a patch around what it computes, the lower half of the last old row of every step is
all that must be kept besides (DESIGN 4.2). With a band of all rows this is plain stepping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from napari_teramind.diffusion.samplers import Step, take_step
from napari_teramind.model.collage import cut
from napari_teramind.model.network import Encoded, TeraMind
from napari_teramind.simulate.batches import Batches
from napari_teramind.simulate.pools import PatchPool, Place
from napari_teramind.simulate.region import OUTSIDE, PatchBox, Settings, grown, step_windows
from napari_teramind.simulate.trace import Again, Trace

GeneReader = Callable[[PatchBox], Tensor]
"""Counts (genes, S, rows p/16, columns p/16) of a box of *shifted* patches: row r of that grid
starts at pixel r p - p/2."""

NoiseReader = Callable[[PatchBox], Tensor]
"""Noise (stains, M, rows p, columns p) of a box of patches."""


@dataclass
class Wavefront:
    """Sample one slice group of a field.

    Parameters
    ----------
    model
        The network.
    target
        Patches to deliver.
    area
        Generated area, on whose border the state is -1.
    steps
        From :func:`~napari_teramind.diffusion.samplers.plan_steps`.
    genes, noise
        Readers.
    settings
        How the work is cut.
    active
        (rows, columns) bool over ``area``: patches that are computed. The others have the state -1
        throughout, as everything beyond the area has. None: all are.
    batches
        Evaluates the network; shared by runs that shall halve together. None: one of its own.
    on_step
        Called as ``on_step(s, x_t, x0)`` with the state over ``target`` after every step, if the
        band is all rows.
    on_progress
        Called with the number of patches evaluated so far.
    trace
        Where to keep what the run passes through, if the band is all rows.
    again
        A run with the same arguments but other genes: only what these can reach is computed, and
        everything else is taken from there. The band must be all rows.
    """

    model: TeraMind
    target: PatchBox
    area: PatchBox
    steps: Sequence[Step]
    genes: GeneReader
    noise: NoiseReader
    settings: Settings = field(default_factory=Settings)
    active: np.ndarray | None = None
    batches: Batches | None = None
    on_step: Callable[[int, Tensor, Tensor], None] | None = None
    on_progress: Callable[[int], None] | None = None
    trace: Trace | None = None
    again: Again | None = None

    def __post_init__(self) -> None:
        self.p = self.model.config.patch
        self.windows = step_windows(self.target, self.area, len(self.steps))
        self.margin = self.windows[0].grown(1, self.area)
        self.evaluate = self.batches or Batches(self.settings.batch)
        self.done = [window.top for window in self.windows]
        self.edges: dict[int, Tensor] = {}
        self.features = PatchPool()
        self.encoded = PatchPool()
        self.evaluated = 0
        self.top = self.margin.top
        self.state = self._noise_rows(self.top, self.top)
        keep_x0 = (
            self.on_step is not None
            or self.trace is not None
            or self.again is not None
            or any(s.needs_previous_x0 for s in self.steps)
        )
        self.plain = self.settings.band is None or self.settings.band >= self.windows[0].rows
        if not self.plain and (self.trace is not None or self.again is not None):
            raise ValueError("a run in bands keeps no trace")
        self.reach = self._reach()
        self.x0 = self.state.clone() if keep_x0 else None

    @property
    def evaluations(self) -> int:
        """Collage patches that the whole run evaluates, over all steps."""
        return sum(int(self._computed(s, window).sum()) for s, window in enumerate(self.windows))

    @torch.inference_mode()
    def run(self) -> Tensor:
        """Sample the whole target at once: (stains, M, rows p, columns p) in [-1, 1]."""
        bands = list(self.bands())
        return torch.cat([rows for _, rows in bands], dim=2)

    @torch.inference_mode()
    def bands(self) -> Iterator[tuple[int, Tensor]]:
        """Yield (first patch row, state of finished rows of the target), top to bottom."""
        first, last = self.windows[0].top, self.windows[0].bottom
        band = self.settings.band or last - first
        head = first
        while self.done[-1] < self.target.bottom:
            head += band
            # Past the last row the later steps need no more rows below: let them all finish.
            finishing = head >= last
            self._extend(self.margin.bottom if finishing else head + 1)
            self._note()
            for s, window in enumerate(self.windows):
                end = window.bottom if finishing else min(window.bottom, head - s)
                if end > self.done[s]:
                    self._advance(s, self.done[s], end)
                    self.done[s] = end
                self._rejoin(s)
                self._note()
                if self.plain and self.on_step is not None and self.x0 is not None:
                    self.on_step(s, self._crop(self.state), self._crop(self.x0))
            yield from self._retire()

    def _mask(self, box: PatchBox) -> np.ndarray:
        """Tell which patches of a box inside the area are computed."""
        if self.active is None:
            return np.ones((box.rows, box.columns), bool)
        top, left = box.top - self.area.top, box.left - self.area.left
        return self.active[top : top + box.rows, left : left + box.columns]

    def _reach(self) -> list[np.ndarray] | None:
        """Patches of the area that an edit can have changed by each step; None: there was none."""
        if self.again is None:
            return None
        found = [self.again.reach]
        for _ in self.steps[1:]:
            found.append(grown(found[-1]))
        return found

    def _computed(self, s: int, box: PatchBox) -> np.ndarray:
        """Tell which patches of a box inside the area step s computes."""
        mask = self._mask(box)
        if self.reach is not None:
            top, left = box.top - self.area.top, box.left - self.area.left
            mask = mask & self.reach[s][top : top + box.rows, left : left + box.columns]
        return mask

    def _rejoin(self, s: int) -> None:
        """After step s, take what it did not compute from the run that was traced."""
        if self.again is None or self.x0 is None:
            return
        mask = self._computed(s, self.margin)
        window = self.windows[s]
        rows, columns = np.ogrid[
            self.margin.top : self.margin.bottom, self.margin.left : self.margin.right
        ]
        mask &= (rows >= window.top) & (rows < window.bottom)
        mask &= (columns >= window.left) & (columns < window.right)
        device = self.state.device
        new = torch.from_numpy(mask.repeat(self.p, 0).repeat(self.p, 1)).to(device)
        before = self.again.before
        self.state = torch.where(new, self.state, before.states[s + 1].to(device))
        self.x0 = torch.where(new, self.x0, before.x0[s + 1].to(device))

    def _note(self) -> None:
        if self.trace is not None and self.x0 is not None:
            self.trace.add(self.state, self.x0)

    def _crop(self, x: Tensor) -> Tensor:
        """Return the target's part of a buffer that holds all its rows."""
        p, t = self.p, self.target
        rows = slice((t.top - self.top) * p, (t.bottom - self.top) * p)
        columns = slice((t.left - self.margin.left) * p, (t.right - self.margin.left) * p)
        return x[:, :, rows, columns]

    def _noise_rows(self, top: int, bottom: int) -> Tensor:
        """Noise of whole buffer rows, float32 on the model's device; -1 where nothing is done."""
        box = PatchBox(top, bottom, self.margin.left, self.margin.right)
        mask = self._mask(box)
        c = self.model.config
        if mask.size and not mask.any():
            shape = (c.stains, c.image_slices, box.rows * self.p, box.columns * self.p)
            return torch.full(shape, OUTSIDE, device=self.model.device)
        noise = self.noise(box).to(self.model.device)
        if not mask.all():
            idle = torch.from_numpy(~mask).to(noise.device)
            pixels = idle.repeat_interleave(self.p, 0).repeat_interleave(self.p, 1)
            noise = noise.masked_fill(pixels, OUTSIDE)
        return noise

    def _extend(self, bottom: int) -> None:
        """Append fresh noise so that the buffers reach down to patch row ``bottom``."""
        here = self.top + self.state.shape[2] // self.p
        if bottom > here:
            fresh = self._noise_rows(here, bottom)
            self.state = torch.cat([self.state, fresh], dim=2)
            if self.x0 is not None:
                self.x0 = torch.cat([self.x0, fresh], dim=2)

    def _retire(self) -> Iterator[tuple[int, Tensor]]:
        """Drop rows that no step will read again; yield those of the target."""
        # A step not begun reads half of the row above its window; later `edges` has it.
        keep = min(row - (s not in self.edges) for s, row in enumerate(self.done))
        if keep <= self.top:
            return
        first = max(self.top, self.target.top)
        if keep > first:
            left = (self.target.left - self.margin.left) * self.p
            columns = slice(left, left + self.target.columns * self.p)
            rows = slice((first - self.top) * self.p, (keep - self.top) * self.p)
            yield first, self.state[:, :, rows, columns].clone()
        gone = (keep - self.top) * self.p
        self.state = self.state[:, :, gone:].clone()
        if self.x0 is not None:
            self.x0 = self.x0[:, :, gone:].clone()
        self.top = keep
        self.features.drop_rows_above(keep)

    def _padded(self, s: int, top: int, bottom: int, window: PatchBox) -> Tensor:
        """Return what the encoder reads: rows top..bottom at step s and half a patch around."""
        p, half = self.p, self.p // 2
        m = self.margin
        y0 = (top - self.top) * p - half
        y1 = (bottom - self.top) * p + half
        x0 = (window.left - m.left) * p - half
        x1 = (window.right - m.left) * p + half
        height, width = self.state.shape[2:]
        out = self.state.new_full((*self.state.shape[:2], y1 - y0, x1 - x0), OUTSIDE)
        ys, xs = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
        out[:, :, ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0] = self.state[
            :, :, ys, xs
        ]
        if s in self.edges:
            out[:, :, :half, xs.start - x0 : xs.stop - x0] = self.edges[s][:, :, :, xs]
        return out

    def _advance(self, s: int, top: int, bottom: int) -> None:
        """Take step s on patch rows top..bottom, in place.

        Collage patches are taken column by column; the encoder runs just ahead of them, and what
        it leaves of a shifted patch is kept until the last collage patch that needs it.
        """
        p, window = self.p, self.windows[s]
        x = self._padded(s, top, bottom, window)
        end = (bottom - self.top) * p
        # The next band of this step needs this row's values as they are now.
        self.edges[s] = self.state[:, :, end - p // 2 : end].clone()
        todo = self._todo(s, PatchBox(top, bottom, window.left, window.right))
        shifted = _shifted(todo)
        self._read_features(shifted)
        time = self.model.time_embedding(torch.tensor([self.steps[s].t], device=x.device))
        strip = _Strip(x, top, window.left, time)
        encoded, upcoming = self.encoded, 0
        encoded.clear()  # of the band or the step before
        for start in range(0, len(todo), self.settings.batch):
            batch = todo[start : start + self.settings.batch]
            encoded.drop_columns_before(batch[0][1])
            row, column = batch[-1]
            while upcoming < len(shifted) and _order(shifted[upcoming]) <= (column + 1, row + 1):
                ahead = shifted[upcoming : upcoming + self.settings.batch]
                encoded.put(ahead, self._encode(strip, ahead))
                upcoming += len(ahead)
            self._update(s, strip, batch)

    def _todo(self, s: int, box: PatchBox) -> list[Place]:
        """Collage patches of a box that step s computes, column by column."""
        columns, rows = np.nonzero(self._computed(s, box).T)
        return list(zip((box.top + rows).tolist(), (box.left + columns).tolist(), strict=True))

    def _read_features(self, shifted: Sequence[Place]) -> None:
        """Compute gene features of the shifted patches that have none yet, row by row."""
        b = self.model.config.bins
        missing: dict[int, list[int]] = {}
        for row, column in shifted:
            if (row, column) not in self.features:
                missing.setdefault(row, []).append(column)
        for row, columns in missing.items():
            box = PatchBox(row, row + 1, min(columns), max(columns) + 1)
            counts = self.genes(box).to(self.model.device)
            patches = cut(counts.permute(2, 3, 0, 1)[None], b).permute(0, 3, 4, 1, 2)
            index = torch.tensor([c - box.left for c in columns], device=patches.device)
            features = self.evaluate(self.model.gene_features, [patches[index]])
            self.features.put([(row, column) for column in columns], features)

    def _encode(self, strip: _Strip, places: Sequence[Place]) -> list[Tensor]:
        """Run encoder and middle on shifted patches."""

        def encode(x: Tensor, *levels: Tensor) -> list[Tensor]:
            out = self.model.encode(x, levels, strip.time)
            return [out.middle, *out.skips]

        images = strip.cut(places, self.p)
        return self.evaluate(encode, [images, *self.features.take(places)])

    def _update(self, s: int, strip: _Strip, places: Sequence[Place]) -> None:
        """Run the decoder on collage patches, take step s there, and write the new state."""
        p, half, step = self.p, self.p // 2, self.steps[s]
        skips = len(self.encoded.parts) - 1

        def decode(middle: Tensor, *rest: Tensor) -> list[Tensor]:
            parts = Encoded(middle, list(rest[:skips]), list(rest[skips:]))
            return [self.model.decode(parts, strip.time)]

        (out,) = self.evaluate(
            decode, [*self.encoded.collage(places), *self.features.collage(places)]
        )
        x = strip.cut(places, p, half)
        t = torch.tensor(step.t, device=x.device)
        at = [((r - self.top) * p, (c - self.margin.left) * p) for r, c in places]
        before = None
        if step.needs_previous_x0 and self.x0 is not None:
            before = torch.stack([self.x0[:, :, y : y + p, x : x + p] for y, x in at])
            before = before.permute(0, 3, 4, 2, 1)
        updated, x0 = take_step(x, self.model.to_noise(out, x, t), step, before)
        for k, (top, left) in enumerate(at):
            ys, xs = slice(top, top + p), slice(left, left + p)
            self.state[:, :, ys, xs] = updated[k].permute(3, 2, 0, 1)
            if self.x0 is not None:
                self.x0[:, :, ys, xs] = x0[k].permute(3, 2, 0, 1)
        self.evaluated += len(places)
        if self.on_progress is not None:
            self.on_progress(self.evaluated)


@dataclass(frozen=True)
class _Strip:
    """Rows of a step as they were before it, half a patch wider on every side.

    Attributes
    ----------
    x
        (stains, M, rows p + p, columns p + p).
    top, left
        Shifted patch at the strip's corner.
    time
        Embedding of the step's time.
    """

    x: Tensor
    top: int
    left: int
    time: Tensor

    def cut(self, places: Sequence[Place], p: int, offset: int = 0) -> Tensor:
        """Cut out patches (B, p, p, M, stains): shifted ones, or collage ones at half a patch."""
        corners = [
            ((row - self.top) * p + offset, (column - self.left) * p + offset)
            for row, column in places
        ]
        cuts = torch.stack([self.x[:, :, y : y + p, x : x + p] for y, x in corners])
        return cuts.permute(0, 3, 4, 2, 1).contiguous()


def _order(place: Place) -> Place:
    """Sort key: column by column."""
    return place[1], place[0]


def _shifted(collages: Sequence[Place]) -> list[Place]:
    """Shifted patches that some collage patches are made of, column by column."""
    places = {(r + dr, c + dc) for r, c in collages for dr in (0, 1) for dc in (0, 1)}
    return sorted(places, key=_order)

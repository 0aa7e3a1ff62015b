"""One pass over a field: bands of patch rows, every step one row behind the step before.

The engine knows arrays only. The state lives in one rolling buffer of patch rows; because a step
needs only half a patch around what it computes, the lower half of the last old row of every step is
all that must be kept besides (DESIGN 4.2). With a band of all rows this is plain stepping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_teramind.diffusion.samplers import Step, ddim_step
from napari_teramind.model.collage import collage, cut, join
from napari_teramind.model.network import Encoded, TeraMind
from napari_teramind.simulate.region import PatchBox, step_windows

OUTSIDE = -1.0
"""Image state beyond the generated area."""

GeneReader = Callable[[PatchBox], Tensor]
"""Counts (genes, S, rows p/16, columns p/16) of a box of *shifted* patches: row r of that grid
starts at pixel r p - p/2."""

NoiseReader = Callable[[PatchBox], Tensor]
"""Noise (stains, M, rows p, columns p) of a box of patches."""


@dataclass(frozen=True)
class Settings:
    """How the field is cut; none of it changes the result beyond rounding.

    Attributes
    ----------
    band
        Patch rows advanced at a time; None for all.
    block
        Patch columns encoded at a time.
    batch
        Patches in one evaluation of encoder or decoder; the last batch is padded to it, so that
        every evaluation has one shape.
    """

    band: int | None = None
    block: int = 4
    batch: int = 16


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
    on_step
        Called as ``on_step(s, x_t, x0)`` with the state over ``target`` after every step, if the
        band is all rows.
    on_progress
        Called with the number of patches evaluated so far.
    """

    model: TeraMind
    target: PatchBox
    area: PatchBox
    steps: Sequence[Step]
    genes: GeneReader
    noise: NoiseReader
    settings: Settings = field(default_factory=Settings)
    on_step: Callable[[int, Tensor, Tensor], None] | None = None
    on_progress: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        self.p = self.model.config.patch
        self.windows = step_windows(self.target, self.area, len(self.steps))
        self.margin = self.windows[0].grown(1, self.area)
        self.done = [window.top for window in self.windows]
        self.edges: dict[int, Tensor] = {}
        self.features: dict[int, list[Tensor]] = {}
        self.top = self.margin.top
        self.state = self._noise_rows(self.top, self.top)
        self.x0: Tensor | None = None
        self.evaluated = 0

    @property
    def evaluations(self) -> int:
        """Collage patches that the whole run evaluates, over all steps."""
        return sum(window.area for window in self.windows)

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
        plain = band >= last - first
        head = first
        while self.done[-1] < self.target.bottom:
            head += band
            # Past the last row the later steps need no more rows below: let them all finish.
            finishing = head >= last
            self._extend(self.margin.bottom if finishing else head + 1)
            for s, window in enumerate(self.windows):
                end = window.bottom if finishing else min(window.bottom, head - s)
                if end > self.done[s]:
                    self._advance(s, self.done[s], end)
                    self.done[s] = end
                if plain and self.on_step is not None:
                    x0 = self.state if self.x0 is None else self.x0
                    self.on_step(s, self._crop(self.state), self._crop(x0))
            yield from self._retire()

    def _crop(self, x: Tensor) -> Tensor:
        """Return the target's part of a buffer that holds all its rows."""
        p, t = self.p, self.target
        rows = slice((t.top - self.top) * p, (t.bottom - self.top) * p)
        columns = slice((t.left - self.margin.left) * p, (t.right - self.margin.left) * p)
        return x[:, :, rows, columns]

    def _noise_rows(self, top: int, bottom: int) -> Tensor:
        """Noise of whole buffer rows, float32 on the model's device."""
        m = self.margin
        return self.noise(PatchBox(top, bottom, m.left, m.right)).to(self.model.device)

    def _extend(self, bottom: int) -> None:
        """Append fresh noise so that the buffer reaches down to patch row ``bottom``."""
        here = self.top + self.state.shape[2] // self.p
        if bottom > here:
            self.state = torch.cat([self.state, self._noise_rows(here, bottom)], dim=2)

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
        self.state = self.state[:, :, (keep - self.top) * self.p :].clone()
        self.top = keep
        for row in [r for r in self.features if r < keep]:
            del self.features[row]

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
        """Take step s on patch rows top..bottom, in place."""
        p, window, step = self.p, self.windows[s], self.steps[s]
        x = self._padded(s, top, bottom, window)
        half = p // 2
        end = (bottom - self.top) * p
        # The next band of this step needs this row's values as they are now.
        self.edges[s] = self.state[:, :, end - half : end].clone()
        inner = x[:, :, half:-half, half:-half]
        noise = self._predict(x, top, bottom, window, step)
        updated, x0 = ddim_step(inner, noise, step)
        rows = slice((top - self.top) * p, end)
        left = (window.left - self.margin.left) * p
        columns = slice(left, left + window.columns * p)
        self.state[:, :, rows, columns] = updated
        if self.on_step is not None:
            if self.x0 is None or self.x0.shape != self.state.shape:
                self.x0 = self.state.clone()
            self.x0[:, :, rows, columns] = x0

    def _predict(self, x: Tensor, top: int, bottom: int, window: PatchBox, step: Step) -> Tensor:
        """Noise over rows top..bottom of a window, block of columns by block.

        The encoder's last column of a block is kept for the next, so that no patch of a band is
        encoded twice.
        """
        p = self.p
        rows = bottom - top
        time = self.model.time_embedding(torch.tensor([step.t], device=x.device))
        t = torch.tensor(step.t, device=x.device)
        images = x.permute(2, 3, 1, 0)[None]
        cached = self._features(top, bottom, window)
        last: Encoded | None = None
        outputs = []
        for left in range(window.left, window.right, self.settings.block):
            right = min(left + self.settings.block, window.right)
            start = left if last is None else left + 1
            strip = images[:, :, (start - window.left) * p : (right + 1 - window.left) * p]
            part = slice(start - window.left, right + 1 - window.left)
            features = [torch.cat([f[part] for f in level]) for level in zip(*cached, strict=True)]
            encoded = self._encode(cut(strip, p), features, time)
            width = right + 1 - start
            if last is not None:
                encoded = _beside(last, encoded, rows + 1, width)
                width += 1
            last = encoded.map(lambda part, w=width: _last_column(part, w))
            patches = encoded.map(lambda part, w=width: collage(part, rows + 1, w))
            out = join(self._decode(patches, time), rows, width - 1)[0].permute(3, 2, 0, 1)
            columns = slice((left - window.left) * p, (right - window.left) * p)
            half = p // 2
            inner = x[:, :, half:-half, half:-half][..., columns]
            outputs.append(self.model.to_noise(out, inner, t))
            self.evaluated += rows * (right - left)
            if self.on_progress is not None:
                self.on_progress(self.evaluated)
        return torch.cat(outputs, dim=3)

    def _features(self, top: int, bottom: int, window: PatchBox) -> list[list[Tensor]]:
        """Gene features of shifted rows top..bottom (both included), for a window's columns."""
        widest = self.windows[0]
        missing = [row for row in range(top, bottom + 1) if row not in self.features]
        for row in missing:
            box = PatchBox(row, row + 1, widest.left, widest.right + 1)
            counts = self.genes(box).to(self.model.device)
            b = self.model.config.bins
            patches = cut(counts.permute(2, 3, 0, 1)[None], b).permute(0, 3, 4, 1, 2)
            self.features[row] = self._batched(self.model.gene_features, [patches])
        columns = slice(window.left - widest.left, window.right + 1 - widest.left)
        return [[f[columns] for f in self.features[row]] for row in range(top, bottom + 1)]

    def _encode(self, patches: Tensor, features: list[Tensor], time: Tensor) -> Encoded:
        def encode(x: Tensor, *levels: Tensor) -> list[Tensor]:
            out = self.model.encode(x, levels, time)
            return [out.middle, *out.skips]

        middle, *skips = self._batched(encode, [patches, *features])
        return Encoded(middle, skips, features)

    def _decode(self, encoded: Encoded, time: Tensor) -> Tensor:
        count = len(encoded.skips)

        def decode(middle: Tensor, *rest: Tensor) -> list[Tensor]:
            parts = Encoded(middle, list(rest[:count]), list(rest[count:]))
            return [self.model.decode(parts, time)]

        return self._batched(decode, [encoded.middle, *encoded.skips, *encoded.features])[0]

    def _batched(
        self, function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Call a function of batches in micro-batches of one shape, the last one padded."""
        batch, count = self.settings.batch, inputs[0].shape[0]
        outputs = []
        for start in range(0, count, batch):
            parts = [value[start : start + batch] for value in inputs]
            short = batch - parts[0].shape[0]
            if short:
                parts = [torch.cat([v, v.new_zeros(short, *v.shape[1:])]) for v in parts]
            outputs.append([v[: batch - short] for v in function(*parts)])
        return [torch.cat(level) for level in zip(*outputs, strict=True)]


def _beside(left: Encoded, right: Encoded, rows: int, columns: int) -> Encoded:
    """Put one encoded column to the left of a block of encoded columns."""

    def beside(a: Tensor, b: Tensor) -> Tensor:
        grid = torch.cat(
            [a.view(rows, 1, *a.shape[1:]), b.view(rows, columns, *b.shape[1:])], dim=1
        )
        return grid.flatten(0, 1)

    return Encoded(
        beside(left.middle, right.middle),
        [beside(a, b) for a, b in zip(left.skips, right.skips, strict=True)],
        [beside(a, b) for a, b in zip(left.features, right.features, strict=True)],
    )


def _last_column(part: Tensor, columns: int) -> Tensor:
    """Return the last column of a row-major grid of patches."""
    return part.view(-1, columns, *part.shape[1:])[:, -1]

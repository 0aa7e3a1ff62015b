"""Lazily read views of stored images, in the form in which napari wants its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.plugin.remote import read

if TYPE_CHECKING:
    import zarr

Span = int | tuple[int, int]


class Recode:
    """Numbers large ids from 1, in ascending order; 0 stays 0.

    napari draws labels of up to 16 bits as they are, and refuses larger ids with colours of their
    own unless numba is installed. Atlas ids go up to 29 bits.

    Parameters
    ----------
    ids
        The ids that occur; others get the number after the last one.
    """

    dtype = np.dtype(np.uint16)

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = np.unique(np.asarray(ids, dtype=np.int64))
        if self.ids.size >= np.iinfo(self.dtype).max:
            raise ValueError(f"{self.ids.size} labels are more than 16 bits can tell apart")

    @property
    def unknown(self) -> int:
        """The number of ids that are not listed."""
        return self.ids.size + 1

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Return the numbers of the ids in an array."""
        at = np.searchsorted(self.ids, block).clip(max=max(0, self.ids.size - 1))
        listed = self.ids[at] == block if self.ids.size else np.zeros(block.shape, bool)
        return np.where(listed, at + 1, np.where(block == 0, 0, self.unknown)).astype(self.dtype)


class LazyView:
    """One channel of a stored array; indexing narrows the view, `numpy.asarray` reads it.

    napari cuts a multiscale layer in two steps, first the displayed axes and then the slice, and a
    zarr array would read every slice of the brain in the first. Dask would be lazy too, but its
    graph of a brain at full resolution has millions of tasks, which takes minutes to build.

    Parameters
    ----------
    array
        What to look at; any zarr or NumPy array.
    spans
        For every axis of `array` either an index (the axis vanishes) or a half-open range, which
        may reach beyond the end of the array: what lies there reads as zero.
    repeat
        Pixels of this view, along each of the last two axes, per pixel of `array`; spans count
        pixels of this view.
    recode
        Applied to what is read.
    """

    def __init__(
        self,
        array: zarr.Array | np.ndarray,
        spans: Sequence[Span],
        repeat: int = 1,
        recode: Recode | None = None,
    ) -> None:
        if len(spans) != array.ndim:
            raise ValueError(f"{len(spans)} spans for an array of {array.ndim} axes")
        self._array = array
        self._spans = tuple(spans)
        self._recode = recode
        self._repeats = (1,) * (array.ndim - 2) + (repeat, repeat)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the values."""
        return np.dtype(self._array.dtype) if self._recode is None else self._recode.dtype

    @property
    def _kept(self) -> list[tuple[int, tuple[int, int]]]:
        return [(axis, s) for axis, s in enumerate(self._spans) if isinstance(s, tuple)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis that is left."""
        return tuple(stop - start for _, (start, stop) in self._kept)

    @property
    def ndim(self) -> int:
        """Number of axes that are left."""
        return len(self._kept)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Chunk lengths, by which napari rounds what it asks for; None if it should not.

        A chunk of repeated pixels is a large piece to draw and costs no reading.
        """
        chunks = getattr(self._array, "chunks", None)
        if chunks is None or self._repeats[-1] > 1:
            return None
        return tuple(chunks[axis] for axis, _ in self._kept)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> LazyView:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        if len(keys) > self.ndim:
            raise IndexError(f"{len(keys)} indices for a view of {self.ndim} axes")
        spans = list(self._spans)
        for (axis, span), k in zip(self._kept, keys, strict=False):
            spans[axis] = _narrow(span, k)
        return LazyView(self._array, spans, self._repeats[-1], self._recode)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a lazily read view can only be copied into an array")
        out = np.zeros(self.shape, self.dtype if dtype is None else dtype)
        source: list[int | slice] = []
        for span, length, n in zip(self._spans, self._array.shape, self._repeats, strict=True):
            start, stop = (span, span + 1) if isinstance(span, int) else span
            start, stop = start // n, min(-(-stop // n), length)
            if start >= stop:
                return out
            source.append(start if isinstance(span, int) else slice(start, stop))
        block = read(self._array, tuple(source))
        if self._recode is not None:
            block = self._recode(block)
        for axis, (original, span) in enumerate(self._kept):
            n = self._repeats[original]
            if n > 1:
                offset = span[0] % n
                block = np.repeat(block, n, axis)
                block = block[(slice(None),) * axis + (slice(offset, offset + out.shape[axis]),)]
        out[tuple(slice(0, side) for side in block.shape)] = block
        return out

    def __repr__(self) -> str:
        return f"<LazyView {self.shape} {self.dtype} of {self._array!r}>"


def _narrow(span: tuple[int, int], key: Any) -> Span:
    start, stop = span
    length = stop - start
    if isinstance(key, slice):
        first, last, step = key.indices(length)
        if step != 1:
            raise IndexError("a lazily read view is cut without steps")
        return (start + first, start + max(first, last))
    index = int(key)
    if not -length <= index < length:
        raise IndexError(f"index {index} is outside an axis of length {length}")
    return start + index % length


def channel_pyramid(
    levels: Sequence[zarr.Array],
    channel: int | None,
    smallest: int = 200,
    finest_repeat: int = 1,
    recode: Recode | None = None,
) -> list[LazyView]:
    """Return one channel of a pyramid, level by level, such that napari puts every level right.

    napari takes the ratio of two levels' shapes for their ratio of scales. Where the full size is
    no multiple of the coarsest level's factor, shapes were rounded up and that ratio is off by a
    fraction of a coarse pixel, growing towards the far edge; so all levels are extended with zeros
    to the next such multiple. Levels of less than `smallest` pixels a side are left out: napari
    shows the coarsest level in 3D.

    Parameters
    ----------
    levels
        (c, z, y, x) or (z, y, x) arrays, finest first, each half the one before in y and x.
    channel
        Index along c; None for (z, y, x).
    smallest
        Least length, in pixels, of the longer side of the coarsest level.
    finest_repeat
        Begin with levels that show a pixel of `levels[0]` as so many a side, half as many, and so
        on, so that contours, which are as wide as pixels, stay thin when the view is close.
    recode
        Applied to what is read.
    """
    used = [a for k, a in enumerate(levels) if k == 0 or max(a.shape[-2:]) >= smallest]
    coarsest = len(used) - 1
    extent = [-(-n // 2**coarsest) << coarsest for n in used[0].shape[-2:]]
    repeats = [finest_repeat]
    while repeats[-1] % 2 == 0:
        repeats.append(repeats[-1] // 2)
    views = [(used[0], n, 1) for n in repeats if n > 1]
    views += [(a, 1, 2**k) for k, a in enumerate(used)]
    lead: list[Span] = [] if channel is None else [channel]
    return [
        LazyView(
            a,
            [*lead, (0, a.shape[-3]), *((0, n * repeat // half) for n in extent)],
            repeat,
            recode,
        )
        for a, repeat, half in views
    ]

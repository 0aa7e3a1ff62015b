"""Lazy views read what they should, when they should, and stand right at every level."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_teramind.plugin.lazy import LazyView, channel_pyramid


class Counting:
    """An array that counts how many values were read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.read = array, 0
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key):
        block = self._array[key]
        self.read += block.size
        return block


@st.composite
def cuts(draw: st.DrawFn, length: int) -> slice | int:
    if draw(st.booleans()):
        return draw(st.integers(-length, length - 1))
    start = draw(st.integers(0, length))
    return slice(start, draw(st.integers(start, length)))


@given(st.data())
def test_indexing_in_two_steps_equals_numpy_on_the_padded_repeated_array(data: st.DataObject):
    array = np.arange(2 * 3 * 5 * 7, dtype=np.uint16).reshape(2, 3, 5, 7) + 1
    repeat = data.draw(st.sampled_from([1, 2, 4]))
    pad = data.draw(st.integers(0, 5))
    whole = np.repeat(np.repeat(array[1], repeat, -2), repeat, -1)
    whole = np.pad(whole, ((0, 0), (0, pad), (0, pad)))
    view = LazyView(array, [1, *((0, n) for n in whole.shape)], repeat)
    assert view.shape == whole.shape
    ranges = tuple(
        slice(*sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))))
        for n in whole.shape
    )
    first = view[ranges]
    np.testing.assert_array_equal(np.asarray(first), whole[ranges])
    if all(first.shape):
        key = tuple(data.draw(cuts(n)) for n in first.shape)
        np.testing.assert_array_equal(np.asarray(first[key]), whole[ranges][key])


def test_nothing_is_read_before_asarray_and_then_only_what_is_asked_for():
    source = Counting(np.ones((4, 10, 20, 30), np.uint8))
    view = LazyView(source, [2, (0, 10), (0, 20), (0, 30)])
    tile = view[:, 5:10, 6:12]
    assert source.read == 0
    assert np.asarray(tile[3]).shape == (5, 6)
    assert source.read == 30


def test_a_view_refuses_what_it_cannot_do():
    view = LazyView(np.zeros((2, 3, 4)), [0, (0, 3), (0, 4)])
    with pytest.raises(IndexError, match="without steps"):
        view[::2]
    with pytest.raises(IndexError, match="outside"):
        view[3]
    with pytest.raises(IndexError, match="3 indices"):
        view[0, 0, 0]
    with pytest.raises(ValueError, match="copied"):
        np.asarray(view, copy=False)
    assert np.asarray(view[..., 1]).shape == (3,)


@pytest.mark.parametrize("side", [1000, 1001, 1024, 4097])
def test_levels_of_a_pyramid_stand_in_exact_ratios_whatever_the_size(side: int):
    sides = [side]
    while sides[-1] > 256:
        sides.append(-(-sides[-1] // 2))
    levels = [zarr.zeros((2, 1, n, n), chunks=(1, 1, 64, 64), dtype="uint8") for n in sides]
    pyramid = channel_pyramid(levels, 1)
    for k, view in enumerate(pyramid):
        assert pyramid[0].shape[-1] == view.shape[-1] * 2**k
        assert 0 <= view.shape[-1] - sides[k] <= 2 ** (len(pyramid) - 1 - k)
    assert pyramid[0].chunks == (1, 64, 64)


def test_small_levels_are_left_out_and_fine_ones_put_before():
    levels = [np.zeros((3, n, n), np.uint32) for n in (400, 200, 100, 50)]
    pyramid = channel_pyramid(levels, None, finest_repeat=16)
    assert [view.shape[-1] for view in pyramid] == [6400, 3200, 1600, 800, 400, 200]
    assert pyramid[0].chunks is None

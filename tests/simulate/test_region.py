"""Patch geometry."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_teramind.errors import UserError
from napari_teramind.simulate.region import (
    PatchBox,
    generated_area,
    slice_groups,
    step_windows,
)

edges = st.tuples(st.integers(0, 2000), st.integers(1, 900))


@given(ys=edges, xs=edges, patch=st.sampled_from([32, 64, 128]))
def test_a_cover_is_the_smallest(ys: tuple[int, int], xs: tuple[int, int], patch: int) -> None:
    roi = (ys[0], ys[0] + ys[1], xs[0], xs[0] + xs[1])
    y0, y1, x0, x1 = PatchBox.covering(roi, patch).pixels(patch)
    assert y0 <= roi[0] < y0 + patch
    assert y1 - patch < roi[1] <= y1
    assert x0 <= roi[2] < x0 + patch
    assert x1 - patch < roi[3] <= x1


@given(steps=st.integers(1, 20), top=st.integers(0, 30), left=st.integers(0, 30))
def test_windows_shrink_by_one_patch_a_step(steps: int, top: int, left: int) -> None:
    area = PatchBox(0, 40, 0, 40)
    target = PatchBox(top, top + 3, left, left + 5)
    windows = step_windows(target, area, steps)
    assert windows[-1] == target
    for wide, narrow in pairwise(windows):
        assert wide == narrow.grown(1, area)


def test_a_halo_ends_the_area() -> None:
    brain, target = PatchBox(0, 100, 0, 100), PatchBox(50, 52, 50, 52)
    assert generated_area(target, brain, "exact") == brain
    assert generated_area(target, brain, 2) == PatchBox(48, 54, 48, 54)
    with pytest.raises(UserError, match="halo"):
        generated_area(target, brain, -1)


@given(first=st.integers(0, 40), count=st.integers(1, 20), window=st.sampled_from([1, 2, 4, 8]))
def test_groups_cover_the_slices(first: int, count: int, window: int) -> None:
    groups = slice_groups((first, first + count), window)
    assert all(group % window == 0 for group in groups)
    assert groups[0] <= first < groups[0] + window
    assert groups[-1] < first + count <= groups[-1] + window

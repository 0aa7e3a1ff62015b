"""Where structures lie, against looking for them one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_teramind.atlas.places import StructurePlaces

IDS = (0, 3, 7, 614454277)


@given(
    labels=arrays(np.uint32, (3, 6, 7), elements=st.sampled_from(IDS)),
    wanted=st.sets(st.sampled_from(IDS[1:]), min_size=1),
)
def test_places_are_where_the_labels_are(labels: np.ndarray, wanted: set[int]) -> None:
    found = StructurePlaces.find(3, lambda z: labels[z])
    assert found.ids == set(np.unique(labels).tolist()) - {0}
    there = np.isin(labels, list(wanted))
    place = found.of(wanted)
    if not there.any():
        assert place is None
        return
    assert place is not None
    slices, rows, columns = np.nonzero(there)
    assert place.areas == {z: int(there[z].sum()) for z in np.unique(slices).tolist()}
    assert place.box == (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert place.slices == (slices.min(), slices.max() + 1)
    assert there[place.largest].sum() == max(place.areas.values())
    for z, (y0, y1, x0, x1) in place.boxes.items():
        rows, columns = np.nonzero(there[z])
        assert (y0, y1, x0, x1) == (
            rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        )  # fmt: skip


def test_a_stack_without_structures_has_no_places() -> None:
    found = StructurePlaces.find(2, lambda z: np.zeros((4, 4), np.uint32))
    assert found.ids == frozenset()
    assert found.of([1, 2]) is None

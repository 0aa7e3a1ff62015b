"""Edits of gene expression: what they change, and that no more is computed than they can reach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_teramind as tm
from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind
from napari_teramind.simulate import Request, lay_out
from napari_teramind.simulate.edits import Edit, Edits, difference, parse_edit
from napari_teramind.simulate.region import PatchBox, grown
from napari_teramind.simulate.roi import GroupRun
from napari_teramind.simulate.trace import Traces

STEPS = 3
WHOLE = (0, 128, 0, 256)


@pytest.fixture(scope="module")
def gene(network: TeraMind) -> str:
    assert network.gene_names is not None
    return network.gene_names[1]


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("Th=0", Edit("Th")),
        (" Th * 2.5 ", Edit("Th", "multiply", 2.5)),
        ("Th=0@VTA", Edit("Th", structure="VTA")),
        ("Th=3@0,16,32,64", Edit("Th", "set", 3, (0, 16, 32, 64))),
    ],
)
def test_edits_are_read_as_people_write_them(text, edit):
    assert parse_edit(text) == edit
    assert parse_edit(str(edit)) == edit
    assert Edit.from_dict(edit.to_dict()) == edit


@pytest.mark.parametrize("text", ["Th", "Th=", "=3", "Th=x", "Th=-1", "Th*inf", "Th=0@1,2,3"])
def test_what_is_no_edit_is_told(text):
    with pytest.raises(UserError):
        parse_edit(text)


def test_counts_change_where_asked_and_nowhere_else(small_brain: BrainStore):
    genes = small_brain.gene_names[:3]
    box, slices = (-2, 10, -1, 18), (-1, 5)
    before = small_brain.read_genes(box, slices, genes)
    edits = (Edit(genes[1], "set", 9, (16, 48, 0, 40)), Edit(genes[2], "multiply", 0.5))
    after = before.copy()
    Edits(small_brain, edits, genes).apply(after, box, slices)
    np.testing.assert_array_equal(after[0], before[0])
    # Bins 1 and 2 of rows, 0 and 1 of columns: the centre of column 2 lies at pixel 40.
    inside = np.zeros(before.shape[1:], bool)
    inside[1:5, 2 + 1 : 2 + 3, 1 : 1 + 2] = True
    assert (after[1][inside] == 9).all()
    np.testing.assert_array_equal(after[1][~inside], before[1][~inside])
    np.testing.assert_array_equal(after[2], before[2] / 2)


def test_a_structure_is_edited_with_its_parts(make_tiny_brain, tmp_path):
    brain = make_tiny_brain(tmp_path / "b.zarr", 128, 256)
    if brain.structure_table is None:
        pytest.fail("the tiny brain has structures")
    acronym = str(brain.structure_table["acronym"].iloc[0])
    gene = brain.gene_names[0]
    counts = np.ones((1, 2, 8, 16), np.float32)
    Edits(brain, [Edit(gene, structure=acronym)], [gene]).apply(counts, (0, 8, 0, 16), (0, 2))
    from napari_teramind.brain.bins import bin_labels, structure_table

    ids = list(structure_table(brain).within(acronym))
    expected = ~np.isin(bin_labels(brain)((0, 8, 0, 16), range(2)), ids)
    np.testing.assert_array_equal(counts[0] > 0, expected)
    assert 0 < expected.mean() < 1


def test_edits_that_cannot_be_are_told(small_brain: BrainStore, network: TeraMind, gene: str):
    for edit, words in (
        (Edit("Xyz"), "does not look at Xyz"),
        (Edit(gene, structure="NOPE"), "NOPE"),
        (Edit(gene, roi=(0, 4, 0, 4)), "changes nothing"),
        (Edit(gene, roi=(0, 4000, 0, 4)), "leaves the brain|outside|inside"),
    ):
        with pytest.raises(UserError, match=words):
            tm.simulate(small_brain, network, WHOLE, (0, 2), steps=1, edits=[edit])


AROUND = (32, 96, 64, 192)


def run(brain, network, edits, traces, evaluated, halo="exact", roi=AROUND, sampler="ddim"):
    evaluated[:] = [0, 0]
    request = Request(roi, (0, 4), seed=3, steps=STEPS, halo=halo, edits=edits, sampler=sampler)
    layout = lay_out(brain, network.config, request)

    def report(_: str, done: int, total: int) -> None:
        evaluated[:] = [done, total]

    group = GroupRun(brain, network, layout, report=report, traces=traces)
    out = []
    for first in layout.groups:
        out += [rows.numpy() for _, rows in group.rows(first, layout.target)]
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
def test_an_edit_costs_what_it_can_reach(small_brain, network, gene, sampler):
    edits = (Edit(gene, "set", 40, (32, 64, 96, 128)),)
    traces, evaluated = Traces(), [0, 0]
    plain = run(small_brain, network, (), traces, evaluated, sampler=sampler)
    everything = list(evaluated)
    assert everything[0] == everything[1]
    again = run(small_brain, network, edits, traces, evaluated, sampler=sampler)
    # A 32-px square on the grid of patches: its four shifted patches are seen by 3 x 3 patches,
    # which grow by one a step, as far as each step's window and the brain reach.
    reach = np.zeros((4, 8), bool)
    reach[0:3, 2:5] = True
    expected = 0
    for s in range(STEPS):
        box = PatchBox(1, 3, 2, 6).grown(STEPS - 1 - s, PatchBox(0, 4, 0, 8))
        expected += int(reach[box.top : box.bottom, box.left : box.right].sum())
        reach = grown(reach)
    assert evaluated == [2 * expected] * 2
    assert evaluated[0] < everything[0]
    full = run(small_brain, network, edits, None, evaluated, sampler=sampler)
    np.testing.assert_allclose(again, full, atol=1e-3)
    assert np.abs(full - plain).max() > 0.01
    # And back: the knocked-in gene is taken away, starting from the edited run.
    back = run(small_brain, network, (), traces, evaluated, sampler=sampler)
    assert evaluated == [2 * expected] * 2
    np.testing.assert_allclose(back, plain, atol=1e-3)


@settings(max_examples=8)
@given(
    y0=st.integers(0, 6), x0=st.integers(0, 14), height=st.integers(1, 3), width=st.integers(1, 5),
    halo=st.sampled_from(["exact", 0, 1]), how=st.sampled_from(["set", "multiply"]),
)  # fmt: skip
def test_any_edit_equals_a_full_run(small_brain, network, y0, x0, height, width, halo, how):
    roi = (16 * y0, min(128, 16 * (y0 + height)), 16 * x0, min(256, 16 * (x0 + width)))
    edits = (Edit(network.gene_names[0], how, 7, roi),)
    traces = Traces()
    run(small_brain, network, (), traces, [0, 0], halo)
    again = run(small_brain, network, edits, traces, [0, 0], halo)
    full = run(small_brain, network, edits, None, [0, 0], halo)
    np.testing.assert_allclose(again, full, atol=1e-3)


def test_what_was_traced_of_another_run_is_not_used(small_brain, network, gene):
    traces, evaluated = Traces(), [0, 0]
    run(small_brain, network, (), traces, evaluated)
    run(small_brain, network, (), traces, evaluated, roi=(0, 64, 0, 64))
    everything = evaluated[0]
    run(small_brain, network, (), traces, evaluated, roi=(0, 64, 0, 64))
    assert evaluated[1] == 0 < everything
    again = Traces(most_bytes=1000)
    run(small_brain, network, (), again, evaluated)
    first = evaluated[0]
    run(small_brain, network, (), again, evaluated)
    assert evaluated[0] == first > 0  # nothing was kept: there was no room


def test_lists_of_edits_differ_after_what_is_alike():
    a, b, c = Edit("A"), Edit("B"), Edit("C")
    assert difference((a, b), (a, b)) == ()
    assert difference((), (a,)) == (a,)
    assert set(difference((a, b), (a, c))) == {b, c}


def test_the_tiny_network_sees_the_edit(
    small_brain: BrainStore, network: TeraMind, gene: str, whole: np.ndarray
):
    edited = tm.simulate(
        small_brain, network, WHOLE, (0, 4), seed=3, steps=2,
        edits=[Edit(gene, "multiply", 20, (0, 32, 0, 32))],
    )  # fmt: skip
    differs = (edited != whole).any(axis=(0, 1))
    assert differs[:32, :32].any()
    # Two steps reach two patches of 32 px further than the bins' own patches.
    assert not differs[:, 32 * 5 :].any()

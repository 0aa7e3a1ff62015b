"""The store through its public surface: written, opened again, read at any place."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_teramind.brain import BrainStore, BrainWriter, Channel, open_brain
from napari_teramind.brain.layout import runs
from napari_teramind.errors import UserError


def test_reads_back_what_was_written(tiny_brain, tiny_arrays):
    stains, genes, structures = tiny_arrays
    brain = open_brain(tiny_brain.path)
    z, y, x = brain.shape
    assert np.array_equal(brain.read_stains((0, y, 0, x), (0, z)), stains)
    b, c = genes.shape[2:]
    assert np.array_equal(brain.read_genes((0, b, 0, c), (0, z)), genes)
    assert np.array_equal(brain.structures.levels[0][:], structures)
    assert brain.stain_names == ("DAPI", "PolyT")
    assert len(brain.gene_names) == genes.shape[0]
    assert set(brain.structure_table["acronym"]) == {"root", "CP", "TH"}


def test_read_genes_picks_genes_in_the_order_asked(tiny_brain, tiny_arrays):
    _, genes, _ = tiny_arrays
    names = tiny_brain.gene_names
    got = tiny_brain.read_genes((0, 4, 0, 4), (1, 3), [names[5], names[2], names[5]])
    assert np.array_equal(got, genes[[5, 2, 5], 1:3, :4, :4])


@settings(max_examples=100)
@given(
    st.sets(st.integers(0, 300), max_size=60).map(sorted),
    st.one_of(st.none(), st.integers(1, 40)),
    st.integers(0, 6),
)
def test_runs_hold_every_place_once_and_stay_close_together(places, longest, gap):
    found = runs(places, longest, gap)
    assert [i for first, end in found for i in range(first, end)] == list(range(len(places)))
    for first, end in found:
        run = places[first:end]
        assert all(b - a <= gap + 1 for a, b in itertools.pairwise(run))
        assert longest is None or run[-1] - run[0] < longest
    if longest is None:
        for (_, end), (start, _) in itertools.pairwise(found):
            assert places[start] - places[end - 1] > gap + 1


@settings(max_examples=40)
@given(st.data())
def test_genes_beyond_the_brain_are_zero(tiny_brain, tiny_arrays, data):
    _, genes, _ = tiny_arrays
    ranges = []
    for size in genes.shape[1:]:
        start = data.draw(st.integers(-6, size + 3))
        ranges.append((start, start + data.draw(st.integers(0, 9))))
    got = tiny_brain.read_genes((*ranges[1], *ranges[2]), ranges[0])
    padded = np.pad(genes, [(0, 0)] + [(12, 16)] * 3)
    region = tuple(slice(a + 12, b + 12) for a, b in ranges)
    assert got.dtype == np.float32
    assert np.array_equal(got, padded[(slice(None), *region)])


def test_unknown_gene_names_near_spellings(tiny_brain):
    with pytest.raises(UserError, match=r"'slc17A8'.*did you mean Slc17a[67]"):
        tiny_brain.read_genes((0, 1, 0, 1), (0, 1), ["slc17A8"])


@pytest.mark.parametrize(
    ("roi", "slices"),
    [
        ((-1, 16, 0, 16), (0, 1)),
        ((0, 16, 0, 10_000), (0, 1)),
        ((16, 16, 0, 16), (0, 1)),
        ((0, 16, 0, 16), (0, 99)),
        ((0, 16, 0, 16), (2, 1)),
        ((0, 16, 0, 16), (None, 2)),
        ("abc", (0, 1)),
        ((1,), (0, 1)),
    ],
)
def test_stains_outside_the_brain_are_refused(tiny_brain, roi, slices):
    with pytest.raises(UserError, match=r"leaves? the brain|whole numbers"):
        tiny_brain.read_stains(roi, slices)


def test_missing_table_is_refused(tiny_brain):
    with pytest.raises(UserError, match="no table 'cells'"):
        tiny_brain.table("cells")
    with pytest.raises(UserError, match="cannot be the name"):
        tiny_brain.table("../../etc/passwd")


def test_totals_per_gene_and_slice(tiny_brain, tiny_arrays):
    _, genes, _ = tiny_arrays
    table = tiny_brain.table("gene_totals")
    totals = table.pivot_table(index="gene", columns="slice", values="total")
    totals = totals.loc[list(tiny_brain.gene_names)]
    assert np.array_equal(totals.to_numpy(), genes.sum(axis=(2, 3)))


def test_a_half_made_brain_is_never_taken_for_a_whole_one(tmp_path):
    path = tmp_path / "b.zarr"

    def interrupted() -> None:
        with BrainWriter.create(path, name="b", shape=(1, 64, 64), genes=["Th"]) as writer:
            writer.write_stains(0, 0, 0, np.ones((2, 64, 64), np.uint8))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        interrupted()
    with pytest.raises(UserError, match="half made"):
        open_brain(path)


def test_resume_keeps_verified_tiles_and_drops_damaged_ones(tmp_path):
    path = tmp_path / "b.zarr"
    rng = np.random.default_rng(0)
    genes = rng.poisson(1.0, (2, 2, 6, 6))
    writer = BrainWriter.create(path, name="b", shape=(2, 96, 96), genes=["Th", "Mog"])
    for z in range(2):
        writer.write_genes(z, 0, 0, genes[:, z])
    shards = sorted((path / "genes" / "0" / "c").rglob("*"))
    shards = [p for p in shards if p.is_file()]
    shards[-1].write_bytes(shards[0].read_bytes())

    writer = BrainWriter.resume(path)
    assert writer.written("genes") == {(0, 0, 0)}
    with writer:
        writer.write_genes(1, 0, 0, genes[:, 1])
    brain = open_brain(path)
    assert np.array_equal(brain.read_genes((0, 6, 0, 6), (0, 2)), genes)
    assert brain.table("gene_totals")["total"].sum() == genes.sum()
    with pytest.raises(UserError, match="nothing to resume"):
        BrainWriter.resume(path)


def test_a_brain_killed_before_it_has_images_is_made_anew(tmp_path):
    path = tmp_path / "b.zarr"
    args = {"name": "b", "shape": (1, 32, 32), "genes": ["Th"]}
    BrainWriter.create(path, **args)
    shutil.rmtree(path / "genes")
    with pytest.raises(UserError, match="interrupted before its images were made"):
        BrainWriter.resume(path)
    with BrainWriter.create(path, overwrite=True, **args):
        pass
    assert open_brain(path).shape == (1, 32, 32)


def test_counts_beyond_2048_are_kept_exactly(tmp_path):
    path = tmp_path / "b.zarr"
    first = np.full((1, 4, 4), 7)
    second = first.copy()
    second[0, 1, 2] = 2049
    with BrainWriter.create(path, name="b", shape=(2, 64, 64), genes=["Alb"]) as writer:
        writer.write_genes(0, 0, 0, first)
        writer.write_genes(1, 0, 0, second)
    brain = open_brain(path)
    assert [level.dtype for level in brain.genes.levels] == [np.float32] * len(brain.genes.levels)
    assert np.array_equal(brain.read_genes((0, 4, 0, 4), (0, 2)), np.stack([first, second], 1))
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["genes", "stains", "tables"]


@pytest.mark.parametrize("killed", ["while copying", "between renames", "before cleaning up"])
def test_a_promotion_that_was_killed_is_settled_by_resuming(tmp_path, killed):
    path = tmp_path / "b.zarr"
    counts = np.full((1, 4, 4), 7)
    writer = BrainWriter.create(path, name="b", shape=(2, 64, 64), genes=["Alb"])
    writer.write_genes(0, 0, 0, counts)
    genes, new, old = path / "genes", path / "genes.float32", path / "genes.float16"
    shutil.copytree(genes, new)
    if killed == "while copying":
        shutil.rmtree(new / "0" / "c")
    else:
        genes.rename(old)
    if killed == "before cleaning up":
        new.rename(genes)
    with BrainWriter.resume(path) as writer:
        writer.write_genes(1, 0, 0, counts * 1000)
    assert open_brain(path).read_genes((0, 4, 0, 4), (0, 2)).sum() == 16 * 7 * 1001
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["genes", "stains", "tables"]


def test_existing_things_are_not_replaced_unless_they_are_brains(tmp_path):
    path = tmp_path / "b.zarr"
    args = {"name": "b", "shape": (1, 32, 32), "genes": ["Th"]}
    with BrainWriter.create(path, **args):
        pass
    with pytest.raises(UserError, match="exists already"):
        BrainWriter.create(path, **args)
    BrainWriter.create(path, overwrite=True, **args)
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "text.md").write_text("years of work")
    with pytest.raises(UserError, match="not a brain"):
        BrainWriter.create(mine, overwrite=True, **args)
    assert (mine / "text.md").read_text() == "years of work"


@pytest.mark.parametrize(
    ("genes", "stains", "message"),
    [
        ([], ["DAPI"], "at least one gene"),
        (["Th", "Th"], ["DAPI"], "'Th' is listed twice"),
        (["Th"], [], "at least one stain"),
    ],
)
def test_bad_panels_are_refused(tmp_path, genes, stains, message):
    with pytest.raises(UserError, match=message):
        BrainWriter.create(
            tmp_path / "b.zarr",
            name="b",
            shape=(1, 32, 32),
            genes=genes,
            stains=[Channel(s) for s in stains],
        )
    assert not (tmp_path / "b.zarr").exists()


def test_what_is_not_a_brain_is_refused(tmp_path, tiny_brain):
    with pytest.raises(UserError, match="no brain at"):
        open_brain(tmp_path / "nothing.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="not a Zarr group"):
        open_brain(tmp_path / "folder")
    (tmp_path / "file.zarr").write_text("text")
    with pytest.raises(UserError, match="not a Zarr group"):
        open_brain(tmp_path / "file.zarr")
    with pytest.raises(UserError, match="not a brain"):
        open_brain(Path(tiny_brain.path) / "stains")
    with pytest.raises(UserError, match="not a Zarr group"):
        open_brain(Path(tiny_brain.path) / "stains" / "0")


def test_damaged_metadata_are_a_sentence(tmp_path):
    path = tmp_path / "b.zarr"
    with BrainWriter.create(path, name="b", shape=(1, 32, 32), genes=["Th"]):
        pass
    file = path / "zarr.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"damaged"):
        open_brain(path)
    document = json.loads(whole)
    document["attributes"]["teramind"]["format"] = "9"
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match="format '9'"):
        open_brain(path)


def test_misplaced_blocks_are_programming_errors(tmp_path):
    writer = BrainWriter.create(tmp_path / "b.zarr", name="b", shape=(2, 64, 80), genes=["Th"])
    image = np.zeros((2, 64, 80), np.uint8)
    writer.write_stains(0, 0, 0, image)
    with pytest.raises(ValueError, match="already written"):
        writer.write_stains(0, 0, 0, image)
    for bad in (
        lambda: writer.write_stains(2, 0, 0, image),
        lambda: writer.write_stains(1, 0, 16, image[:, :, 16:]),
        lambda: writer.write_stains(1, 0, 0, image[:, :32]),
        lambda: writer.write_stains(1, 0, 0, image.astype(np.uint16)),
        lambda: writer.write_stains(1, 0, 0, image[:1]),
        lambda: writer.write_genes(1, 0, 0, np.full((1, 4, 5), -1)),
        lambda: writer.write_genes(1, 0, 0, np.full((1, 4, 5), np.nan)),
        lambda: writer.write_label("tissue", 1, np.zeros((4, 5), np.uint32)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            bad()


def test_brains_of_odd_sides_keep_every_pixel(tmp_path):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (2, 131, 257), dtype=np.uint8)
    genes = rng.poisson(2.0, (1, 9, 17))
    with BrainWriter.create(
        tmp_path / "b.zarr", name="b", shape=(1, 131, 257), genes=["Th"]
    ) as writer:
        writer.write_stains(0, 0, 0, image)
        writer.write_genes(0, 0, 0, genes)
    brain: BrainStore = open_brain(tmp_path / "b.zarr")
    assert np.array_equal(brain.read_stains((0, 131, 0, 257), (0, 1))[:, 0], image)
    assert [a.shape[-2:] for a in brain.stains.levels[:3]] == [(131, 257), (66, 129), (33, 65)]

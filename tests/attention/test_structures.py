"""Statistics of structures, trend lines, agreement and all pairs, against plain NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import napari_teramind as tm
from napari_teramind.attention import (
    AttentionMaps,
    attention_to_store,
    attention_trend,
    open_maps,
    rank_agreement,
    structure_matrices,
    structure_statistics,
)
from napari_teramind.attention.counts import PatchGrid
from napari_teramind.attention.quantities import Atlas2D, brain_atlas
from napari_teramind.attention.statistics import area_of, ranking, write_table
from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.model import TeraMind

PAIR = ("Nr4a2", "Th")


@pytest.fixture(scope="module")
def maps(tiny_brain: BrainStore, tiny_network: TeraMind) -> AttentionMaps:
    return tm.attention(tiny_brain, tiny_network, [PAIR, ("Gad1", "Th")])


@pytest.fixture(scope="module")
def statistics(tiny_brain: BrainStore, maps: AttentionMaps) -> pd.DataFrame:
    return structure_statistics(tiny_brain, maps)


def row(statistics: pd.DataFrame, acronym: str, quantity: str, of: str, name: str) -> pd.Series:
    at = statistics["acronym"].eq(acronym) & statistics["quantity"].eq(quantity)
    (found,) = statistics[at & statistics["of"].eq(of) & statistics["map"].eq(name)].iloc
    return found


def test_statistics_are_those_of_the_bins(
    tiny_brain: BrainStore, maps: AttentionMaps, statistics: pd.DataFrame
) -> None:
    labels = np.asarray(tiny_brain.structures.levels[0])
    values = {
        ("attention", "Nr4a2-Th", "current-next"): maps.attention(PAIR, "current-next").sum(0),
        ("A", "Nr4a2-Th", "ensemble"): maps.alone(PAIR)[0, 1] + maps.alone(PAIR)[1, 0],
        ("expression", "Gad1-Th", ""): maps["Gad1 expression"] + maps["Th expression"],
        ("expression", "Th", ""): maps["Th expression"],
    }
    for (quantity, of, name), volume in values.items():
        inside = {"CP": labels == 672, "TH": labels == 549, "root": labels > 0}
        for acronym, mask in inside.items():
            found = row(statistics, acronym, quantity, of, name)
            here, rest = volume[mask], volume[(labels > 0) & ~mask]
            assert found["bins"] == mask.sum()
            assert found["mean"] == pytest.approx(here.mean(dtype=float), rel=1e-6)
            for column, q in (("median", 0.5), ("p95", 0.95)):
                exact = np.quantile(here, q, method="inverted_cdf")
                assert found[column] == pytest.approx(exact, rel=1e-3)
            if rest.size:
                assert found["rest_mean"] == pytest.approx(rest.mean(dtype=float), rel=1e-6)
                assert found["enrichment"] == pytest.approx(found["mean"] / found["rest_mean"])
            else:
                assert np.isnan(found["enrichment"])
    counts = maps["Th expression"][labels == 549]
    exact = np.quantile(counts, 0.95, method="inverted_cdf")
    assert row(statistics, "TH", "expression", "Th", "")["p95"] == exact


def test_ranks_are_those_of_areas(statistics: pd.DataFrame) -> None:
    found = ranking(statistics, "A", "Nr4a2-Th")
    assert set(found["acronym"]) == {"CP", "TH"}
    assert list(found["rank"]) == [1, 2]
    assert found["mean"].is_monotonic_decreasing
    root = row(statistics, "root", "A", "Nr4a2-Th", "ensemble")
    assert not root["area"]
    assert pd.isna(root["rank"])
    with pytest.raises(UserError, match="no A of Th-Gad1"):
        ranking(statistics, "A", "Th-Gad1")


def test_layers_count_with_what_they_are_layers_of() -> None:
    from napari_teramind.atlas import allen_structures

    table = allen_structures()
    expected = {
        "MOBgl": "MOB",
        "CA1sp": "CA1",
        "VTA": "VTA",
        "SNc": "SNc",
        "SSp2/3": "SSp",
        "ECT6b": "ECT",
    }
    for acronym, area in expected.items():
        assert area_of(table, table.find(acronym).id).acronym == area


def test_the_store_gives_the_same_statistics(
    brain_copy: Path, tiny_network: TeraMind, statistics: pd.DataFrame
) -> None:
    brain = tm.open_brain(brain_copy)
    attention_to_store(brain, tiny_network, "m", [PAIR, ("Gad1", "Th")])
    found = structure_statistics(brain, open_maps(brain, "m"))
    pd.testing.assert_frame_equal(found, statistics)


def test_only_what_was_computed_counts(tiny_brain: BrainStore, tiny_network: TeraMind) -> None:
    maps = tm.attention(tiny_brain, tiny_network, [PAIR], structures=["TH"])
    found = structure_statistics(tiny_brain, maps)
    assert set(found["acronym"]) == {"root", "TH"}
    assert found["rest_mean"].isna().all()


def test_trend_and_correlation(tiny_brain: BrainStore, maps: AttentionMaps) -> None:
    labels = np.asarray(tiny_brain.structures.levels[0])
    counts = maps["Nr4a2 expression"] + maps["Th expression"]
    use = (labels > 0) & (counts > 0)
    x = np.log2(counts[use] + 1)
    y = np.log2(8 * maps.attention(PAIR).sum(0)[use] + 1)
    trend = attention_trend(tiny_brain, maps, PAIR)
    assert trend.bins == use.sum()
    assert trend.pearson == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)
    line = trend.table.set_index("expression")
    one = line.loc[1.125]  # a count of 1
    assert one["bins"] == (counts[use] == 1).sum()
    assert one["mean"] == pytest.approx(y[counts[use] == 1].mean(), abs=1e-5)
    assert one["std"] == pytest.approx(y[counts[use] == 1].std(), abs=1e-5)
    with pytest.raises(UserError, match="hold no attention of Th-Gad1"):
        attention_trend(tiny_brain, maps, ("Th", "Gad1"))


def statistics_of(means: dict[str, float]) -> pd.DataFrame:
    frame = pd.DataFrame({"acronym": list(means), "mean": list(means.values())})
    frame = frame.assign(name=frame["acronym"], quantity="A", of="a-b", map="ensemble")
    return frame.assign(rank=frame["mean"].rank(ascending=False).astype("Int64"))


def test_agreement_of_brains() -> None:
    one = statistics_of({"P": 4, "Q": 3, "R": 2, "S": 1})
    same = statistics_of({"P": 9, "Q": 8, "R": 7, "S": 6, "T": 20})
    other = statistics_of({"P": 1, "Q": 2, "R": 3, "S": 4})
    table, agreement = rank_agreement({"one": one, "same": same}, "A", "a-b")
    assert agreement == {
        "kendall_w": pytest.approx(1),
        "spearman one same": pytest.approx(1),
    }
    assert list(table["acronym"]) == ["P", "Q", "R", "S"]
    _, agreement = rank_agreement({"one": one, "other": other}, "A", "a-b")
    assert agreement["kendall_w"] == pytest.approx(0)
    assert agreement["spearman one other"] == pytest.approx(-1)
    with pytest.raises(UserError, match="two brains"):
        rank_agreement({"one": one}, "A", "a-b")


def test_all_pairs_equal_the_full_maps(tiny_brain: BrainStore, tiny_network: TeraMind) -> None:
    region = {"roi": (30, 230, 40, 300), "slices": (1, 4)}
    found = structure_matrices(tiny_brain, tiny_network, **region)
    labels = np.asarray(tiny_brain.structures.levels[0])
    grid = PatchGrid((1, 15, 2, 19), 4)
    sums = {672: np.zeros((8, 8)), 549: np.zeros((8, 8))}
    for z in (1, 2, 3):
        first = z // 2 * 2
        g = tiny_brain.read_genes(grid.covered, (first - 1, first + 3), tiny_network.gene_names)
        rows, columns = grid.shape
        field = torch.zeros(1, 2, 2, rows * 64, columns * 64)
        _, patches = tiny_network.cut_field(field, torch.from_numpy(g)[None])
        with torch.inference_mode():
            full = tiny_network.gene_gene_attention(patches).permute(1, 2, 0).numpy()
        bins = grid.to_bins(full)
        for structure, total in sums.items():
            total += bins[..., labels[z, 1:15, 2:19] == structure].sum(-1)
    np.testing.assert_array_equal(found.ids, [549, 672])
    for k, structure in enumerate(found.ids):
        np.testing.assert_allclose(found.sums[k], sums[structure], rtol=1e-4)
    np.testing.assert_allclose(found.mean("TH").sum(axis=1), 1, rtol=1e-5)
    both = found.sums.sum(axis=0) / found.bins.sum()
    np.testing.assert_allclose(found.mean("root"), both)


def test_questions_to_all_pairs(
    tiny_brain: BrainStore, tiny_network: TeraMind, statistics: pd.DataFrame, tmp_path: Path
) -> None:
    found = structure_matrices(tiny_brain, tiny_network)
    where = found.where(PAIR).set_index("acronym")
    for acronym in ("CP", "TH"):
        expected = row(statistics, acronym, "A", "Nr4a2-Th", "ensemble")
        assert where.loc[acronym, "A"] == pytest.approx(expected["mean"], rel=1e-5)
        assert where.loc[acronym, "enrichment"] == pytest.approx(expected["enrichment"], rel=1e-5)
    top = found.top("TH", None)
    assert len(top) == 8 * 7 / 2
    assert top["enrichment"].is_monotonic_decreasing
    assert len(found.frame(3)) == 2 * 3
    with np.load(found.save(tmp_path / "m.npz"), allow_pickle=False) as file:
        np.testing.assert_allclose(file["sums"], found.sums, rtol=1e-6)
        assert tuple(file["genes"]) == found.genes
    with pytest.raises(UserError, match="'XYZ'"):
        found.mean("XYZ")
    with pytest.raises(UserError, match="lacks 'Xy'"):
        found.where(("Th", "Xy"))
    only = structure_matrices(tiny_brain, tiny_network, structures=["CP"])
    assert list(only.ids) == [672]
    with pytest.raises(UserError, match="No bin of the region lies in TH"):
        only.mean("TH")


def test_tables_are_read_back(statistics: pd.DataFrame, tmp_path: Path) -> None:
    write_table(statistics, tmp_path / "s.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "s.parquet"), statistics)
    write_table(statistics, tmp_path / "s.csv")
    back = pd.read_csv(tmp_path / "s.csv", keep_default_na=False, na_values=[""])
    np.testing.assert_allclose(back["mean"], statistics["mean"])
    with pytest.raises(UserError, match="exists already"):
        write_table(statistics, tmp_path / "s.csv")
    with pytest.raises(UserError, match="no form"):
        write_table(statistics, tmp_path / "s.xlsx")


def test_another_atlas_can_be_asked(tiny_brain: BrainStore, maps: AttentionMaps) -> None:
    own = brain_atlas(tiny_brain)

    def everything(box: tuple[int, int, int, int], slices: range) -> np.ndarray:
        return np.full_like(own.labels(box, slices), 549)

    found = structure_statistics(tiny_brain, maps, Atlas2D(everything, own.table))
    assert set(found["bins"]) == {4 * 16 * 24}
    nothing = Atlas2D(lambda box, slices: 0 * own.labels(box, slices), own.table)
    with pytest.raises(UserError, match="No bin"):
        structure_statistics(tiny_brain, maps, nothing)
    other = Atlas2D(lambda box, slices: 0 * own.labels(box, slices) + 7, own.table)
    with pytest.raises(UserError, match="hold the id 7"):
        structure_statistics(tiny_brain, maps, other)

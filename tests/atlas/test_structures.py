"""Structure tables: the tree, lookups, bad tables, and the facts against the Allen ontology."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_teramind.atlas import Structure, StructureTable, allen_structures, read_structures
from napari_teramind.errors import UserError

ROOT = Structure(997, "root", "root", "FFFFFF", None)
BRAIN = Structure(8, "grey", "Grey", "BFDAE3", 997)
NA = Structure(31, "NA", "Nucleus ambiguus", "FF0000", 8)


def test_the_tree_answers_upwards_and_downwards() -> None:
    table = StructureTable([NA, ROOT, BRAIN])
    assert [s.acronym for s in table.lineage(31)] == ["NA", "grey", "root"]
    assert table.children(997) == (BRAIN,)
    assert table.within("grey") == {8, 31}
    assert table.mask([[0, 31], [997, 8]], "grey").tolist() == [[False, True], [False, True]]


def test_a_subset_keeps_ancestors() -> None:
    table = allen_structures()
    part = table.subset([table.find("SNc").id])
    assert {s.acronym for s in part.values()} == {s.acronym for s in part.lineage(374)}
    assert part.find("root").parent_id is None


def test_an_unknown_acronym_names_near_ones() -> None:
    with pytest.raises(UserError, match=r"'snx'.*SNc"):
        allen_structures().find("snx")


def test_acronyms_are_found_in_any_case_unless_two_differ_in_that_only() -> None:
    table = allen_structures()
    assert table.find("snc") is table.find("SNc")
    assert table.has("vTa")
    assert table.within("vta") == table.within("VTA")
    assert table.find("CM").acronym == "CM"
    assert table.find("cm").acronym == "cm"
    with pytest.raises(UserError, match=r"CM or cm|cm or CM"):
        table.find("Cm")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROOT, ROOT], "997 occurs twice"),
        ([NA], "NA.*ancestor 8"),
        (
            [Structure(1, "a", "a", "000000", 2), Structure(2, "b", "b", "000000", 1)],
            "own ancestor",
        ),
    ],
)
def test_a_broken_tree_is_refused(rows: list[Structure], words: str) -> None:
    with pytest.raises(UserError, match=words):
        StructureTable(rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,acronym,name\n1,a,a\n", "color_hex"),
        ("id,acronym,name,color_hex,parent_id\nx,a,a,FFFFFF,\n", "whole number"),
        ("", "cannot be read"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "structures.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_structures(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv"):
        read_structures(tmp_path / "none.csv")


def test_a_table_survives_its_data_frame(tmp_path: Path) -> None:
    table = StructureTable([ROOT, BRAIN, NA])
    table.frame().to_csv(tmp_path / "t.csv", index=False)
    assert list(read_structures(tmp_path / "t.csv").values()) == list(table.values())


def test_every_fact_equals_the_allen_ontology(teramind_data: Path) -> None:
    ontology = read_structures(teramind_data / "allen_ccf" / "structures.csv")
    ours = allen_structures()
    assert len(ours) > 100
    for structure_id, structure in ours.items():
        assert ontology[structure_id] == structure


@given(st.sampled_from(sorted(allen_structures())))
def test_everything_inside_a_structure_has_it_in_its_lineage(structure_id: int) -> None:
    table = allen_structures()
    acronym = table[structure_id].acronym
    inside = table.within(acronym)
    assert inside == {i for i in table if table[structure_id] in table.lineage(i)}
    assert np.array_equal(table.mask(list(table), acronym), [i in inside for i in table])

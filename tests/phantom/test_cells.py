"""Cells and expression before anything is drawn: spacing, types, profiles, order of drawing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from napari_teramind.atlas import allen_structures
from napari_teramind.phantom import panel
from napari_teramind.phantom.anatomy import ProceduralAnatomy
from napari_teramind.phantom.cells import CellField
from napari_teramind.phantom.expression import Compositions, load_profiles
from napari_teramind.phantom.plan import PIXEL_SIZE, Plan, make_plan
from napari_teramind.phantom.render import Renderer
from napari_teramind.phantom.section import Section
from napari_teramind.phantom.tables import PartTable, cell_frame, transcript_frame
from napari_teramind.phantom.transcripts import TranscriptField


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan("main", "S", 0, ProceduralAnatomy())


def make_field(plan: Plan, z: int = 7) -> CellField:
    """A fresh field, with nothing cached."""
    anatomy = ProceduralAnatomy()
    return CellField(Section(plan, anatomy, z), load_profiles("main"), Compositions(anatomy.table))


@pytest.fixture(scope="module")
def field(plan: Plan) -> CellField:
    return make_field(plan)


def test_nuclei_overlap_no_more_than_in_tissue(field: CellField) -> None:
    cells = field.around(1, 2)
    points = np.stack([cells.y, cells.x], 1)
    a, b = cKDTree(points).query_pairs(130, output_type="ndarray").T
    distance = np.hypot(*(points[a] - points[b]).T)
    assert len(cells) > 200
    assert (distance / (cells.radius[a] + cells.radius[b])).min() > 0.75


def test_a_block_is_the_same_whatever_was_drawn_before(plan: Plan, field: CellField) -> None:
    for place in ((0, 0), (1, 1), (1, 3)):
        Renderer(field).block(*place)
    image, labels = Renderer(field).block(1, 2)
    fresh_image, fresh_labels = Renderer(make_field(plan)).block(1, 2)
    assert np.array_equal(image, fresh_image)
    assert np.array_equal(labels, fresh_labels)
    old, new = TranscriptField(field).block(1, 2), TranscriptField(make_field(plan)).block(1, 2)
    assert np.array_equal(old.y, new.y)
    assert np.array_equal(old.gene, new.gene)


def test_cells_are_whole_across_the_border_of_blocks(field: CellField) -> None:
    left, right = (Renderer(field).block(1, column)[1] for column in (1, 2))
    crossing = np.unique(left[:, -1][left[:, -1] == right[:, 0]])
    assert len(crossing[crossing > 0]) >= 3


def test_a_tile_without_cells_fits_into_the_tables(field: CellField, tmp_path: Path) -> None:
    table, profiles = allen_structures(), field.profiles
    transcripts = TranscriptField(field)
    empty, full = field.block(-1, 0), field.block(1, 2)
    assert len(empty) == 0 < len(full)
    for part, cells in (("a", empty), ("b", full)):
        PartTable(tmp_path, "cells").write(part, cell_frame(cells, 7, profiles, table))
    nothing, some = transcripts.block(-1, 0), transcripts.block(1, 2)
    for part, found in (("a", nothing), ("b", some)):
        PartTable(tmp_path, "transcripts").write(part, transcript_frame(found, 7, profiles.genes))
    read = pd.read_parquet(tmp_path / "tables" / "cells.parquet")
    assert read["id"].tolist() == full.id.tolist()
    assert set(read["acronym"]) == {table[int(i)].acronym for i in full.structure}
    assert len(pd.read_parquet(tmp_path / "tables" / "transcripts.parquet")) == len(some) > 0


def test_densities_come_out_as_asked_for(plan: Plan) -> None:
    """Cells per area in a large structure, after thinning, against the rule."""
    field = make_field(plan, 10)
    section, table = field.section, allen_structures()
    for acronym, share in (("MY", 0.25), ("CBXgr", 0.35)):
        ids = np.fromiter(table.within(acronym), np.uint32)
        blocks = [(r, c) for r in range(section.blocks[0]) for c in range(section.blocks[1])]
        area = sum(np.isin(section.structures(*b), ids).sum() for b in blocks) * 1.728**2
        count = sum(np.isin(field.block(*b).structure, ids).sum() for b in blocks)
        asked = field.compositions.of(table.find(acronym).id).density * plan.size.density
        assert count / area * 1000 == pytest.approx(asked, rel=share), acronym


def test_endothelium_is_stretched_and_microglia_small(field: CellField) -> None:
    cells = field.around(1, 2)
    types = np.array([t.name for t in field.profiles.types])[cells.type]
    diameter = 2 * cells.radius * PIXEL_SIZE
    assert cells.long[types == "Endothelium"].mean() > 1.8
    assert diameter[types == "Microglia"].mean() < diameter[types == "MB Glut"].mean() - 1


def test_every_structure_gets_cells_of_its_own() -> None:
    table = allen_structures()
    compositions = Compositions(table)
    names = [t.name for t in load_profiles("main").types]
    expected = {
        "SSp2/3": "IT L2/3", "VISp4": "IT L4", "MOs5": "ET L5", "ACAd6a": "CT L6",
        "RSPd6b": "L6b CLA", "CLA": "L6b CLA", "CA1sp": "CA1", "CA3sp": "CA3",
        "DG-sg": "DG granule", "VPM": "TH", "RT": "RT", "SNc": "Dopaminergic",
        "CBXgr": "CB granule", "ccb": "Oligodendrocyte", "MOBgr": "OB granule",
        "DR": "Serotonergic",
    }  # fmt: skip
    for acronym, name in expected.items():
        shares = compositions.of(table.find(acronym).id).shares
        assert names[int(shares.argmax())] == name, acronym
        assert shares.sum() == pytest.approx(1)


def _expression(acronyms: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Expected transcripts per 1,000 square micrometre, by structure and gene."""
    table, profiles = allen_structures(), load_profiles("main")
    compositions = Compositions(table)
    found = {}
    for acronym in acronyms:
        rule = compositions.of(table.find(acronym).id)
        means = rule.density * rule.shares @ profiles.means
        found[acronym] = dict(zip(profiles.genes, means, strict=True))
    return found


def test_glutamate_transporters_are_complementary() -> None:
    cortical = ("SSp2/3", "SSp5", "CA1sp", "CA3sp", "DG-sg", "PIR2", "CBXgr", "CLA")
    subcortical = ("VPM", "MD", "VMH", "PAG", "SCm", "MRN", "PARN", "STN")
    table = _expression(cortical + subcortical)
    for acronym in cortical:
        assert table[acronym]["Slc17a7"] > 5 * table[acronym]["Slc17a6"], acronym
    for acronym in subcortical:
        assert table[acronym]["Slc17a6"] > 5 * table[acronym]["Slc17a7"], acronym


def test_nr4a2_and_th_meet_in_dopaminergic_structures_only() -> None:
    dopaminergic = ("SNc", "VTA", "MOBgl")
    others = ("SSp2/3", "CA1sp", "VPM", "VMH", "PAG", "CP", "SNr", "CBXgr", "PARN", "ccb")
    table = _expression((*dopaminergic, *others, "CLA", "SSp6b"))
    for gene in ("Nr4a2", "Th"):
        assert min(table[a][gene] for a in dopaminergic) > 3 * max(table[a][gene] for a in others)
    for acronym in ("CLA", "SSp6b"):
        assert table[acronym]["Nr4a2"] > 10 * table[acronym]["Th"]


def test_markers_tell_cell_types() -> None:
    profiles = load_profiles("main")
    markers = {
        "Astrocyte": "Aqp4", "Oligodendrocyte": "Mog", "Endothelium": "Cldn5",
        "Microglia": "Cx3cr1", "Pvalb": "Pvalb", "Sst": "Sst", "Vip": "Vip",
        "Purkinje": "Pcp2", "CB granule": "Gabra6", "Serotonergic": "Tph2",
    }  # fmt: skip
    for name, gene in markers.items():
        column = profiles.means[:, profiles.genes.index(gene)]
        assert column[profiles.index(name)] > 3 * np.median(column)
        assert column[profiles.index(name)] > 8


def test_counts_are_overdispersed(field: CellField) -> None:
    transcripts = TranscriptField(field)
    counts = transcripts.counts(1, 2)
    kind = field.block(1, 2).type
    most = np.bincount(kind).argmax()
    of_type = counts[kind == most]
    mean, variance = of_type.mean(0), of_type.var(0)
    strong = mean > 3
    assert strong.sum() > 3
    assert (variance[strong] > 1.5 * mean[strong]).mean() > 0.8


def test_the_panels_agree() -> None:
    main, supp = panel("main"), panel("supp_m")
    assert len(set(supp)) == len(supp) >= 100
    assert supp[: len(main)] == main
    assert {"Slc17a6", "Slc17a7", "Nr4a2", "Th", "Cldn5", "Aqp4"} <= set(main)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import BrainStore, BrainWriter
from napari_teramind.errors import UserError
from napari_teramind.evaluate import expression_by_structure


def test_expression_is_the_mean_over_bins(
    tiny_brain: BrainStore, tiny_arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    _, genes, structures = tiny_arrays
    table = expression_by_structure(tiny_brain).set_index(["acronym", "gene"])
    logs = np.log2(genes + 1)
    for acronym, ids in (("CP", [672]), ("TH", [549]), ("root", [672, 549])):
        inside = np.isin(structures, ids)
        expected = logs[:, inside].mean(axis=1)
        rows = table.loc[acronym].loc[list(tiny_brain.gene_names)]
        np.testing.assert_allclose(rows["mean_log2"], expected, atol=1e-9)
        assert set(rows["bins"]) == {int(inside.sum())}
    assert set(table.index.get_level_values(0)) == {"CP", "TH", "root"}


def test_tiles_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                           make_tiny_brain: Callable[..., BrainStore]) -> None:  # fmt: skip
    brain = make_tiny_brain(tmp_path / "brain.zarr")
    whole = expression_by_structure(brain)
    monkeypatch.setattr("napari_teramind.evaluate.expression._TILE", 5)
    parts = expression_by_structure(brain)
    np.testing.assert_allclose(parts["mean_log2"], whole["mean_log2"], atol=1e-12)


def test_a_brain_without_structures_is_refused(tmp_path: Path) -> None:
    writer = BrainWriter.create(tmp_path / "b.zarr", name="b", shape=(1, 64, 64), genes=["Th"])
    with pytest.raises(UserError, match="no atlas structures"):
        expression_by_structure(writer.finish())

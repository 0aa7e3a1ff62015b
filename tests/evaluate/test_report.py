"""What is compared and measured, against scikit-image on the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.metrics import structural_similarity

from evaluations import ROI, SLICES
from napari_teramind.brain import BrainStore, BrainWriter
from napari_teramind.brain.bins import structure_table
from napari_teramind.errors import UserError
from napari_teramind.evaluate import (
    Texture,
    Watershed,
    compared,
    measure,
    real_stains,
    stored_result,
)
from simulations import keep_simulation


def on_pixels(labels: np.ndarray) -> np.ndarray:
    """Labels (z, y, x) of bins as labels of the pixels of the region."""
    y0, y1, x0, x1 = ROI
    return labels[SLICES[0] : SLICES[1]].repeat(16, 1).repeat(16, 2)[:, y0:y1, x0:x1]


@pytest.fixture(scope="module")
def table(judged: BrainStore) -> pd.DataFrame:
    comparison = compared(judged, "soft")
    pixel = judged.pixel_size
    measured = measure(
        comparison, structures=True, nuclei=Watershed(pixel), extractors=[Texture()], tile=256
    )
    assert list(measured.table.columns) == ["stain", "slice", "structure", "metric", "value", "n"]
    assert measured.notes == []
    return measured.table.set_index(["stain", "slice", "structure", "metric"])


def test_scores_are_of_tissue_alone(table: pd.DataFrame, judged: BrainStore) -> None:
    assert judged.tissue is not None
    tissue = on_pixels(np.asarray(judged.tissue.levels[0])) > 0
    assert 0.1 < tissue.mean() < 0.9
    real = judged.read_stains(ROI, SLICES)
    made = np.asarray(judged.simulations["soft"].levels[0])
    for stain, a, b in zip(judged.stain_names, real, made, strict=True):
        for z in range(2):
            row = table.loc[stain, str(z), "all"]
            squares = ((a[z].astype(float) - b[z]) ** 2)[tissue[z]]
            expected = 10 * np.log10(255**2 / squares.mean())
            assert row.loc["psnr", "value"] == pytest.approx(expected, abs=1e-6)
            assert row.loc["psnr", "n"] == tissue[z].sum()
            _, full = structural_similarity(a[z], b[z], data_range=255, full=True)
            inner = np.zeros_like(tissue[z])
            inner[3:-3, 3:-3] = tissue[z][3:-3, 3:-3]
            assert row.loc["ssim", "value"] == pytest.approx(full[inner].mean(), abs=1e-6)
            assert row.loc["grey_mean_result", "value"] == pytest.approx(b[z][tissue[z]].mean())


def test_structures_hold_what_is_in_them(table: pd.DataFrame, judged: BrainStore) -> None:
    assert judged.structures is not None
    labels = on_pixels(np.asarray(judged.structures.levels[0]))
    assert judged.tissue is not None
    tissue = on_pixels(np.asarray(judged.tissue.levels[0])) > 0
    tree = structure_table(judged)
    real = judged.read_stains(ROI, SLICES)[1].astype(float)
    inside = np.isin(labels, list(tree.within("CTX"))) & tissue
    shown = 0
    for z in range(2):
        if inside[z].any():
            row = table.loc["PolyT", str(z), "CTX"].loc["grey_mean_reference"]
            assert row["n"] == inside[z].sum()
            assert row["value"] == pytest.approx(real[z][inside[z]].mean())
            shown += 1
    assert shown
    parts = [structure.acronym for structure in tree.children(tree.find("CTX").id)]
    counts = table["n"].xs("psnr", level="metric").xs("DAPI", level="stain")
    deeper = counts[counts.index.get_level_values("structure").isin(parts)]
    for z in range(2):
        if ("CTX" in counts.loc[str(z)].index) and str(z) in deeper.index:
            assert deeper.loc[str(z)].sum() <= counts.loc[str(z), "CTX"]


def test_means_and_deviations_are_over_slices(table: pd.DataFrame) -> None:
    values = [table.loc["DAPI", str(z), "all", "ssim"]["value"] for z in range(2)]
    mean, std = (table.loc["DAPI", word, "all", "ssim"] for word in ("mean", "std"))
    assert mean["value"] == pytest.approx(np.mean(values))
    assert std["value"] == pytest.approx(np.std(values, ddof=1))
    assert mean["n"] == std["n"] == 2


def test_nuclei_and_texture(table: pd.DataFrame) -> None:
    index = ["stain", "slice", "structure"]
    wide = table.reset_index().pivot_table("value", index, "metric")
    dapi = wide.loc["DAPI"]
    assert dapi.loc[("mean", "all"), "nuclei_reference"] > 1
    assert dapi.loc[("mean", "all"), "nucleus_area_mean_result"] > 10
    numbers = dapi.xs("all", level="structure")["nuclei_result"]
    of_parts = dapi.xs("root", level="structure")["nuclei_result"]
    assert (of_parts.loc[["0", "1"]] <= numbers.loc[["0", "1"]]).all()
    assert wide.loc[("PolyT", "all", "all"), "texture_distance"] > 0
    assert "nuclei_reference" not in wide.loc["PolyT"].dropna(axis=1, how="all")


def test_equal_images_differ_in_nothing(judged: BrainStore) -> None:
    comparison = compared(judged, "same")
    measured = measure(comparison, nuclei=Watershed(judged.pixel_size), extractors=[Texture()])
    table = measured.table.set_index(["slice", "metric", "stain"])["value"]
    for stain in judged.stain_names:
        assert table["0", "psnr", stain] == np.inf
        assert table["mean", "ssim", stain] == pytest.approx(1)
        assert table["mean", "grey_wasserstein", stain] == 0
        assert table["all", "texture_distance", stain] == pytest.approx(0, abs=1e-6)
    assert table["mean", "nucleus_area_wasserstein", "DAPI"] == 0


def test_only_what_was_asked_for_is_compared(judged: BrainStore, table: pd.DataFrame) -> None:
    measured = measure(compared(judged, "CTX")).table.set_index(["slice", "stain", "metric"])
    for z in ("0", "1"):
        if (z, "DAPI", "psnr") in measured.index:
            found = measured.loc[z, "DAPI", "psnr"]
            expected = table.loc["DAPI", z, "CTX", "psnr"]
            assert found["n"] == expected["n"]
            assert found["value"] == pytest.approx(expected["value"])


def test_an_outline_is_what_was_asked_for(brain_copy: Path) -> None:
    from napari_teramind.brain import open_brain

    brain = open_brain(brain_copy)
    roi, slices = (0, 256, 0, 384), (0, 2)
    image = brain.read_stains(roi, slices)
    corners = [[64, 64], [64, 160], [192, 160], [192, 64]]
    request = {"outline": corners}
    keep_simulation(
        brain, "drawn", image // 2, roi=roi, slices=slices, provenance={"request": request}
    )
    rows = measure(compared(brain, None)).table
    assert set(rows[rows["slice"] == "0"].loc[rows["metric"] == "psnr", "n"]) == {128 * 96}


def test_a_result_is_compared_with_another(judged: BrainStore) -> None:
    same = stored_result(judged, "same")
    by_result = measure(compared(judged, "soft", same)).table
    by_stains = measure(compared(judged, "soft")).table
    pd.testing.assert_frame_equal(by_result, by_stains)


def test_a_slice_without_stains_is_left_out(judged: BrainStore, tiny_brain: BrainStore,
                                           brain_copy: Path) -> None:  # fmt: skip
    from napari_teramind.brain import open_brain

    brain = open_brain(brain_copy)
    roi = (0, 256, 0, 384)
    image = brain.read_stains(roi, (0, 2))
    black = image.copy()
    black[:, 1] = 0
    keep_simulation(brain, "a", image, roi=roi, slices=(0, 2), provenance={})
    keep_simulation(brain, "b", black, roi=roi, slices=(0, 2), provenance={})
    measured = measure(compared(brain, "a", stored_result(brain, "b")))
    assert set(measured.table["slice"]) == {"0", "mean"}
    assert "DAPI is black in slice 1" in measured.notes[0]


def test_without_a_mask_everything_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stains = rng.integers(1, 256, (2, 64, 80), dtype=np.uint8)
    writer = BrainWriter.create(tmp_path / "b.zarr", name="b", shape=(1, 64, 80), genes=["Th"])
    writer.write_stains(0, 0, 0, stains)
    brain = writer.finish()
    made = stains[:, None, 8:56, 16:70] // 2
    keep_simulation(brain, "half", made, roi=(8, 56, 16, 70), slices=(0, 1), provenance={})
    table = measure(compared(brain, "half")).table.set_index(["stain", "slice", "metric"])
    expected = structural_similarity(stains[0, 8:56, 16:70], made[0, 0], data_range=255)
    assert table.loc[("DAPI", "0", "ssim"), "value"] == pytest.approx(expected, abs=1e-6)
    assert table.loc[("DAPI", "0", "psnr"), "n"] == 48 * 54
    assert real_stains(brain).box == (0, 64, 0, 80)


def test_what_cannot_be_compared_is_said(judged: BrainStore) -> None:
    with pytest.raises(UserError, match="no pixel in common"):
        compared(judged, "far", stored_result(judged, "soft"))
    with pytest.raises(UserError, match="standard deviation"):
        compared(judged, "soft, standard deviation")
    with pytest.raises(UserError, match="has 5 simulations"):
        compared(judged, None)
    with pytest.raises(UserError, match="There is no tissue"):
        measure(compared(judged, "far"))


@pytest.mark.parametrize("spoilt", [{"roi": [0, 9]}, {"roi": [0, 64, 0, 9**12]}, {"slices": None},
                                    {"provenance": {"request": {"outline": [[1], [2]]}}},
                                    {"provenance": {"request": 3}}])  # fmt: skip
def test_results_with_spoilt_metadata(brain_copy: Path, spoilt: dict[str, object]) -> None:
    import zarr

    from napari_teramind.brain import open_brain

    brain = open_brain(brain_copy)
    image = brain.read_stains((0, 64, 0, 64), (0, 1))
    path = keep_simulation(brain, "x", image, roi=(0, 64, 0, 64), slices=(0, 1), provenance={})
    group = zarr.open_group(path, mode="r+")
    group.attrs["teramind"] = {**group.attrs.asdict()["teramind"], **spoilt}
    with pytest.raises(UserError):
        compared(open_brain(brain_copy), "x")

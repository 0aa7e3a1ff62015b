"""Fréchet distances against independent implementations; the features that they are of."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid

from napari_teramind.errors import UserError
from napari_teramind.evaluate.frechet import Moments, frechet_distance
from napari_teramind.evaluate.inception import Inception, InceptionV3
from napari_teramind.evaluate.texture import Texture, texture_features, whole_patches
from spoiling import Payload


def moments(features: np.ndarray, *cuts: int) -> Moments:
    found = Moments()
    for part in np.split(features, sorted(cuts)):
        found.add(part)
    return found


@given(
    size=st.integers(1, 12), n=st.integers(2, 60), cut=st.integers(0, 60), seed=st.integers(0, 99)
)
@settings(max_examples=60)
def test_the_distance_is_that_of_scipy_and_torchmetrics(
    size: int, n: int, cut: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(size, size))
    a, b = rng.normal(size=(n, size)) @ mix, rng.normal(0.3, 2, (n + 5, size))
    real, made = moments(a, min(cut, n)), moments(b, min(cut, n), n)
    ours = frechet_distance(real, made)

    means = a.mean(0), b.mean(0)
    spreads = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (a, b)]
    np.testing.assert_allclose(real.covariance, spreads[0], atol=1e-10)
    theirs = _compute_fid(*(torch.from_numpy(v) for v in (means[0], spreads[0])),
                          *(torch.from_numpy(v) for v in (means[1], spreads[1])))  # fmt: skip
    # Their square root of a singular product is the less exact of the two.
    assert ours == pytest.approx(float(theirs), rel=1e-6, abs=1e-5)
    if n > size + 1:
        root = sqrtm(spreads[0] @ spreads[1]).real
        expected = ((means[0] - means[1]) ** 2).sum() + np.trace(sum(spreads) - 2 * root)
        assert ours == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_equal_sets_are_no_distance_apart() -> None:
    features = np.random.default_rng(0).normal(size=(50, 8))
    assert frechet_distance(moments(features), moments(features[::-1], 7)) < 1e-9
    assert frechet_distance(moments(features), moments(features + 2)) == pytest.approx(4 * 8)


# Texture ----------------------------------------------------------------------------------------


def test_texture_tells_blurred_tissue_from_sharp() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    sharp = gaussian_filter(rng.random((60, 64, 64)), (0, 1, 1)) * 255
    sets = [sharp[:30], sharp[30:], gaussian_filter(sharp[30:], (0, 2, 2))]
    real, same, soft = (moments(texture_features(s.astype(np.uint8))) for s in sets)
    assert frechet_distance(real, soft) > 10 * frechet_distance(real, same)


def test_texture_of_a_patch_does_not_depend_on_the_others() -> None:
    patches = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    (name,) = Texture.metrics
    assert name == "texture_distance"
    together = Texture()(patches)[name]
    assert together.shape == (3, 14)
    np.testing.assert_allclose(together[1:2], texture_features(patches[1:2]))
    assert together[0, 0] == pytest.approx(patches[0].mean())
    assert together[0, 1] == pytest.approx(patches[0].std())
    flat = texture_features(np.full((1, 64, 64), 9, np.uint8))
    np.testing.assert_allclose(flat, [[9] + 13 * [0]], atol=1e-9)


def test_patches_lie_on_the_grid_of_the_brain_and_are_mostly_compared() -> None:
    counts = np.ones((256, 256), bool)
    counts[:, 170:] = False
    found = list(whole_patches((32, 288, 0, 256), counts, 64))
    assert {place[0].start + 32 for place in found} == {64, 128, 192}
    assert {place[1].start for place in found} == {0, 64, 128}  # two thirds of the last one


# Inception --------------------------------------------------------------------------------------


def test_inception_of_random_weights(tmp_path: Path) -> None:
    """Names and shapes are those of the published file; the classifier in it is left out."""
    torch.manual_seed(0)
    model = InceptionV3()
    state = model.state_dict()
    parameters = sum(value.numel() for value in model.parameters())
    assert parameters == 21_785_568  # the published network's, without its classifier
    assert state["Mixed_6d.branch7x7dbl_3.conv.weight"].shape == (160, 160, 1, 7)
    # As published: with a classifier, without the counters of training.
    state = {k: v for k, v in state.items() if "num_batches" not in k}
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, tmp_path / "weights.pth")
    inception = Inception(tmp_path / "weights.pth")
    patches = np.random.default_rng(0).integers(0, 256, (2, 256, 256), dtype=np.uint8)
    found = inception(patches)
    assert {name: values.shape for name, values in found.items()} == {
        "fid": (2, 2048),
        "sfid": (2, 7 * 17 * 17),
    }
    assert np.ptp(found["fid"], axis=0).max() > 0
    # A network's weights drawn anew give other features: they were read from the file.
    torch.manual_seed(0)
    model = InceptionV3().eval()
    image = torch.from_numpy(patches)[:, None].expand(-1, 3, -1, -1).float() / 127.5 - 1
    image = torch.nn.functional.interpolate(image, (299, 299), mode="bilinear")
    with torch.no_grad():
        pooled, _ = model(image)
    np.testing.assert_allclose(found["fid"], pooled.numpy(), rtol=1e-4, atol=1e-5)


def test_weights_that_are_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil, other, program = (tmp_path / f"{name}.pth" for name in ("evil", "other", "program"))
    evil.write_bytes(pickle.dumps(Payload(mark)))
    torch.save({"a": torch.zeros(2)}, other)
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(program))
    for path, words in (
        (evil, "contains code"),
        (other, "pt_inception-2015-12-05-6726825d.pth"),
        (program, "TorchScript"),
        (tmp_path / "nowhere.pth", "no weights"),
    ):
        with pytest.raises(UserError, match=words):
            Inception(path)
    assert not mark.exists()

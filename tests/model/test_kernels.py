"""Faster forms of the network's parts say the same as torch's plain ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_teramind.errors import UserError
from napari_teramind.model import kernels
from napari_teramind.model.convs import SliceConv, upsample
from napari_teramind.model.layers import Dropout, attend, linear
from napari_teramind.model.norms import norm_silu


@pytest.fixture(params=["eager", "compiled"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    with kernels.using(request.param):
        yield request.param


def reference(x: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
    y = F.rms_norm(x.double(), (x.shape[-1],), eps=1e-6) * gain.double()
    return F.silu(y if shift is None else y + shift.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "shifted"),
    [((3, 8, 8, 2, 20), True), ((1, 4, 4, 2, 16), True), ((2, 4, 4, 4, 33), False)],
)
def test_norm_and_its_gradients(
    form: str, dtype: torch.dtype, shape: tuple[int, ...], shifted: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    affine = (shape[0], 1, 1, 1, shape[-1]) if shifted else (shape[-1],)
    gain = torch.randn(affine, generator=generator).requires_grad_()
    shift = torch.randn(affine, generator=generator).requires_grad_() if shifted else None
    grad = torch.randn(shape, generator=generator).to(dtype)
    inputs = [value for value in (x, gain, shift) if value is not None]
    expected = reference(x, gain, shift)
    found = norm_silu(x, gain, shift)
    assert found.dtype == dtype
    tolerance = (
        {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 1e-2}
    )
    torch.testing.assert_close(found.double(), expected, **tolerance)
    with torch.inference_mode():
        torch.testing.assert_close(norm_silu(x, gain, shift).double(), expected, **tolerance)
    wanted = torch.autograd.grad(expected, inputs, grad.double())
    got = torch.autograd.grad(found, inputs, grad)
    for a, b in zip(got, wanted, strict=True):
        close = (
            {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.1, "rtol": 2e-2}
        )
        torch.testing.assert_close(a.double(), b.double(), **close)


@given(
    positions=st.integers(1, 150).map(lambda k: 16 * k + (k % 3)),
    channels=st.integers(1, 20),
    out=st.integers(1, 20),
)
def test_linear_layers_of_many_positions(positions: int, channels: int, out: int) -> None:
    x, weight, bias = torch.randn(positions, channels), torch.randn(out, channels), torch.randn(out)
    torch.testing.assert_close(
        linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-5, rtol=1e-5
    )


def test_attention_in_bfloat16_is_that_of_float32() -> None:
    q, k, v = torch.randn(3, 6, 40, 32)
    expected = F.scaled_dot_product_attention(q, k, v, scale=1 / 32)
    torch.testing.assert_close(attend(q, k, v), expected, atol=1e-5, rtol=1e-5)
    low = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    torch.testing.assert_close(low.float(), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("channels_out", [7, 33])
@pytest.mark.parametrize("slices", [1, 2, 4])
@pytest.mark.parametrize("upsamples", [False, True])
def test_convolutions_over_slices(slices: int, channels_out: int, upsamples: bool) -> None:
    """All ways of a Conv3d: packed, by three, as it is; of what was upsampled, without that."""
    fast = SliceConv(5, channels_out, (3, 3, 3), slices, upsamples=upsamples)
    plain = torch.nn.Conv3d(5, channels_out, 3, padding=1)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 6, 4, slices, 5, requires_grad=True)
    seen = upsample(x) if upsamples else x
    expected = plain(seen.permute(0, 4, 3, 1, 2)).permute(0, 3, 4, 2, 1)
    found = fast(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (x, *plain.parameters()), grad)
    got = torch.autograd.grad(found, (x, *fast.parameters()), grad)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), expected, atol=1e-5, rtol=1e-5)


def test_dropout() -> None:
    dropout, x = Dropout(0.1), torch.ones(301, 333)
    torch.manual_seed(0)
    once = dropout(x)
    assert float((once == 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    assert float(once.mean()) == pytest.approx(1, abs=0.005)
    assert once.unique().numel() == 2
    assert not torch.equal(once, dropout(x))
    torch.manual_seed(0)
    assert torch.equal(once, dropout(x))
    assert torch.equal(dropout.eval()(x), x)


def test_when_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.find_compiler() is not None, "the tests of compiled kernels need one"
    assert kernels.decide("auto", "cpu", worthwhile=True) == "compiled"
    assert kernels.decide("auto", "cpu", worthwhile=False) == "eager"
    assert kernels.decide("auto", "cuda:1", worthwhile=True) == "eager"
    assert kernels.decide("compiled", "cpu", worthwhile=False) == "compiled"
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert kernels.decide("auto", "cpu", worthwhile=True) == "eager"
    with pytest.raises(UserError, match=r"need a C\+\+ compiler and none was found"):
        kernels.decide("compiled", "cpu", worthwhile=True)

"""Faster forms of the network's parts say the same as torch's plain ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_teramind.errors import UserError
from napari_teramind.model import ModelConfig, TeraMind, gradients, kernels, native
from napari_teramind.model.convs import SliceConv, upsample
from napari_teramind.model.layers import MLP, Dropout, attend, linear
from napari_teramind.model.norms import RMSNorm, norm_silu


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


@dataclass(frozen=True)
class Made:
    """A row of channels made of all kinds of parts, and the same by torch's operations."""

    parts: list[native.Part]
    tensors: list[Tensor]
    row: Tensor  # of `tensors`, in double precision

    @classmethod
    def draw(cls, channels: int, dtype: torch.dtype) -> Made:
        generator = torch.Generator().manual_seed(channels)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

        side, half = draw(2, 4, 6, 2, 5), draw(2, 2, 3, 2, 20)
        first, second = draw(2, 4, 6, channels), draw(2, 4, 6, channels)
        both, more, few = draw(2, 4, 6, channels), draw(2, 4, 6, 2, channels), draw(2, 4, 6, 2, 1)
        offset = side.shape[-1] + half.shape[-1]
        parts = [
            native.Part(side), native.Part(half, side.shape[-1]), native.Part(both, offset),
            native.Part(first, offset, second=second), native.Part(more, offset),
            native.Part(few, offset + 3),
        ]  # fmt: skip
        end = (
            both.double()[:, :, :, None]
            + torch.stack([first, second], 3).double()
            + more.double()
            + F.pad(few.double(), (3, channels - 4))
        )
        row = torch.cat([side.double(), upsample(half.double()), end], dim=-1)
        return cls(parts, [side, half, both, first, second, more, few], row)


@pytest.mark.parametrize("channels", [4, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_that_make_up_a_row(dtype: torch.dtype, channels: int) -> None:
    """Side by side, at half of y and x, one for both slices, added up; written as planes."""
    made = Made.draw(channels, dtype)
    shape, row = made.row.shape, made.row.detach()
    tolerance = (
        {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 1e-2}
    )
    added = native.add(made.parts, shape)
    assert added.dtype == dtype
    torch.testing.assert_close(added.double(), row, **tolerance)
    gain, shift = torch.randn(2, 2, 1, 1, 1, shape[-1], generator=torch.Generator().manual_seed(1))
    expected = reference(row, gain, shift)
    out = native.norm(made.parts, shape, gain, shift)
    torch.testing.assert_close(out.double(), expected, **tolerance)
    planes = native.norm(made.parts, shape, gain, shift, planes=True)
    wanted = torch.stack([expected.sum(3), expected[..., 1, :], expected[..., 0, :]])
    torch.testing.assert_close(planes.double(), wanted, **tolerance)


@pytest.mark.parametrize("channels", [4, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_of_parts(dtype: torch.dtype, channels: int, threads: int) -> None:
    made = Made.draw(channels, dtype)
    shape = made.row.shape
    generator = torch.Generator().manual_seed(2)
    gain = torch.randn(2, 1, 1, 1, shape[-1], generator=generator).requires_grad_()
    shift = torch.randn(2, 1, 1, 1, shape[-1], generator=generator).requires_grad_()
    expected = reference(made.row, gain, shift)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (whole,) = gradients.norm(made.parts, shape, gain, shift)
        planes = gradients.norm(made.parts, shape, gain, shift, planes=True)
        added = gradients.add(made.parts, shape)
        norm_inputs = [*made.tensors, gain, shift]
        cases = [
            ([whole], [expected], norm_inputs),
            (planes, [expected.sum(3), expected[..., 1, :], expected[..., 0, :]], norm_inputs),
            ([added], [made.row], made.tensors),
        ]
        for found, wanted, inputs in cases:
            grads = [torch.randn(f.shape, generator=generator).to(dtype) for f in found]
            got = torch.autograd.grad(found, inputs, grads)
            doubles = [grad.double() for grad in grads]
            right = torch.autograd.grad(wanted, inputs, doubles, retain_graph=True)
            for a, b in zip(got, right, strict=True):
                close = 1e-4 if dtype == torch.float32 else 2e-2
                error = (a.double() - b.double()).norm() / b.double().norm()
                assert error < close
    finally:
        torch.set_num_threads(before)


def test_what_does_not_fit_together_is_refused() -> None:
    """Kernels would read it as another type, or beyond its end."""
    x, shape = torch.randn(4, 2, 2, 2, 16), (4, 2, 2, 2, 16)
    for wrong in (torch.ones(2, 1, 1, 1, 16), torch.ones(15)):
        with pytest.raises(ValueError, match="no gain or shift"):
            native.norm([native.Part(x)], shape, wrong)
    for part in (
        native.Part(x.bfloat16()),
        native.Part(x[:3]),
        native.Part(x[:, :1, :1], 0),
        native.Part(x[..., 1:]),
        native.Part(x, 1),
        native.Part(x[:, :, :, 0].contiguous(), second=x[:, :, :, 1]),
    ):
        with pytest.raises(ValueError, match="is not one of"):
            native.add([native.Part(x), part], shape)
    wanted = torch.randn(4, 2, 2, 2, 16, requires_grad=True)
    (made,) = gradients.norm([native.Part(wanted)], shape, torch.ones(16))
    (slope,) = torch.autograd.grad(made.square().sum(), wanted, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_dropout_within_a_norm() -> None:
    """A share is dropped, the rest scaled up; the gradient drops the same; so do planes."""
    shape = (3, 16, 16, 2, 40)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    parts, gain = [native.Part(x)], torch.ones(shape[-1], requires_grad=True)
    (plain,) = gradients.norm(parts, shape, gain)
    drop = native.Drop(0.1, 2**63 - 3)
    (out,) = gradients.norm(parts, shape, gain, drop=drop)
    mask = (out / plain).detach()
    kept = mask != 0
    torch.testing.assert_close(mask[kept], torch.full_like(mask[kept], 1 / 0.9))
    assert float((~kept).float().mean()) == pytest.approx(0.1, abs=0.005)
    for axis in range(5):
        # No place is dropped more often than chance has it, and neighbours do not go together.
        share = (~kept).float().mean([other for other in range(5) if other != axis])
        count = kept.numel() / shape[axis]
        assert float((share - 0.1).abs().max()) < 5 * (0.09 / count) ** 0.5
        first, second = (kept.narrow(axis, at, shape[axis] - 1) for at in (0, 1))
        together = float((~first & ~second).float().mean())
        assert together == pytest.approx(0.01, abs=5 * (0.01 / first.numel()) ** 0.5)
    with torch.no_grad():
        same = gradients.norm(parts, shape, gain, drop=drop, planes=True)
        other = native.norm(parts, shape, gain, drop=native.Drop(0.1, 5))
    for plane, wanted in zip(same, (out.sum(3), out[..., 1, :], out[..., 0, :]), strict=True):
        torch.testing.assert_close(plane, wanted)
    assert not torch.equal(other == 0, out == 0)
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad(out, (x, gain), grad)
    wanted = torch.autograd.grad(plain, (x, gain), grad * mask)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("channels", [8, 16, 32])
def test_a_step_of_training(channels: int, low: bool) -> None:
    """The whole network's gradients, by torch's operations and by kernels, mixed precision too."""
    config = ModelConfig(genes=5, channels=channels, time_channels=8 * channels, dropout=0.0)
    torch.manual_seed(3)
    model = TeraMind(config)
    for parameter in model.parameters():
        if not parameter.any():  # some convolutions begin as zero, which would hide a lot
            torch.nn.init.normal_(parameter, std=0.05)
    x, g = torch.randn(1, 2, 2, 128, 128), torch.rand(1, 5, 4, 8, 8)
    t = torch.tensor([400])
    found: dict[str, list[Tensor]] = {}
    for form in ("eager", "compiled"):
        with kernels.using(form), torch.autocast("cpu", torch.bfloat16, enabled=low):
            inner, outer = model.output_patches(x, g, t, shifted=True)
        loss = inner.float().square().mean() + outer.float().square().mean()
        found[form] = list(torch.autograd.grad(loss, list(model.parameters())))
    for a, b in zip(found["compiled"], found["eager"], strict=True):
        assert float((a - b).norm() / b.norm()) < (0.15 if low else 1e-4)


def test_dropout_of_a_network_by_kernels() -> None:
    """Seeded steps repeat, different seeds differ, and the mean of many is what none would give."""
    config = ModelConfig(genes=5, channels=16, time_channels=128, dropout=0.1)
    torch.manual_seed(3)
    model = TeraMind(config).train()
    block = model.unet.decoder[0].res
    torch.nn.init.normal_(block.conv2.weight, std=0.05)
    parts = [torch.randn(1, 8, 8, 2, n) for n in (128, 128)]
    parts.append(torch.randn(1, 4, 4, 2, 5))
    time = torch.randn(1, 128)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        out: Tensor = block(parts, time)
        return out.detach()

    with kernels.using("compiled"):
        assert torch.equal(run(1), run(1))
        assert not torch.equal(run(1), run(2))
        mean = torch.stack([run(seed) for seed in range(200)]).mean(0)
        block.eval()
        whole = run(1)
    spread = float((run(1) - mean).std() / whole.std())
    assert spread < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_norms_and_gelu(form: str, dtype: torch.dtype) -> None:
    tolerance = (
        {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 1e-2}
    )
    norm, mlp = RMSNorm(40).to(dtype), MLP(40).to(dtype)
    torch.nn.init.normal_(norm.weight)
    for shape in ((3, 7, 40), (2, 4, 6, 2, 40)):
        x = torch.randn(shape).to(dtype).requires_grad_()
        expected = F.rms_norm(x.double(), (40,), norm.weight.double(), eps=1e-6)
        hidden = mlp.fc1(x)
        activated = F.gelu(hidden.double(), approximate="tanh")
        out = F.linear(activated, mlp.fc2.weight.double(), mlp.fc2.bias.double())
        with torch.inference_mode():
            torch.testing.assert_close(norm(x).double(), expected, **tolerance)
            torch.testing.assert_close(mlp(x).double(), out, **tolerance)
        cases = [
            (norm(x), expected, [x, norm.weight]),
            (mlp(x), out, [x, *mlp.parameters()]),
        ]
        for found, wanted, inputs in cases:
            torch.testing.assert_close(found.double(), wanted, **tolerance)
            grad = torch.randn(found.shape).to(dtype)
            got = torch.autograd.grad(found, inputs, grad)
            right = torch.autograd.grad(wanted, inputs, grad.double())
            for a, b in zip(got, right, strict=True):
                error = float((a.double() - b.double()).norm() / b.double().norm())
                assert error < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("values", [[0.0, -0.0, 1e15, -1e15], [90.0, -90.0, 3e-39, 1e-20]])
def test_values_far_out(values: list[float]) -> None:
    """No overflow in the exponent, no NaN; a NaN stays one and stays in its row."""
    x = torch.tensor(values).repeat(2, 5)
    torch.testing.assert_close(native.gelu(x), F.gelu(x, approximate="tanh"), atol=1e-6, rtol=1e-5)
    x[0, 3] = torch.nan
    shape = (2, 1, 1, 1, x.shape[-1])
    out = native.norm([native.Part(x.view(shape))], shape, 50 * torch.ones(x.shape[-1]))
    assert out.view_as(x)[0].isnan().all()
    expected = reference(x[1:], 50 * torch.ones(x.shape[-1]), None).float()
    torch.testing.assert_close(out.view_as(x)[1:], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("channels", "patch", "features"),
    [
        (4, 32, (8, 6, 4)),  # most of it is left to torch
        (16, 32, (32, 24, 16)),  # blocks that keep the number of channels add a row of two tensors
        (16, 64, (20, 10, 5)),
        (36, 32, (20, 10, 5)),
    ],
)
def test_the_whole_network(
    channels: int, patch: int, features: tuple[int, int, int], threads: int
) -> None:
    """Fused, the network says what it says with torch's operations, whatever the batch."""
    torch.manual_seed(0)
    config = ModelConfig(
        genes=7, patch=patch, channels=channels, time_channels=24, gene_channels=features
    )
    model = TeraMind(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    genes = torch.rand(3, 7, config.gene_slices, config.bins, config.bins)
    x = torch.randn(3, patch, patch, 2, 2)
    time = model.time_embedding(torch.tensor([300]))

    def run(some: slice) -> Tensor:
        return model.decode(model.encode(x[some], model.gene_features(genes[some]), time), time)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = run(slice(None)).detach()
        with torch.inference_mode(), kernels.using("compiled"):
            found, alone = run(slice(None)), run(slice(1, 2))
    finally:
        torch.set_num_threads(before)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(alone[0], expected[1], atol=1e-4, rtol=1e-3)


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
    assert kernels.decide("auto", "cpu") == kernels.decide("compiled", "cpu") == "compiled"
    assert kernels.decide("eager", "cpu") == "eager"
    assert kernels.decide("auto", "cuda:1") == "eager"
    assert kernels.decide("compiled", "cuda:1") == "compiled"
    native.library.cache_clear()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert kernels.decide("auto", "cpu") == "eager"
    with pytest.raises(UserError, match=r"need a C\+\+ compiler and none was found"):
        kernels.decide("compiled", "cpu")


def test_a_compiler_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 3\n")
    broken.chmod(0o755)
    native.library.cache_clear()
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    with caplog.at_level("INFO"):
        assert kernels.decide("auto", "cpu") == "eager"
    assert "cannot compile the kernels (no such flag)" in caplog.text
    with pytest.raises(UserError, match=r"cannot compile the kernels \(no such flag\)"):
        kernels.decide("compiled", "cpu")
    assert not list((tmp_path / "cache").rglob("*.so"))
    monkeypatch.delenv("CXX")
    (tmp_path / "cache" / "kernels").rmdir()
    (tmp_path / "cache" / "kernels").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be kept in .*kernels"):
        kernels.decide("compiled", "cpu")
    monkeypatch.undo()
    assert kernels.decide("compiled", "cpu") == "compiled"

"""Muon beside torch's own, and on what that does not take."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_teramind.training.muon import Muon, orthogonal


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 1000))
def test_singular_values_come_near_one(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Singular values from 1 to 1/50.
    u, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    n = min(rows, columns)
    matrix = u[:, :n] @ torch.diag(torch.logspace(0, -1.7, n)) @ v[:, :n].T
    found = torch.linalg.svdvals(orthogonal(matrix))
    assert found.min() > 0.5
    assert found.max() < 1.3


def test_matrices_take_the_steps_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(12, 30)) for _ in range(2))
    mine = Muon([ours], lr=0.01)
    other = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0, adjust_lr_fn="match_rms_adamw", momentum=0.95
    )
    for _ in range(5):
        ours.grad = torch.randn(12, 30)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    # torch iterates in bfloat16.
    change = (theirs.detach() - 1).norm()
    assert (ours - theirs).norm() < 0.05 * change
    assert change > 0.01


def test_vectors_take_the_steps_of_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(7)) for _ in range(2))
    mine, adam = Muon([ours], lr=0.01), torch.optim.Adam([theirs], lr=0.01)
    for _ in range(4):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        mine.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_kernels_are_matrices_with_a_row_an_output_channel() -> None:
    torch.manual_seed(0)
    kernel, matrix = nn.Parameter(torch.ones(4, 3, 3, 3, 3)), nn.Parameter(torch.ones(4, 81))
    kernel.grad = torch.randn(4, 3, 3, 3, 3)
    matrix.grad = kernel.grad.flatten(1).clone()
    for p in (kernel, matrix):
        Muon([p], lr=0.01).step()
    torch.testing.assert_close(kernel.flatten(1), matrix)
    assert (kernel != 1).any()

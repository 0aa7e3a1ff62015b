"""Batches are the same whoever reads them, and reading ahead keeps to its bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_teramind.brain import BrainStore
from napari_teramind.model import ModelConfig
from napari_teramind.training import TrainConfig
from napari_teramind.training.loader import Batches, default_workers
from napari_teramind.training.loss import Batch
from napari_teramind.training.source import DRAWS, STREAMS, SampleSource, common_panel


def source(brain: BrainStore, **settings: object) -> SampleSource:
    train = TrainConfig(patch=32, **settings)  # type: ignore[arg-type]
    panel = common_panel([brain], None)
    return SampleSource([brain], panel, ModelConfig(genes=len(panel), patch=32), train)


def assert_same(one: Batch, other: Batch) -> None:
    for name in ("noisy", "target", "genes", "mask", "t"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_workers_make_no_difference(tiny_brain: BrainStore) -> None:
    taken: dict[int, list[Batch]] = {}
    for workers in (0, 2):
        with Batches(source(tiny_brain, batch=3), 7, range(3), workers) as batches:
            # Further than a block lasts, so that blocks are replaced on the way.
            taken[workers] = list(batches.take(DRAWS + 3))
    for one, other in zip(taken[0], taken[2], strict=True):
        assert_same(one, other)


def test_a_batch_is_the_same_wherever_reading_begins(tiny_brain: BrainStore) -> None:
    with Batches(source(tiny_brain), 0, range(8)) as batches:
        *_, late = batches.take(40)
    with Batches(source(tiny_brain), 39, range(8)) as batches:
        (again,) = batches.take(1)
    assert_same(late, again)


def test_processes_share_a_batch_out(tiny_brain: BrainStore) -> None:
    with Batches(source(tiny_brain), 5, range(8)) as batches:
        (whole,) = batches.take(1)
    for rank in range(4):
        with Batches(source(tiny_brain), 5, range(rank, 8, 4)) as batches:
            (part,) = batches.take(1)
        for name in ("noisy", "target", "genes", "mask", "t"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rank::4]), name


@pytest.mark.parametrize("batch", [1, 3, 8, 20])
def test_a_batch_mixes_blocks_that_are_replaced_in_turn(tiny_brain: BrainStore, batch: int) -> None:
    blocks = source(tiny_brain, batch=batch)
    streams = min(STREAMS, batch)
    keys = [blocks.block_key(n) for n in range(batch * 4 * DRAWS)]
    for evaluation in range(0, len(keys), batch):
        assert len({stream for stream, _ in keys[evaluation : evaluation + batch]}) == streams
    drawn = {key: keys.count(key) for key in set(keys)}
    whole = [n for (s, b), n in drawn.items() if 0 < b < max(k for t, k in drawn if t == s)]
    assert set(whole) == {DRAWS}
    # Every stream goes through its blocks in order and never comes back to one.
    for stream in range(streams):
        numbers = [b for s, b in keys if s == stream]
        assert numbers == sorted(numbers)
        assert numbers[0] == 0


def test_a_failure_while_reading_is_told(tiny_brain: BrainStore) -> None:
    nowhere = source(tiny_brain, exclude=(0, 256, 0, 384))
    with (
        Batches(nowhere, 0, range(8)) as batches,
        pytest.raises(Exception, match="No training crop"),
    ):
        list(batches.take(1))


def test_beside_a_gpu_processes_read() -> None:
    assert default_workers("cpu") == 0
    assert 1 <= default_workers("cuda") <= 4


def test_blocks_keep_the_store_s_type(tiny_brain: BrainStore) -> None:
    block = source(tiny_brain).read((0, 0))
    assert block.genes.dtype == np.float16
    assert block.stains.dtype == np.uint8

"""Maps that are written shard by shard: damaged, on a full disk, begun twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.brain.layout import BIN, Channel, Placement
from napari_teramind.brain.maps import MapWriter
from napari_teramind.errors import UserError
from simulations import full_disk

SHAPE = (2, 3, 24, 40)
TILE = 16
UNITS = [(z, row, column) for z in range(3) for row in range(2) for column in range(3)]


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


@pytest.fixture
def brain(brain_copy: Path) -> BrainStore:
    return open_brain(brain_copy)


def begin(brain: BrainStore, version: int = 0) -> MapWriter:
    return MapWriter.begin(
        brain,
        "attention",
        "m",
        shape=SHAPE,
        channels=[Channel("A"), Channel("B")],
        placement=Placement(brain.pixel_size, BIN),
        identity={"version": version},
        tile=TILE,
    )


def fill(writer: MapWriter, values: np.ndarray) -> None:
    for z, row, column in UNITS:
        if (z, row, column) not in writer.done:
            ys, xs = (slice(k * TILE, (k + 1) * TILE) for k in (row, column))
            writer.write((z, row, column), values[:, z, ys, xs])


def finished(brain: BrainStore, values: np.ndarray) -> list[np.ndarray]:
    """Go on until the end; return all levels."""
    writer = begin(brain)
    fill(writer, values)
    writer.publish({}, {})
    levels = [np.asarray(level[:]) for level in brain.attention["m"].levels]
    np.testing.assert_array_equal(levels[0], values)
    return levels


def shards(brain: BrainStore) -> list[Path]:
    """Files of the finest level of what is not complete."""
    (partial,) = Path(brain.path, "attention").glob(".*")
    return sorted(path for path in (partial / "0" / "c").rglob("*") if path.is_file())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def spoil(path: Path) -> None:
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def exchange(path: Path) -> None:
    path.write_bytes(path.with_name("0" if path.name != "0" else "1").read_bytes())


@pytest.mark.parametrize("damage", [cut, spoil, empty, exchange, Path.unlink])
def test_a_damaged_shard_is_found_and_written_again(
    brain: BrainStore, values: np.ndarray, damage: Callable[[Path], None]
) -> None:
    writer = begin(brain)
    fill(writer, values)
    writer.release()
    damage(shards(brain)[4])
    again = begin(brain)
    assert len(again.done) == len(UNITS) - 1
    again.release()
    finished(brain, values)


def test_a_full_disk_stops_cleanly_and_the_next_run_goes_on(
    brain: BrainStore, values: np.ndarray
) -> None:
    writer = begin(brain)
    with full_disk(7), pytest.raises(UserError, match="is full; free some space, then start it"):
        fill(writer, values)
    writer.release()
    assert list(brain.attention) == []
    again = begin(brain)
    assert len(again.done) == 7
    fill(again, values)
    with full_disk(3), pytest.raises(UserError, match="is full"):  # in the coarser levels
        again.publish({}, {})
    again.release()
    assert list(brain.attention) == []
    levels = finished(brain, values)
    means = values.reshape(2, 3, 12, 2, 20, 2).mean((3, 5))
    np.testing.assert_allclose(levels[1], means, rtol=1e-6)


def test_a_ledger_spoilt_by_a_crash_costs_only_its_spoilt_lines(
    brain: BrainStore, values: np.ndarray
) -> None:
    writer = begin(brain)
    fill(writer, values)
    writer.release()
    (ledger,) = Path(brain.path, "attention").glob(".*/ledger.jsonl")
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([*lines[:5], b"\0\0\xff\n", b"7\n", lines[6], lines[7][:9]]))
    again = begin(brain)
    assert len(again.done) == 6
    again.write(UNITS[7], values[:, 1, :TILE, TILE : 2 * TILE])
    again.release()
    assert len(begin(brain).done) == 7


def test_one_run_a_name(brain: BrainStore, values: np.ndarray) -> None:
    writer = begin(brain)
    for version in (0, 1):
        with pytest.raises(UserError, match="Another run is writing 'm'"):
            begin(brain, version)
    writer.release()
    finished(brain, values)
    with pytest.raises(UserError, match="a result 'm' in attention already"):
        begin(brain, version=1)

"""What a run says it will take, before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_teramind.brain import BrainStore
from napari_teramind.jobs import SimulateSpec, run_job
from napari_teramind.jobs.events import Event, Planned
from napari_teramind.model import TeraMind
from napari_teramind.simulate import Request, lay_out
from napari_teramind.simulate import calibrate as calibrate_module
from napari_teramind.simulate import tissue as tissue_module
from napari_teramind.simulate.calibrate import seconds_per_evaluation
from napari_teramind.simulate.region import PatchBox


@pytest.fixture
def planned(small_copy: Path, checkpoint: Path) -> Callable[..., Planned]:
    """Return what a job of a small region says before it starts."""

    def run(**fields: Any) -> Planned:
        events: list[Event] = []
        spec = SimulateSpec(
            brain=str(small_copy), checkpoint=checkpoint, roi=(0, 64, 0, 64), steps=1, halo=0,
            **{"slices": (0, 2), **fields},
        )  # fmt: skip
        assert run_job(spec, events.append) == 0, events[-1]
        return next(event for event in events if isinstance(event, Planned))

    return run


def test_a_dry_run_measures_the_time(planned: Callable[..., Planned]) -> None:
    told = planned(dry_run=True)
    assert told.details["seconds"] > 0
    assert told.text.endswith("a few seconds")
    assert told.details["evaluations"] == 4


def test_a_short_run_does_not_wait_for_a_measurement(
    planned: Callable[..., Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[object] = []

    def pace(*arguments: object) -> float:
        measured.append(arguments)
        return 100.0

    monkeypatch.setattr(calibrate_module, "seconds_per_evaluation", pace)
    told = planned()
    assert measured == []
    assert told.details["seconds"] is None
    assert told.text.endswith("on disk")
    monkeypatch.setattr(calibrate_module, "WORTH", 0.5)  # 4 patches are half a batch
    assert planned().details["seconds"] == 400.0


def test_a_run_reads_every_mask_once(
    planned: Callable[..., Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, groups = tissue_module.tissue_patches, []

    def counted(brain: BrainStore, area: PatchBox, patch: int, slices: tuple[int, int]) -> Any:
        groups.append(slices)
        return real(brain, area, patch, slices)

    monkeypatch.setattr(tissue_module, "tissue_patches", counted)
    assert planned(slices=(0, 4)).details["evaluations"] == 8
    assert groups == [(0, 2), (2, 4)]


def test_a_measurement_of_a_slow_network_ends(
    small_brain: BrainStore, network: TeraMind, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = TeraMind.decode, []

    def slow(self: TeraMind, parts: Any, *more: Any) -> Any:
        sizes.append(parts.middle.shape[0])
        time.sleep(0.05 * parts.middle.shape[0])
        return real(self, parts, *more)

    monkeypatch.setattr(TeraMind, "decode", slow)
    layout = lay_out(small_brain, network.config, Request((0, 64, 0, 64), (0, 2), steps=1))
    assert seconds_per_evaluation(network, layout, longest=0) >= 0.05
    assert sizes == [1]
    assert seconds_per_evaluation(network, layout, longest=0.3) >= 0.05
    assert 1 < len(sizes) <= 4
    assert max(sizes) == 1  # a batch of 8 would take 0.4 s
    assert seconds_per_evaluation(network, layout, longest=60) >= 0.05
    assert sizes[-1] == 8

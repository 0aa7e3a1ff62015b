"""Viewers, panels and fake jobs for the widget tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from napari.layers import Layer
from napari.settings import get_plugin_settings
from qtpy.QtCore import QSettings

from napari_teramind.brain import open_brain
from napari_teramind.jobs import process
from napari_teramind.jobs.warm import close_worker
from napari_teramind.model import ModelConfig
from napari_teramind.plugin.layers import stain_layers
from napari_teramind.widgets import getting, phantom, running, settings, timing, train_runs
from napari_teramind.widgets.checkpoints import Checkpoints, Facts
from napari_teramind.widgets.simulate import SimulateWidget
from napari_teramind.widgets.train import TrainWidget

FAKE = Path(__file__).with_name("fake_job.py")


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests out of the user's choices and data."""
    kind, scope = QSettings.Format.IniFormat, QSettings.Scope.UserScope
    QSettings.setPath(kind, scope, str(tmp_path / "config"))
    monkeypatch.setattr(settings, "checkpoint_folder", lambda: tmp_path / "checkpoints")
    monkeypatch.setattr(getting, "jobs_folder", lambda: tmp_path / "download-jobs")
    monkeypatch.setattr(settings, "phantom_folder", lambda: tmp_path / "phantoms")
    monkeypatch.setattr(phantom, "SIZE", "XS")


@pytest.fixture(autouse=True, scope="session")
def own_preferences() -> None:
    """Keep the tests out of the user's preferences."""
    get_plugin_settings(path_dir=None)


@pytest.fixture(autouse=True, scope="session")
def no_worker_stays() -> Iterator[None]:
    """Let the worker of the last test end."""
    yield
    close_worker()


@pytest.fixture
def fake_job(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let every job be a small program that behaves as asked for; see `fake_job.py`."""

    def become(behaviour: str) -> None:
        monkeypatch.setattr(running, "run_warm", lambda spec, folder, idle_seconds: None)
        monkeypatch.setattr(
            process,
            "job_command",
            lambda folder: [sys.executable, str(FAKE), behaviour, str(folder)],
        )

    return become


@pytest.fixture
def known_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkpoint that is chosen already and need not be read."""
    path = tmp_path / "checkpoints" / "small.safetensors"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setattr(timing, "SETTLE_MS", 10**7)  # nothing to measure in an empty file
    facts = Facts(ModelConfig(genes=12, channels=4, time_channels=32), None)
    monkeypatch.setattr(Checkpoints, "facts", lambda self: facts)
    return path


@pytest.fixture
def panel(make_napari_viewer, brain_copy: Path, known_checkpoint: Path) -> SimulateWidget:
    """The Simulate panel of a shown viewer, on a brain of the test's own."""
    viewer = make_napari_viewer(show=True)
    for layer in stain_layers(open_brain(brain_copy)):  # the others would only cost time
        viewer.add_layer(Layer.create(*layer))
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Simulate")
    return panel


@pytest.fixture
def draw() -> Callable[[SimulateWidget, tuple[int, int, int, int]], None]:
    """Draw a rectangle in a panel's viewer as the user does, but for the mouse."""

    def drawn(panel: SimulateWidget, roi: tuple[int, int, int, int]) -> None:
        panel.where.where.draw_button.click()
        layer = panel.session.viewer.layers["ROI"]
        y0, y1, x0, x1 = ((v - 0.5) * 0.108 for v in roi)
        layer.add([[y0, x0], [y0, x1], [y1, x1], [y1, x0]], shape_type="rectangle")

    return drawn


@pytest.fixture
def small_roi(panel: SimulateWidget, draw) -> tuple[int, int, int, int]:
    """Draw a rectangle of 64 x 64 px in the panel's viewer."""
    draw(panel, (64, 128, 100, 164))
    return (64, 128, 100, 164)


@pytest.fixture
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep runs in the test's folder, and leave none behind."""
    monkeypatch.setattr(train_runs, "runs_folder", lambda: tmp_path / "runs")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    for run in (tmp_path / "runs").glob("*"):
        train_runs.stop_now(run)
    train_runs.reap()


@pytest.fixture
def make_train_panel(
    make_napari_viewer, brain_copy: Path, own_runs: None
) -> Callable[[], TrainWidget]:
    """Make shown viewers with a Train panel, on a brain of the test's own."""

    def make() -> TrainWidget:
        viewer = make_napari_viewer(show=True)
        for layer in stain_layers(open_brain(brain_copy)):
            viewer.add_layer(Layer.create(*layer))
        _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Train")
        return panel

    return make


@pytest.fixture
def train_panel(make_train_panel) -> TrainWidget:
    """The Train panel of a shown viewer."""
    return make_train_panel()

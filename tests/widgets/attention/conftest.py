"""Attention panels, with networks and jobs as the tests need them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from napari.layers import Layer

from napari_teramind.brain import open_brain
from napari_teramind.jobs import process
from napari_teramind.jobs.detached import process_of
from napari_teramind.model import TeraMind, save_model
from napari_teramind.plugin.display import follow
from napari_teramind.plugin.layers import stain_layers, structure_layer
from napari_teramind.widgets import attention_jobs
from napari_teramind.widgets.attention import AttentionWidget

from .panels import LONG, PAIR, attention_layers

SLOW = """
import json, time
event = {"event": "progress", "message": "Thinking", "done": 1, "total": 9, "seconds_left": 240.0}
print(json.dumps(event), flush=True)
time.sleep(120)
"""


@pytest.fixture(autouse=True)
def own_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep jobs in the test's folder, and leave none behind."""
    monkeypatch.setattr(attention_jobs, "jobs_folder", lambda: tmp_path / "jobs")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    for job in (tmp_path / "jobs").glob("*"):
        pid = process_of(job).get("pid")
        if pid is not None and psutil.pid_exists(int(str(pid))):
            psutil.Process(int(str(pid))).kill()


@pytest.fixture
def slow_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every job tell progress once, and then take its time."""
    monkeypatch.setattr(process, "job_command", lambda folder: [sys.executable, "-c", SLOW])


@pytest.fixture(scope="module")
def checkpoint(make_network: Callable[..., TeraMind], tmp_path_factory) -> Path:
    """A network of four gene slices for eight genes of the tiny brain, in another order."""
    network = make_network(genes=8, patch=64)
    network.gene_names = ("Pvalb", "Th", "Nr4a2", "Gad2", "Gad1", "Slc17a6", "Slc17a7", "Mog")
    network.sha256 = "0" * 64
    return save_model(network, tmp_path_factory.mktemp("net") / "net.safetensors")


@pytest.fixture
def make_panel(make_napari_viewer, brain_copy: Path) -> Callable[[], AttentionWidget]:
    def make() -> AttentionWidget:
        viewer = make_napari_viewer(show=True)
        follow(viewer)
        brain = open_brain(brain_copy)
        for layer in [*stain_layers(brain), structure_layer(brain)]:
            viewer.add_layer(Layer.create(*layer))
        _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Attention")
        return panel

    return make


@pytest.fixture
def panel(make_panel, known_checkpoint: Path) -> AttentionWidget:
    """The panel with a checkpoint that need not be read."""
    return make_panel()


@pytest.fixture
def real_panel(make_panel, checkpoint: Path, qtbot) -> AttentionWidget:
    panel = make_panel()
    panel.session.checkpoints.choose(str(checkpoint))
    qtbot.waitUntil(lambda: panel.session.checkpoints.facts() is not None, timeout=LONG)
    return panel


@pytest.fixture
def computed(real_panel, qtbot) -> AttentionWidget:
    """A panel with a result, computed in this process."""
    from napari_teramind import load_model
    from napari_teramind.attention import attention_to_store

    panel = real_panel
    network = load_model(panel.session.checkpoints.current)
    attention_to_store(panel.session.brain, network, "Nr4a2-Th", [PAIR])
    panel.results.take("Nr4a2-Th")
    qtbot.waitUntil(lambda: bool(attention_layers(panel)), timeout=LONG)
    return panel

"""Measure how napari's event loop keeps its beat while a training runs and the panel shows it.

Run ``python benchmarks/train_heartbeat.py``: a tiny brain, a real window (on Linux on a virtual
display), a timer that fires every 10 ms. Stretches with a running training take turns with quiet
ones, and with ones in which only a word in the status bar changes twice a second: a window with an
OpenGL canvas is put together anew for that too, which without a graphics card takes its time. The
training is paused meanwhile. Reported are the longest and the 99th percentile of the gaps between
two beats.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    import napari

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

BEAT_MS = 10


def make_brain(folder: Path) -> Path:
    """Make a brain of noise, just large enough."""
    from napari_teramind.brain import BrainWriter

    rng = np.random.default_rng(0)
    genes = ["Th", "Gad1", "Mog"]
    path = folder / "tiny.zarr"
    with BrainWriter.create(path, name="tiny", shape=(4, 512, 512), genes=genes) as writer:
        for z in range(4):
            writer.write_stains(z, 0, 0, rng.integers(0, 255, (2, 512, 512), dtype=np.uint8))
            writer.write_genes(z, 0, 0, rng.poisson(1.0, (3, 32, 32)))
    return path


def gaps_ms(seconds: float) -> list[float]:
    """Let the event loop run and return the gaps between beats, in ms."""
    from qtpy.QtCore import QEventLoop, Qt, QTimer

    beats: list[float] = []
    timer, loop = QTimer(), QEventLoop()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(lambda: beats.append(time.perf_counter()))
    timer.start(BEAT_MS)
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()
    timer.stop()
    return [1000 * float(gap) for gap in np.diff(beats)]


def measure(folder: Path, turns: int, seconds: float) -> dict[str, Any]:
    """Take turns between a quiet window and one that shows a running training."""
    import napari

    from napari_teramind.widgets import train_runs
    from napari_teramind.widgets.train import TrainWidget
    from screenshots import keep_choices_in, settle

    keep_choices_in(folder / "choices")
    viewer = napari.Viewer()
    viewer.open(str(make_brain(folder)), plugin="napari-teramind")
    panel = TrainWidget(viewer)
    viewer.window.add_dock_widget(panel, name="Train", area="right")
    panel.what.hold_out.setCurrentIndex(panel.what.hold_out.findData("nothing"))
    panel.settings.channels.setValue(4)
    panel.settings.patch.setCurrentText("32")
    panel.settings.batch.setValue(2)
    panel.settings.folder.setText(str(folder / "run"))
    panel.how.steps.setValue(100_000)
    panel.start()
    watch = panel.watch
    assert watch is not None
    settle(until=lambda: watch.view.record is not None and watch.view.record.step > 5)
    record = json.loads((folder / "run" / "status.json").read_text())
    process = psutil.Process(record["pid"])
    gaps: dict[str, list[list[float]]] = {"quiet": [], "repainted": [], "training": []}
    for _ in range(turns):
        process.suspend()
        settle(1)
        gaps["quiet"].append(gaps_ms(seconds))
        with repainting(viewer):
            gaps["repainted"].append(gaps_ms(seconds))
        process.resume()
        settle(1)
        gaps["training"].append(gaps_ms(seconds))
    train_runs.stop_now(folder / "run")
    settle(until=lambda: not watch.view.is_going)
    viewer.close()
    return {
        kind: {
            "longest_gap_ms": round(statistics.median(max(turn) for turn in found), 1),
            "p99_gap_ms": round(float(np.percentile(np.concatenate(found), 99)), 1),
            "longest_of_each_turn_ms": [round(max(turn), 1) for turn in found],
        }
        for kind, found in gaps.items()
    }


@contextmanager
def repainting(viewer: napari.Viewer) -> Iterator[None]:
    """Change a word in the window twice a second, as any progress does."""
    from qtpy.QtCore import QTimer

    timer = QTimer()
    timer.timeout.connect(lambda: setattr(viewer, "status", f"{time.monotonic():.1f}"))
    timer.start(500)
    yield
    timer.stop()


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "train_heartbeat.json"
    )
    args = parser.parse_args()
    from demo_picture import virtual_display

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="heartbeat-") as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        with virtual_display():
            result = measure(Path(folder), args.turns, args.seconds)
    result = {"what": "gaps between beats of a 10 ms timer, medians of turns", **result}
    result |= {"cores": psutil.cpu_count(), "load": [round(n, 1) for n in psutil.getloadavg()]}
    print(json.dumps(result, indent=1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

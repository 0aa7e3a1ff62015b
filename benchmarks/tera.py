"""Measure opening and panning a store of the shape of a real brain in napari.

Run ``python benchmarks/tera.py``: 50 slices of 73,216 x 105,984 px, two stains and 229 genes; all
coarse levels and one field at full resolution are filled, the rest is absent, as in a brain that is
being made. It is opened in a real window (on Linux on a virtual display), in a process of its own.
Reported are the seconds until the layers are there and until they are drawn, beside those that
napari itself takes for as many tiny images with units and a scale bar; those until one more gene is
there; the memory that the process took for it; and what is read while the user pans at full
resolution, beside what a window full of pixels takes uncompressed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
SHAPE = (50, 73_216, 105_984)
GENES = 229
FIELD = 16_384
COARSE = 2_400
"""Levels of at most so many pixels on the shorter side are filled."""
PANS = 10


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="where to keep the store; default: nowhere")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tera.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.control)))
        return
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "tera.zarr"
        if not store.exists():
            print(f"Making {store} ...", flush=True)
            make(store)
        command = [sys.executable, __file__, "--child", str(store)]
        environment = {**os.environ, "NAPARI_CONFIG": str(Path(folder) / "napari.yaml")}
        results = {}
        for kind, more in (("napari alone", ["--control"]), ("brain", [])):
            done = subprocess.run(
                [*command, *more], capture_output=True, text=True, check=True, env=environment
            )
            results[kind] = json.loads(done.stdout.splitlines()[-1])
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    for name, value in results.items():
        print(f"{name}: {value}")
    print(options.out)


def make(path: Path) -> None:
    """Write the store: its metadata, its coarse levels, a field at full resolution."""
    import zarr

    from napari_teramind.brain import BrainWriter, open_brain

    symbols = ["Th", "Nr4a2", "Slc17a6", "Slc17a7", *(f"G{i:03}" for i in range(GENES - 4))]
    with BrainWriter.create(path, name="tera", shape=SHAPE, genes=symbols):
        pass
    brain = open_brain(path)
    rng = np.random.default_rng(0)
    for image, limit in ((brain.stains, COARSE), (brain.genes, COARSE // 16)):
        for level in image.levels:
            array = zarr.open_array(path, path=level.path, mode="r+")
            if min(array.shape[-2:]) <= limit:
                fill(array, (0, 0), array.shape[-2:], range(array.shape[1]), rng)
    array = zarr.open_array(path, path=brain.stains.levels[0].path, mode="r+")
    fill(array, corner(), (FIELD, FIELD), [SHAPE[0] // 2], rng)


def corner() -> tuple[int, int]:
    """Upper left corner of the field at full resolution: in the middle, on whole shards."""
    return (SHAPE[1] - FIELD) // 2 // 4096 * 4096, (SHAPE[2] - FIELD) // 2 // 4096 * 4096


def fill(
    array: Any,
    start: tuple[int, ...],
    size: tuple[int, ...],
    slices: Any,
    rng: np.random.Generator,
) -> None:
    """Fill a rectangle of all channels of some slices, shard by shard, with the same noise."""
    side = (array.shards or array.chunks)[-1]
    high = 200 if array.dtype == np.uint8 else 5
    noise = rng.integers(1, high, (array.shape[0], side, side)).astype(array.dtype)
    end = [first + length for first, length in zip(start, size, strict=True)]
    for z in slices:
        for y in range(start[0], end[0], side):
            for x in range(start[1], end[1], side):
                rows, columns = min(side, end[0] - y), min(side, end[1] - x)
                array[:, z, y : y + rows, x : x + columns] = noise[:, :rows, :columns]


def add_tiny_images(viewer: Any) -> None:
    """Add as many images as the brain has, of almost no pixels."""
    viewer.scale_bar.visible = True
    for _ in range(6):
        image = np.ones((SHAPE[0], 8, 8), np.uint8)
        units = ("um", "um", "um")
        viewer.add_image(image, scale=(100, 900, 900), units=units, blending="additive")


def measure(path: Path, control: bool) -> dict[str, Any]:
    """Open the store in a window, add a gene, and pan; or only see what napari itself takes."""
    sys.path.insert(0, str(HERE.parent / "scripts"))
    from demo_picture import virtual_display

    with virtual_display():
        import napari

        viewer = napari.Viewer()
        viewer.window.resize(1280, 800)
        settle(2)
        if control:
            opened = timed(lambda: add_tiny_images(viewer))
            drawn = timed(lambda: draw(viewer))
            viewer.close()
            return {"open": round(opened, 3), "first picture": round(drawn, 3)}
        before = memory()
        opened = timed(lambda: viewer.open(str(path), plugin="napari-teramind"))
        drawn = timed(lambda: draw(viewer))
        from napari_teramind.widgets.opening import show_gene
        from napari_teramind.widgets.session import session_of

        session = session_of(viewer)
        gene = timed(lambda: (show_gene(session, "G100"), draw(viewer)))
        took = memory() - before
        result = {
            "seconds to open": round(opened, 3),
            "seconds to the first picture": round(drawn, 3),
            "seconds to add a gene": round(gene, 3),
            "MB taken": round(took / 1e6),
            "MB of a window full of pixels": round(window_mb(viewer), 2),
            "pans": pan(viewer),
            "MB taken after panning": round((memory() - before) / 1e6),
            "MB of the process": round(memory() / 1e6),
        }
        viewer.close()
    return result


def pan(viewer: Any) -> list[dict[str, Any]]:
    """Pan at full resolution over the field, and count what is read for it."""
    layer = viewer.layers["DAPI"]
    for other in viewer.layers:
        other.visible = other is layer
    scale = layer.scale[-1]
    y, x = corner()
    viewer.dims.set_point(0, SHAPE[0] // 2 * layer.scale[0])
    viewer.scene.camera.zoom = 1 / scale
    draw(viewer)
    process = psutil.Process()
    found = []
    for i in range(1, PANS + 1):
        place = (y + 4000 + 700 * i, x + 4000 + 700 * i)
        before = process.io_counters().read_chars
        viewer.scene.camera.center = tuple(c * scale for c in place)
        seconds = timed(lambda: draw(viewer))
        read = process.io_counters().read_chars - before
        assert layer.data_level == 0
        found.append({"seconds": round(seconds, 3), "MB read": round(read / 1e6, 2)})
    return found


def window_mb(viewer: Any) -> float:
    """Return the size of what the canvas shows at full resolution, in whole chunks of 512 px."""
    height, width = viewer.screenshot(canvas_only=True, flash=False).shape[:2]
    return (height // 512 + 2) * (width // 512 + 2) * 512 * 512 / 1e6


def draw(viewer: Any) -> None:
    """Wait until the canvas shows something: what is read is read while events are handled."""
    settle(0)
    picture = viewer.screenshot(canvas_only=True, flash=False)
    if not picture[..., :3].any():
        raise RuntimeError("the canvas stayed black")


def settle(seconds: float) -> None:
    """Let the window handle its events."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    QApplication.processEvents()
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def timed(function: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def memory() -> int:
    """Resident bytes of this process."""
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()

"""Measure how long somebody waits who clicks Generate on a small region.

``python benchmarks/interactive.py [BRAIN]`` copies a brain (default: makes a phantom of size S),
and has a worker generate 256 x 256 px x 2 slices of it with the packaged network, as the Simulate
panel does: quick surround, 8 steps. Told are the seconds from the click to the first preview and to
the end: for the first click, which starts the worker; for a second one with another seed; for a
knock-out in a square of 128 px, with the states of the run before at hand, and without them; and
for the published number of steps.

Results go to ``benchmarks/results/interactive.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import machine

from napari_teramind.jobs import Failed, Preview, build_spec
from napari_teramind.jobs.events import Progress
from napari_teramind.jobs.warm import close_worker, run_warm
from napari_teramind.phantom import make_phantom

RESULTS = Path(__file__).parent / "results" / "interactive.json"
SIDE = 256


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("brain", type=Path, nargs="?")
    parser.add_argument("--corner", type=int, nargs=2, default=(1024, 1024))
    parser.add_argument("--slice", type=int, default=2)
    parser.add_argument("--gene", default="Slc17a7")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TERAMIND_JOBS"] = str(Path(folder) / "jobs")
        brain = Path(folder) / "brain.zarr"
        if options.brain is None:
            make_phantom(brain, size="S")
        else:
            shutil.copytree(options.brain, brain)
        y, x = options.corner
        common = {
            "verb": "simulate", "brain": str(brain), "roi": (y, y + SIDE, x, x + SIDE),
            "slices": (options.slice, options.slice + 2), "steps": 8, "halo": 1, "overwrite": True,
        }  # fmt: skip
        square = ",".join(str(v) for v in (y + 64, y + 192, x + 64, x + 192))
        edit = {"seed": 1, "edits": [f"{options.gene}=0@{square}"]}
        runs = {
            "first click": {}, "second click, another seed": {"seed": 1},
            "a knock-out in 128 px": edit, "another seed, 15 steps": {"seed": 2, "steps": 15},
            "the knock-out, without states": edit,
        }  # fmt: skip
        results: dict[str, Any] = {"machine": machine.facts(), "runs": {}}
        for number, (title, fields) in enumerate(runs.items()):
            results["runs"][title] = measure(
                {**common, **fields, "name": f"run {number}"}, Path(folder) / str(number)
            )
            print(title, results["runs"][title], flush=True)
        close_worker()
    options.out.write_text(json.dumps(results, indent=2) + "\n")


def measure(fields: dict[str, Any], folder: Path) -> dict[str, float | int | None]:
    """Have the worker do a job; return the seconds and the patches that were evaluated."""
    folder.mkdir()
    began = time.perf_counter()
    job = run_warm(build_spec({**fields, "preview_folder": folder / "p"}, "A run"), folder)
    assert job is not None
    first, evaluations = None, 0
    for event in job.events(0.02):
        if isinstance(event, Failed):
            raise SystemExit(event.message)
        if isinstance(event, Preview) and first is None:
            first = round(time.perf_counter() - began, 2)
        if isinstance(event, Progress):
            evaluations = event.done
    return {
        "first_preview_s": first,
        "end_s": round(time.perf_counter() - began, 2),
        "evaluations": evaluations,
    }


if __name__ == "__main__":
    main()

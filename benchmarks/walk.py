"""Measure what holds the window while a user goes through the whole plugin, and take pictures.

``python benchmarks/walk.py`` has the walk of ``tests/widgets/test_walk.py`` done twice in a real
window (on Linux on a virtual display): with a timer that beats every 5 ms, and with Python's
profiler hook, which tells how long each call of this package took, without what napari did in it
and without the pixels that napari asked for. The hook makes everything slower: its figures are too
high rather than too low.

``--pictures docs/images`` keeps the pictures of the steps. Results go to
``benchmarks/results/walk.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "walk.json"
sys.path.insert(0, str(HERE.parent / "scripts"))


def main() -> None:
    """Walk, print and keep the results."""
    from demo_picture import virtual_display

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine.facts()}
    with tempfile.TemporaryDirectory(prefix="walk-") as name, virtual_display():
        folder = Path(name)
        for what in ("beats", "calls"):
            results[what] = walk(folder, what)
        if options.pictures is not None:
            for picture in folder.glob("*.png"):
                shutil.copy(picture, options.pictures / picture.name)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    for what in ("beats", "calls"):
        for step, found in results[what].items():
            print(f"{what}, {step}: {found}")


def walk(folder: Path, what: str) -> dict[str, Any]:
    """Have the walk done in a process of its own; return what it has measured."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "tests/widgets/test_walk.py"]
    named = {"TERAMIND_WALK": str(folder), "TERAMIND_WALK_MEASURES": what}
    done = subprocess.run(
        command, cwd=HERE.parent, env={**os.environ, **named}, check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    found: dict[str, Any] = json.loads((folder / f"{what}.json").read_text())
    return found


if __name__ == "__main__":
    main()

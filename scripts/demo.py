"""From nothing to a generated region: ``make demo``.

A phantom brain to generate, a second one to learn from, two minutes of training, a generated region
and a picture of it in a real napari window. Everything lies in ``demo/`` and goes through the
command line, as a user would do it. Until there is a packaged checkpoint the network is barely
trained, and the picture says so.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
ROI = (352, 736, 512, 896)
SLICES = (0, 2)
NAME = "barely trained"

TRAINING = """\
# A network as small as it gets, for as long as anyone wants to wait.
verb = "train"
brains = ["supp_m.zarr"]
genes = "main.zarr"
out = "run"
channels = 8
gene_slices = 1
patch = 32
crop = 64
batch = 2
prediction = "v"
learning_rate = 5e-4
warmup = 10
final_lr = 1.0
ema = 0.99
time_limit = {seconds}
"""

GENERATION = """\
verb = "simulate"
brain = "main.zarr"
checkpoint = "run/last.safetensors"
name = "{name}"
roi = {roi}
slices = {slices}
seed = 0
halo = 1
overwrite = true
"""


def teramind(*arguments: str | Path) -> None:
    """Run one command as the user would, and show it."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ teramind {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "napari_teramind", *words], check=True)


def main() -> None:
    """Make the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--size", default="XS", help="of the phantoms")
    parser.add_argument("--seconds", type=int, default=120, help="of training")
    options = parser.parse_args()

    began = time.monotonic()
    folder: Path = options.folder
    folder.mkdir(exist_ok=True)
    for animal in ("main", "supp_m"):
        store = folder / f"{animal}.zarr"
        teramind("phantom", "-o", store, "--animal", animal, "--size", options.size, "--overwrite")

    shutil.rmtree(folder / "run", ignore_errors=True)  # the demo's own, of last time
    (folder / "train.toml").write_text(TRAINING.format(seconds=options.seconds))
    teramind("run", folder / "train.toml")

    job = GENERATION.format(name=NAME, roi=list(ROI), slices=list(SLICES))
    (folder / "simulate.toml").write_text(job)
    teramind("run", folder / "simulate.toml")

    picture = folder / "demo.png"
    arguments = [folder / "main.zarr", NAME, picture]
    subprocess.run([sys.executable, SCRIPTS / "demo_picture.py", *map(str, arguments)], check=True)
    print(f"\nGenerated OME-Zarr: {folder / 'main.zarr' / 'simulations' / NAME}")
    print(f"Picture in napari:  {picture}")
    print(f"Look for yourself:  make napari ARGS={folder / 'main.zarr'}")
    print(f"The demo took {time.monotonic() - began:.0f} s without set-up.")


if __name__ == "__main__":
    main()

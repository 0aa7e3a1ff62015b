r"""Take a picture of a page, as a browser shows it: the report of a study, or a page of slices.

Usage::

    teramind reproduce studies/phantom.toml
    python scripts/page_picture.py build/reproduce/report.html --out docs/images/report.png \
        --top 5350 --shrink 1.6

Needs Chromium (``apt install chromium``).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, TALLEST = 1200, 9000


def shoot(page: Path, width: int = WIDTH) -> Image.Image:
    """Show a page in a window as tall as it is, and take its picture."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("Chromium is not installed: apt install chromium.")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--window-size={width},{TALLEST}",
                f"--screenshot={picture}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        image = Image.open(picture).convert("RGB")
    grey = np.asarray(image.convert("L"))
    rows = np.flatnonzero(grey.min(axis=1) != grey.max(axis=1))
    return image.crop((0, 0, width, min(TALLEST, int(rows[-1]) + 30)))


def main() -> None:
    """Take it, and keep it in few colours."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--top", type=int, default=TALLEST, help="rows of pixels to keep")
    parser.add_argument("--shrink", type=float, default=1.0)
    options = parser.parse_args()
    image = shoot(options.page)
    image = image.crop((0, 0, image.width, min(image.height, options.top)))
    sides = (round(image.width / options.shrink), round(image.height / options.shrink))
    image = image.resize(sides, Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(options.out, optimize=True)
    print(f"{options.out}: {image.width} x {image.height} px")


if __name__ == "__main__":
    main()

"""Train on a real MERSCOPE region without one quarter, generate that quarter, and compare.

Everything goes through the command line, as a user would do it. Prints PSNR and SSIM of the
generated quarter beside two baselines (the mean image of the other three quarters, and the same
network untrained) and writes the picture of the documentation.

    python scripts/real_region.py --data ../shared/data --minutes 8 --out build/real
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

HELD_OUT = (256, 512, 256, 512)
SEEDS = 2
TRAINING = """\
verb = "train"
brains = ["liver.zarr"]
out = "run"
exclude = {field}
time_limit = {seconds}
resume = {resume}
steps = 10000
channels = 8
batch = 2
crop = 192
prediction = "v"
learning_rate = 7e-4
warmup = 20
final_lr = 1.0
ema = 0.98
"""


def teramind(*arguments: str) -> None:
    """Run the command line; end if it fails."""
    subprocess.run([sys.executable, "-m", "napari_teramind", *arguments], check=True)


def prepare(data: Path, out: Path, minutes: float) -> tuple[Path, Path, Path]:
    """Import the region and train; returns the brain, the trained and the untrained network."""
    import napari_teramind as tm
    from napari_teramind.model import TeraMind, save_model

    brain, run = out / "liver.zarr", out / "run"
    if not brain.exists():
        region = data / "merscope_region" / "region_0"
        teramind("import", "merscope", str(region), "--stain", "PolyT=Cellbound2",
                 "--planes", "slices", "-o", str(brain))  # fmt: skip
    job = out / "train.toml"
    resume = str(run.exists()).lower()
    job.write_text(TRAINING.format(field=list(HELD_OUT), seconds=60 * minutes, resume=resume))
    teramind("run", str(job))
    trained = run / "last.safetensors"
    model = tm.load_model(trained)
    untrained = TeraMind(model.config)
    untrained.gene_names = model.gene_names
    return brain, trained, save_model(untrained, out / "untrained.safetensors")


def generate(brain: Path, checkpoint: Path, name: str, seed: int) -> np.ndarray:
    """Generate the held-out quarter of every slice: (stains, z, y, x) uint8."""
    import napari_teramind as tm

    teramind("simulate", str(brain), "--checkpoint", str(checkpoint), "--roi",
             ",".join(map(str, HELD_OUT)), "--name", name, "--seed", str(seed),
             "--overwrite")  # fmt: skip
    return np.asarray(tm.open_brain(brain).simulations[name].levels[0][:])


def scores(real: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """PSNR in dB and SSIM of each stain, means over slices."""
    result = {}
    for stain, name in enumerate(("DAPI", "PolyT")):
        pairs = list(zip(real[stain], image[stain], strict=True))
        psnr = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]
        ssim = [structural_similarity(a, b, data_range=255) for a, b in pairs]
        result |= {f"PSNR {name}": float(np.mean(psnr)), f"SSIM {name}": float(np.mean(ssim))}
    return result


def picture(real: np.ndarray, generated: np.ndarray, title: str, path: Path) -> None:
    """Draw real and generated quarters side by side, with a scale bar."""
    from PIL import Image, ImageDraw, ImageFont

    z, scale, gap, head = real.shape[1] // 2, 2, 12, 44
    side = real.shape[-1] * scale
    font = ImageFont.load_default(size=18)
    sheet = Image.new("RGB", (2 * side + 3 * gap, head + 2 * (side + gap + 26)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 12), title, "black", font)
    colours = {"DAPI": (0.35, 0.55, 1.0), "PolyT": (1.0, 0.6, 0.1)}
    for row, (stain, colour) in enumerate(colours.items()):
        for column, (words, image) in enumerate((("real", real), ("generated", generated))):
            rgb = (image[row, z][..., None] * np.array(colour)).astype(np.uint8)
            tile = Image.fromarray(rgb).resize((side, side), Image.Resampling.LANCZOS)
            x, y = gap + column * (side + gap), head + row * (side + gap + 26)
            draw.text((x, y), f"{stain}, {words}", "black", font)
            sheet.paste(tile, (x, y + 26))
            bar = round(10 / 0.108 * scale)
            bottom = y + 26 + side - 14
            draw.rectangle((x + side - bar - 12, bottom - 5, x + side - 12, bottom), "white")
            draw.text((x + side - bar - 12, bottom - 30), "10 um", "white", font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with merscope_region")
    parser.add_argument("--out", type=Path, default=Path("build/real"), help="working folder")
    parser.add_argument("--minutes", type=float, default=8, help="training time")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/real-region.png"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    import napari_teramind as tm

    path, trained, untrained = prepare(options.data, options.out, options.minutes)
    brain = tm.open_brain(path)
    real = brain.read_stains(HELD_OUT, (0, brain.shape[0]))
    whole = brain.read_stains((0, *brain.shape[1:2], 0, brain.shape[2]), (0, brain.shape[0]))
    seen = np.ones(whole.shape[2:], bool)
    seen[HELD_OUT[0] : HELD_OUT[1], HELD_OUT[2] : HELD_OUT[3]] = False
    mean = np.broadcast_to(
        whole[:, :, seen].mean(axis=(1, 2), keepdims=True)[..., None], real.shape
    ).astype(np.uint8)
    replicates = [generate(path, trained, f"held-out-{seed}", seed) for seed in range(SEEDS)]
    table = {
        "mean image": scores(real, mean),
        "untrained network": scores(real, generate(path, untrained, "untrained", 0)),
        "trained network, one sample": scores(real, replicates[0]),
        f"trained network, mean of {SEEDS}": scores(
            real, np.mean(replicates, axis=0).round().astype(np.uint8)
        ),
    }
    columns = list(table["mean image"])
    print(f"{'':32}" + "".join(f"{column:>12}" for column in columns))
    for row, values in table.items():
        print(f"{row:32}" + "".join(f"{values[column]:12.3f}" for column in columns))
    (options.out / "scores.json").write_text(json.dumps(table, indent=2))
    step = json.loads(trained.with_suffix(".json").read_text())["provenance"]["step"]
    title = f"Held-out quarter of a real MERSCOPE region (liver), {step} training steps"
    picture(real, replicates[0], title, options.picture)
    print(f"The picture is {options.picture}.")


if __name__ == "__main__":
    main()

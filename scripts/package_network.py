"""Put a training run's network into the package, in half precision, with its metrics.

    python scripts/package_network.py --run runs/phantom

writes ``src/napari_teramind/networks/phantom.safetensors``, the readable ``.json`` beside it, and
the run's metrics to ``checkpoints/phantom``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from napari_teramind.model import load_model, save_model

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "src" / "napari_teramind" / "networks" / "phantom.safetensors"
RECORDS = ROOT / "checkpoints" / "phantom"
LIMIT = 20_000_000


def without_folders(value: Any) -> Any:
    """Name files only: where they lay on the machine that trained is nobody's business."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def main() -> None:
    """Package the network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--weights", default="last.safetensors", help="which of its checkpoints")
    options = parser.parse_args()
    source = options.run / options.weights
    provenance = json.loads(source.with_suffix(".json").read_text())["provenance"]
    model = load_model(source)
    provenance["trained_on"] = ["phantom supp_m, size S, seed 0", "phantom supp_f, size S, seed 0"]
    provenance["weights_sha256"] = model.sha256
    for repeated in ("genes", "job", "model"):
        provenance.pop(repeated, None)
    provenance["train"].pop("genes", None)
    provenance = without_folders(provenance)
    save_model(model, TARGET, provenance, half=True)
    size = TARGET.stat().st_size
    if size > LIMIT:
        TARGET.unlink()
        raise SystemExit(f"{size / 1e6:.1f} MB is more than a package should carry.")
    RECORDS.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.run / "metrics.csv", RECORDS / "metrics.csv")
    print(f"{TARGET.relative_to(ROOT)}: {size / 1e6:.1f} MB, step {provenance.get('step')}.")


if __name__ == "__main__":
    main()

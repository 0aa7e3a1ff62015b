"""A job that behaves as its first argument says; the second is the job's folder.

good        previews, progress, a result in the brain
slow        one preview, then nothing until it is ended
deaf        as slow, and will not end when it is asked to
crash       one preview, then the process dies
garbage     words that are no events, then dies
refuse      says in a sentence what is wrong
phantom     makes a brain
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def preview(spec: dict, number: int) -> None:
    import numpy as np

    (y0, y1, x0, x1), (z0, z1) = spec["roi"], spec["slices"]
    folder = Path(spec["preview_folder"])
    folder.mkdir(exist_ok=True)
    image = np.full((2, z1 - z0, y1 - y0, x1 - x0), 10 * number, np.uint8)
    np.save(folder / f"{number}.npy", image)
    tell("preview", path=str(folder / f"{number}.npy"), step=number, steps=3)


def good(spec: dict) -> None:
    import numpy as np

    from napari_teramind.brain import open_brain

    sys.path.append(str(Path(__file__).parents[1]))  # as pytest does
    from simulations import keep_simulation

    tell("planned", text="64 x 64 px", details={"evaluations": 12})
    for number in (1, 2, 3):
        preview(spec, number)
        tell("progress", message="Generating", done=number, total=3, seconds_left=42.0)
        time.sleep(0.6)
    (y0, y1, x0, x1), (z0, z1) = spec["roi"], spec["slices"]
    image = np.full((2, z1 - z0, y1 - y0, x1 - x0), 77, np.uint8)
    path = keep_simulation(
        open_brain(spec["brain"]),
        spec["name"],
        image,
        roi=tuple(spec["roi"]),
        slices=tuple(spec["slices"]),
        provenance={"seed": spec["seed"]},
    )
    tell("finished", result={"path": path, "name": spec["name"], "summary": ["Generated."]})


def phantom(spec: dict) -> None:
    import numpy as np

    from napari_teramind.brain import BrainWriter

    tell("progress", message="Placing cells", done=1, total=4, seconds_left=30.0)
    with BrainWriter.create(
        spec["out"], name=spec["animal"], shape=(1, 64, 64), genes=["Th"]
    ) as writer:
        writer.write_stains(0, 0, 0, np.ones((2, 64, 64), np.uint8))
    time.sleep(0.5)
    tell("finished", result={"path": spec["out"]})


def main() -> None:
    behaviour, folder = sys.argv[1], Path(sys.argv[2])
    spec = json.loads((folder / "job.json").read_text())
    match behaviour:
        case "good":
            good(spec)
        case "phantom":
            phantom(spec)
        case "slow" | "deaf" | "crash":
            if behaviour == "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if "roi" in spec:
                preview(spec, 1)
            tell("progress", message="Thinking", done=1, total=9, seconds_left=240.0)
            if behaviour == "crash":
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(120)
        case "garbage":
            print("Traceback: \x00 not an event")
            print('{"event": "progress"}')
            sys.exit(3)
        case "refuse":
            tell("failed", message="The brain is on fire: put it out.", exit_code=2)
            sys.exit(2)


if __name__ == "__main__":
    main()

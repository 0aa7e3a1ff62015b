"""What the simulation benchmark says: ratios, extrapolation, tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARTS = ("main", "ladder", "areas", "workers")

BRAIN = (73_216, 105_984)
GROUPS = 25
STEPS = 15
DAY = 86_400


def store(results: dict[str, Any], path: Path) -> None:
    """Add what follows from the measurements, and write everything as JSON."""
    if "main" in results:
        results["ratios"] = ratios(results["main"])
        results["whole_brain"] = whole_brain(results)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def ratios(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """How many times less each of our runs took than the published schedule."""
    published = runs[0]
    return {
        run["label"]: {
            "gflop": round(published["gflop_as_conv3d"] / run["gflop_as_conv3d"], 3),
            "seconds": round(published["seconds"] / run["seconds"], 3),
            "processor_seconds": round(
                published["processor_seconds"] / run["processor_seconds"], 3
            ),
            "peak_bytes": round(published["peak_bytes"] / run["peak_bytes"], 3),
            "written_over_stored": round(
                run["io"].get("written", 0) / max(1, run["result_bytes"]), 3
            ),
            "grey_levels_off": round(run["grey_levels_off"], 3),
        }
        for run in runs[1:]
    }


def whole_brain(results: dict[str, Any]) -> dict[str, Any]:
    """Scale every run of ``main`` to 73,216 x 105,984 px x 50 slices x 2 stains on this machine.

    Assumes that time grows with area, steps and slice groups (25 of two slices), that the whole
    frame is computed, tissue or not, and one process with the threads or the one GPU measured here.
    """
    settings = results["settings"]
    pixels = settings["size"] ** 2
    scale = BRAIN[0] * BRAIN[1] / pixels * GROUPS * STEPS / settings["steps"]
    found: dict[str, Any] = {
        "assumptions": (
            f"{BRAIN[0]} x {BRAIN[1]} px x {2 * GROUPS} slices x 2 stains in {GROUPS} groups, "
            f"{STEPS} steps, the whole frame (about half of it is tissue), "
            f"{settings['channels']} base channels, {settings['genes']} genes, this machine"
        )
    }
    for run in results["main"]:
        seconds = run.get("gpu_seconds", run["seconds"])
        peak = results["matrix_peak"].get(run["label"].split(", ")[1].removeprefix("autocast-"))
        found[run["label"]] = {
            "days": seconds * scale / DAY,
            "flop_as_conv3d": run["gflop_as_conv3d"] * 1e9 * scale,
            "fraction_of_matrix_peak": run["gflop_executed"] * 1e9 / seconds / peak,
            "fraction_of_matrix_peak_as_conv3d": run["gflop_as_conv3d"] * 1e9 / seconds / peak,
        }
    return found


def tables(results: dict[str, Any]) -> str:
    """Return the results as Markdown tables."""
    parts = []
    for part in ("main", "ladder"):
        if part in results:
            parts.append(_runs(results[part]))
    if "areas" in results:
        parts.append(_areas(results["areas"]))
    if "workers" in results:
        rows = [
            [w["workers"], w["threads_each"], f"{w['seconds']:.1f}", w["evaluations"]]
            for w in results["workers"]
        ]
        parts.append(table(["workers", "threads each", "seconds", "patch evaluations"], rows))
    if "whole_brain" in results:
        brain = results["whole_brain"]
        rows = [
            [label, f"{v['days']:,.1f}", f"{v['flop_as_conv3d']:.3g}",
             f"{v['fraction_of_matrix_peak']:.2f}"]
            for label, v in brain.items() if label != "assumptions"
        ]  # fmt: skip
        parts.append(
            brain["assumptions"] + ":\n\n"
            + table(["whole brain", "days", "FLOP as Conv3d", "of matrix peak"], rows)
        )  # fmt: skip
    return "\n\n".join(parts)


def _runs(runs: list[dict[str, Any]]) -> str:
    first, rows, before = runs[0], [], runs[0]
    for run in runs:
        state = run.get("state_bytes", {"read": 0, "written": run["io"].get("written", 0)})
        rows.append(
            [
                run["label"],
                f"{run['seconds']:.1f}",
                f"{first['seconds'] / run['seconds']:.2f}",
                f"{before['seconds'] / run['seconds']:.2f}",
                f"{run['processor_seconds']:.1f}",
                f"{first['processor_seconds'] / run['processor_seconds']:.2f}",
                f"{run['gflop_as_conv3d']:,.0f}",
                f"{first['gflop_as_conv3d'] / run['gflop_as_conv3d']:.2f}",
                f"{state['read'] / 1e6:,.0f}",
                f"{state['written'] / 1e6:,.0f}",
                f"{run['peak_bytes'] / 1e9:.2f}",
                f"{run['grey_levels_off']:.2f}",
            ]
        )
        before = run
    heads = [
        "",
        "seconds",
        "times faster",
        "than the line above",
        "processor s",
        "times less",
        "GFLOP",
        "times fewer",
    ]
    return table([*heads, "MB read", "MB written", "peak GB", "grey levels off"], rows)


def _areas(runs: list[dict[str, Any]]) -> str:
    rows = [
        [
            run["label"],
            run["band_rows"],
            f"{run['seconds']:.1f}",
            f"{run['seconds'] / run['megapixels']:.1f}",
            f"{run['peak_bytes'] / 1e9:.3f}",
            f"{(run['peak_bytes'] - run['peak_bytes_before']) / 1e9:.3f}",
            f"{run['planned_bytes'] / 1e9:.3f}",
        ]
        for run in runs
    ]
    heads = ["area", "rows of a band", "seconds", "s/Mpx", "peak GB", "above start GB"]
    return table([*heads, "planned GB"], rows)


def table(heads: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)

"""What an attention run will take, in one line; and the runs, which outlive the window."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from napari_teramind.attention.pairs import MapName, Pair, map_channels
from napari_teramind.attention.tiles import region_of
from napari_teramind.brain import BrainStore
from napari_teramind.errors import UserError
from napari_teramind.jobs.detached import outcome
from napari_teramind.jobs.process import SPEC_FILE
from napari_teramind.widgets import settings
from napari_teramind.words import about, size

KEPT_DAYS = 14
"""How long the folders of runs that failed are kept, with their logs."""


def jobs_folder() -> Path:
    """Folder in which the jobs of attention runs keep their events."""
    return platformdirs.user_data_path(settings.APP, appauthor=False) / "attention-jobs"


def new_folder() -> Path:
    """Return the folder of a new job, whose name sorts after those of earlier ones."""
    return jobs_folder() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"


def going(brain: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the folder and the fields of a run that goes on for a brain, if there is one."""
    for folder in sorted(jobs_folder().glob("*"), reverse=True):
        try:
            values = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if values.get("brain") == brain and outcome(folder) is None:
            return folder, values
    return None


def plan_words(
    brain: BrainStore,
    where: dict[str, Any],
    pair: Pair,
    maps: list[MapName],
    checkpoint: str | None,
) -> str:
    """Return a line such as "208 x 288 bins x 12 slices, 3 maps; 58 MB, about 20 s".

    Parameters
    ----------
    brain
        The brain.
    where
        ``roi``, ``slices`` and ``structures``, as in an `AttentionSpec`.
    pair, maps
        What is computed.
    checkpoint
        To know how long it takes here, if that was ever measured.
    """
    try:
        shape = region_of(brain, where["roi"], where["slices"]).shape
    except UserError:  # the panel says why it cannot run
        return ""
    depth, height, width = shape
    bins = int(np.prod(shape))
    slices = f"{depth} slice{'' if depth == 1 else 's'}"
    count = f"{len(maps)} map{'' if len(maps) == 1 else 's'}"
    if where["structures"]:
        words = f"The bins of {', '.join(where['structures'])} in {slices}, {count}"
        return f"{words}; the job counts them first"
    most = 4 * bins * len(map_channels([pair], maps))
    words = f"{height:,} x {width:,} bins x {slices}, {count}; at most {size(most)}"
    seconds = None if checkpoint is None else seconds_per_map(checkpoint)
    if seconds is None:
        return f"{words}; how long it takes is known after the first time"
    return f"{words}, {about(START_SECONDS + seconds * bins * len(maps))}"


START_SECONDS = 4.0
"""What a job needs before it computes."""

TELLING = 100_000
"""Bins times maps from which on a run tells what a bin costs, and not what a run costs anyway."""


def seconds_per_map(checkpoint: str) -> float | None:
    """Return how long this computer last took for one map of one bin."""
    found = settings.settings().value(_key(checkpoint), 0.0, type=float)
    return found if found > 0 else None


def remember_seconds(checkpoint: str, seconds: float) -> None:
    """Keep how long one map of one bin took."""
    settings.settings().setValue(_key(checkpoint), seconds)


def _key(checkpoint: str) -> str:
    # A slash would open a group, and Qt reads "%" as an escape.
    return "attention_speed/" + checkpoint.replace("/", "|").replace("\\", "|").replace("%", "_")

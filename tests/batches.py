"""Batches as files and as processes: shared by the tests of batches and of clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from napari_teramind.jobs import Event, parse_event

# The command line with shards so small that a small brain has many.
COMMAND = """
import napari_teramind.brain.result as result
result._SMALL_TILE = 64
from napari_teramind.cli import main
main()
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LONG = 240.0


def toml(value: Any) -> str:
    """Write a value as TOML does; tables inside others inline."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value)  # texts, numbers, true and false are the same in both


def write_batch(path: Path, *jobs: Mapping[str, Any], **top: Any) -> Path:
    """Write a batch file."""
    lines = [f"{key} = {toml(value)}" for key, value in top.items()]
    for job in jobs:
        lines += ["[[job]]", *(f"{key} = {toml(value)}" for key, value in job.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", COMMAND, *map(str, arguments)]


def teramind(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=ENVIRONMENT, timeout=LONG
    )


def events(output: str) -> list[Event]:
    return [parse_event(line) for line in output.splitlines()]


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text(encoding="utf-8"))


def states(folder: Path) -> list[str]:
    return [job["state"] for job in status(folder)["jobs"]]


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + LONG
    while not true():
        assert process is None or process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def spawned(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Workers that a process has started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "local_worker" in " ".join(child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def arrays(brain: Path, name: str) -> dict[str, bytes]:
    """All files of a result's arrays."""
    folder = brain / "simulations" / name
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.glob("[0-9]*/**/*"))
        if file.is_file()
    }

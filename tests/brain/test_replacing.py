"""Results that are replaced: killed at every rename and removal, the old one or the new one stays.

A helper process makes a copy of the brain for every instant, and a child that is killed there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import open_brain
from napari_teramind.brain.result import ResultWriter
from napari_teramind.brain.runs import RunFolder, settle
from napari_teramind.errors import UserError
from simulations import keep_map, keep_simulation

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

PLACE = {"roi": (0, 64, 0, 64), "slices": (0, 2)}
OLD, NEW = 10, 200

KILLED = """
import os, shutil, sys
from pathlib import Path
import numpy as np
sys.path[:0] = [sys.argv[3]]
from napari_teramind.brain import open_brain
from napari_teramind.brain.result import ResultWriter
from simulations import keep_map, keep_simulation

PLACE = {"roi": (0, 64, 0, 64), "slices": (0, 2)}
IMAGE = np.full((2, 2, 64, 64), 200, np.uint8)
source, work = Path(sys.argv[1]), sys.argv[2]

def replace(brain):
    keep_simulation(brain, "a", IMAGE, **PLACE, provenance={}, overwrite=True)

def begin_and_give_up(brain):
    with ResultWriter.create(brain, "a", **PLACE, provenance={}, overwrite=True) as writer:
        writer.write((0, 0, 0), IMAGE[:, 0])
        writer.discard()

def replace_map(brain):
    keep_map(brain, "m", 200.0, overwrite=True)

def dying(function):
    def called(*arguments, **more):
        global left
        if left == 0:
            os.kill(os.getpid(), 9)
        left -= 1
        return function(*arguments, **more)
    return called

for left in range(100):
    copy = shutil.copytree(source, source.with_name(f"killed-{left:02d}.zarr"))
    child = os.fork()
    if child == 0:
        Path.rename, shutil.rmtree = dying(Path.rename), dying(shutil.rmtree)
        globals()[work](open_brain(copy))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def killed_everywhere(brain: Path, work: str) -> list[Path]:
    """Do some work on copies of a brain, killed at one instant after another; return the copies."""
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", KILLED, str(brain), work, tests]
    subprocess.run(command, check=True, timeout=120)
    return sorted(brain.parent.glob("killed-*.zarr"))


def value(path: Path, kind: str = "simulations", name: str = "a") -> float:
    """Return the one value that all pixels of a result have."""
    result = getattr(open_brain(path), kind)[name]
    values = np.unique(np.concatenate([np.unique(level[:]) for level in result.levels]))
    assert values.size == 1
    return float(values[0])


@pytest.fixture
def replaceable(brain_copy: Path) -> Path:
    image = np.full((2, 2, 64, 64), OLD, np.uint8)
    keep_simulation(open_brain(brain_copy), "a", image, **PLACE, provenance={})
    return brain_copy


@pytest.mark.parametrize("begun", [False, True], ids=["over-complete", "over-unfinished"])
def test_a_kill_while_replacing_loses_nothing(replaceable: Path, begun: bool) -> None:
    if begun:  # another run that was to replace it was given up half way
        again = ResultWriter.create(
            open_brain(replaceable), "a", **PLACE, provenance={}, overwrite=True
        )
        with again as writer:
            writer.write((0, 0, 0), np.full((2, 64, 64), 77, np.uint8))
        assert open_brain(replaceable).simulations.unfinished() == ["a"]
    copies = killed_everywhere(replaceable, "replace")
    assert len(copies) > 5
    found = []
    for copy in copies:
        brain = open_brain(copy)
        settle(brain)
        if brain.simulations.unfinished():
            with ResultWriter.resume(brain, "a") as writer:
                writer.discard()
        found.append(value(copy))
        assert not list((copy / ".runs").glob("*/[!.]*"))
        image = np.full((2, 2, 64, 64), 3, np.uint8)
        keep_simulation(brain, "a", image, **PLACE, provenance={}, overwrite=True)
        assert value(copy) == 3
    # The new one stays from when it is complete, and no earlier.
    assert found == sorted(found)
    assert found[0] == OLD
    assert found[-2:] == [NEW, NEW]


def test_a_kill_while_giving_up_loses_nothing(replaceable: Path) -> None:
    copies = killed_everywhere(replaceable, "begin_and_give_up")
    assert len(copies) > 7
    for copy in copies:
        brain = open_brain(copy)
        settle(brain)
        if brain.simulations.unfinished():
            with ResultWriter.resume(brain, "a") as writer:
                writer.discard()
        assert value(copy) == OLD


def test_a_kill_while_replacing_a_map_loses_nothing(brain_copy: Path) -> None:
    keep_map(open_brain(brain_copy), "m", OLD)
    copies = killed_everywhere(brain_copy, "replace_map")
    assert len(copies) > 5
    found = []
    for copy in copies:
        settle(open_brain(copy))
        found.append(value(copy, "attention", "m"))
        keep_map(open_brain(copy), "m", NEW, overwrite=True)
        assert value(copy, "attention", "m") == NEW
        folders = [path.name for path in (copy / "attention").iterdir() if path.is_dir()]
        assert folders == ["m"]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (OLD, NEW)


def test_a_replaced_result_comes_back_when_its_name_is_used(replaceable: Path) -> None:
    """As after a kill between the two renames, when nothing set that right meanwhile."""
    (replaceable / ".runs" / "simulations" / "a").mkdir(parents=True)
    there = replaceable / "simulations" / "a"
    there.rename(replaceable / ".runs" / "simulations" / "a" / "replaced")
    brain = open_brain(replaceable)
    assert list(brain.simulations) == []
    with pytest.raises(UserError, match="complete: there is nothing to resume"):
        ResultWriter.resume(brain, "a")
    assert value(replaceable) == OLD
    with pytest.raises(UserError, match="has a simulation 'a' already"):
        ResultWriter.create(brain, "a", **PLACE, provenance={})


def test_what_is_being_written_is_left_alone(replaceable: Path) -> None:
    brain = open_brain(replaceable)
    with ResultWriter.create(brain, "a", **PLACE, provenance={}, overwrite=True):
        settle(brain)
        assert brain.simulations.unfinished() == ["a"]
        assert RunFolder(replaceable / "simulations" / "a").path.exists()


def test_what_is_no_run_is_left_alone(replaceable: Path) -> None:
    files = [replaceable / ".runs" / name for name in ("note", "other/note", "simulations/note")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    settle(open_brain(replaceable))
    assert [file.read_text() for file in files] == ["mine"] * 3
    assert value(replaceable) == OLD


def test_a_creation_that_fails_leaves_the_old_one(
    replaceable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("a fault of the test")

    monkeypatch.setattr("napari_teramind.brain.multiscale.create_levels", fail)
    with pytest.raises(OSError, match="of the test"):
        ResultWriter.create(open_brain(replaceable), "a", **PLACE, provenance={}, overwrite=True)
    assert value(replaceable) == OLD
    assert not list((replaceable / ".runs").glob("*/[!.]*"))

"""The command line as a program: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from napari_teramind.brain import BrainStore, open_brain
from napari_teramind.jobs import Finished, Progress, parse_event
from napari_teramind.jobs.specs import VERBS

TERAMIND = [sys.executable, "-m", "napari_teramind"]


def teramind(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [*TERAMIND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


def simulate_arguments(brain: Path, checkpoint: Path) -> list[str]:
    return [
        "simulate", str(brain), "--checkpoint", str(checkpoint), "--roi", "10,74,20,90",
        "--slices", "0:2", "--steps", "2", "--halo", "0",
    ]  # fmt: skip


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("teramind")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip()[0].isdigit()


@pytest.mark.parametrize(
    "verb",
    [
        ["import", "merscope"],
        ["import", "omezarr"],
        ["import", "draft"],
        ["import", "tiles"],
        ["import", "table"],
        ["import", "spatialdata"],
        ["quality"],
        ["reproduce"],
        ["batch"],
        ["evaluate"],
        ["phantom"],
        ["info"],
        ["train"],
        ["simulate"],
        ["checkpoint", "convert"],
        ["checkpoint", "get"],
        ["checkpoint", "list"],
        ["run"],
    ],
    ids=" ".join,
)
def test_every_verb_has_help_with_examples(verb: list[str]) -> None:
    done = teramind(*verb, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert f"teramind {' '.join(verb)}" in done.stdout
    assert "--json" in done.stdout


def test_every_verb_of_a_job_file_is_a_command() -> None:
    commands = teramind("--help").stdout
    for verb in VERBS:
        assert verb.partition("-")[0] in commands


def test_simulate_writes_a_result_that_info_lists(brain_copy: Path, tiny_checkpoint: Path) -> None:
    done = teramind(*simulate_arguments(brain_copy, tiny_checkpoint), "--name", "first")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Generated {brain_copy / 'simulations' / 'first'}.\n"
    assert "64 x 70 px x 2 slices" in done.stderr
    result = open_brain(brain_copy).simulations["first"]
    assert result.shape == (2, 2, 64, 70)
    assert result.provenance["job"]["roi"] == [10, 74, 20, 90]
    assert len(result.provenance["checkpoint_sha256"]) == 64
    assert "first" in teramind("info", brain_copy).stdout


def test_names_are_made_up_and_nothing_is_overwritten_unasked(
    brain_copy: Path, tiny_checkpoint: Path
) -> None:
    arguments = simulate_arguments(brain_copy, tiny_checkpoint)
    assert teramind(*arguments).returncode == 0
    assert teramind(*arguments).returncode == 0
    assert list(open_brain(brain_copy).simulations) == ["simulation-1", "simulation-2"]
    refused = teramind(*arguments, "--name", "simulation-1")
    assert refused.returncode == 2
    assert "simulation-1" in refused.stderr
    assert teramind(*arguments, "--name", "simulation-1", "--overwrite").returncode == 0


def test_dry_run_says_what_it_would_take_and_writes_nothing(
    brain_copy: Path, tiny_checkpoint: Path
) -> None:
    before = sorted(brain_copy.rglob("*"))
    done = teramind("simulate", brain_copy, "--checkpoint", tiny_checkpoint, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "256 x 384 px x 4 slices" in done.stdout
    assert "MB of memory" in done.stdout
    assert "on disk" in done.stdout
    assert sorted(brain_copy.rglob("*")) == before


def test_json_is_events_and_nothing_else(brain_copy: Path, tiny_checkpoint: Path) -> None:
    done = teramind(*simulate_arguments(brain_copy, tiny_checkpoint), "--json")
    assert done.returncode == 0
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert any(isinstance(event, Progress) for event in events)
    assert isinstance(events[-1], Finished)
    assert Path(events[-1].result["path"]).is_dir()


def test_failures_are_events_too(tmp_path: Path) -> None:
    done = teramind("info", tmp_path / "nowhere.zarr", "--json")
    (line,) = done.stdout.splitlines()
    event = json.loads(line)
    assert done.returncode == event["exit_code"] == 2
    assert done.stderr.strip() == event["message"]


def test_a_job_file_does_what_the_options_do(brain_copy: Path, tiny_checkpoint: Path) -> None:
    job = brain_copy.parent / "job.toml"
    job.write_text(
        f'verb = "simulate"\nbrain = "{brain_copy.name}"\nname = "by-file"\n'
        f"checkpoint = '{tiny_checkpoint}'\n"
        "roi = [10, 74, 20, 90]\nslices = [0, 2]\nsteps = 2\nhalo = 0\n"
    )
    assert teramind("run", job, cwd=Path("/")).returncode == 0
    arguments = simulate_arguments(brain_copy, tiny_checkpoint)
    assert teramind(*arguments, "--name", "by-option").returncode == 0
    simulations = open_brain(brain_copy).simulations
    images = [simulations[name].levels[0][:] for name in ("by-file", "by-option")]
    assert (images[0] == images[1]).all()


def test_train_then_simulate_then_resume(tiny_brain: BrainStore, tmp_path: Path) -> None:
    train = [
        "train", tiny_brain.path, "-o", str(tmp_path / "run"), "--channels", "2", "--batch", "1",
        "--patch", "32", "--crop", "64", "--exclude", "0,64,0,64",
    ]  # fmt: skip
    done = teramind(*train, "--steps", "2")
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "run" / "last.safetensors"
    assert str(checkpoint) in done.stdout
    assert "Slc17a7" in teramind("info", checkpoint).stdout

    refused = teramind(*train, "--steps", "3")
    assert refused.returncode == 2
    resumed = teramind(*train, "--steps", "3", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "3 steps" in resumed.stdout


def test_convert_makes_the_same_network(tmp_path: Path, tiny_brain: BrainStore) -> None:
    source = Path(__file__).parent / "data" / "parity" / "tiny.last.ckpt"
    panel = tmp_path / "panel.csv"
    panel.write_text("gene\n" + "\n".join(tiny_brain.gene_names))
    out = tmp_path / "tiny.safetensors"
    done = teramind("checkpoint", "convert", source, "--genes", panel, "-o", out)
    assert done.returncode == 0, done.stderr
    told = json.loads(teramind("info", out, "--json").stdout)["result"]
    assert told["genes"] == list(tiny_brain.gene_names)
    assert told["config"]["gene_slices"] == 4


@pytest.fixture
def sigint_heeded() -> Iterator[None]:
    """Let programs that are started heed SIGINT, which those of a background script ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
@pytest.mark.usefixtures("sigint_heeded")
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_interrupting_is_exit_code_130_and_leaves_no_result(
    brain_copy: Path, tiny_checkpoint: Path, signal_name: str
) -> None:
    import resource  # Windows has none

    arguments = ["simulate", str(brain_copy), "--checkpoint", str(tiny_checkpoint), "--json"]
    process = subprocess.Popen(
        [*TERAMIND, *arguments, "--steps", "500", "--name", "long"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        event = parse_event(line)
        if isinstance(event, Progress) and event.done > 0:
            break
    before = psutil.Process(process.pid).cpu_times()
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.send_signal(getattr(signal, signal_name))
    _, errors = process.communicate(timeout=200)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor, not of the clock: it ends at once, on however busy a machine.
    assert used.ru_utime - others.ru_utime - before.user < 5
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "The job was cancelled."
    assert "Traceback" not in errors
    assert "long" not in open_brain(brain_copy).simulations


def test_an_unforeseen_failure_is_one_sentence_and_a_log(
    tiny_brain: BrainStore, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run_code = (
        "import napari_teramind.jobs.verbs as verbs, napari_teramind.cli as cli\n"
        "def broken(*_): raise ZeroDivisionError('division by zero')\n"
        "verbs.execute = broken\n"
        f"import sys; sys.argv = ['teramind', 'info', {tiny_brain.path!r}]; cli.main()"
    )
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", run_code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.strip().splitlines()
    log = Path(sentence.rpartition("the details are in ")[2].rstrip("."))
    assert "ZeroDivisionError" in log.read_text()


def test_a_reader_that_goes_away_is_no_traceback(tiny_brain: BrainStore) -> None:
    process = subprocess.Popen(
        [*TERAMIND, "info", tiny_brain.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == ""

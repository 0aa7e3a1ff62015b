"""Batches: from a file to jobs, what is refused, what is left out, what goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_teramind.cli as cli
from batches import (
    ENVIRONMENT,
    arrays,
    command,
    events,
    states,
    status,
    teramind,
    toml,
    wait_until,
    write_batch,
)
from napari_teramind.brain import open_brain
from napari_teramind.errors import JobError, UserError
from napari_teramind.jobs import Finished
from napari_teramind.jobs.batch import Cluster, expand, read_batch
from napari_teramind.jobs.batch.cluster import slurm_cluster
from napari_teramind.jobs.batch.local import LocalWorkers, environment, visible_gpus
from napari_teramind.jobs.batch.session import Session

SIMULATE = {
    "verb": "simulate", "brain": "brain.zarr", "checkpoint": "n.safetensors", "steps": 2, "halo": 0,
    "roi": [0, 64, 0, 64], "slices": [0, 2], "name": "a", "device": "cpu",
}  # fmt: skip


def jobs_of(path: Path) -> list[Any]:
    return expand(read_batch(path), path)


def changed(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in {**SIMULATE, **fields}.items() if value is not None}


# Expansion -------------------------------------------------------------------------------------


def test_a_grid_is_a_product_and_paths_count_from_the_file(tmp_path: Path) -> None:
    grid = {"brain": ["x/one.zarr", "x/two.zarr"], "seed": [3, 4], "roi": [[0, 64, 0, 64]]}
    table = changed(brain=None, roi=None, name="{brain} seed {seed} at {roi}", grid=grid)
    jobs = jobs_of(write_batch(tmp_path / "b.toml", table))
    assert [(Path(job.spec.brain).stem, job.spec.seed) for job in jobs] == [
        ("one", 3), ("one", 4), ("two", 3), ("two", 4),
    ]  # fmt: skip
    assert jobs[1].spec.name == "one seed 4 at 0-64-0-64"
    assert jobs[0].spec.brain == str(tmp_path / "x" / "one.zarr")
    assert jobs[0].spec.roi == (0, 64, 0, 64)


def test_a_key_that_is_no_field_stands_for_text(tmp_path: Path) -> None:
    table = changed(brain="{animal}/{animal}.zarr", grid={"animal": ["m", "f"]})
    jobs = jobs_of(write_batch(tmp_path / "b.toml", table))
    assert [job.spec.brain for job in jobs] == [str(tmp_path / f"{a}/{a}.zarr") for a in "mf"]


def test_gene_pairs_in_a_grid(tmp_path: Path) -> None:
    pairs = [["Nr4a2,Th"], ["Slc17a6,Slc17a7", "GLUT"]]
    table = {"verb": "attention", "brain": "b.zarr", "name": "{pairs}", "grid": {"pairs": pairs}}
    jobs = jobs_of(write_batch(tmp_path / "b.toml", table))
    assert [job.spec.name for job in jobs] == ["Nr4a2-Th", "Slc17a6-Slc17a7-GLUT"]
    assert jobs[1].spec.pairs == pairs[1]


texts = st.text("abcXYZ09 _-", min_size=1, max_size=8)
grids = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
        "steps": st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True),
        "halo": st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
        "where": st.lists(st.sampled_from(["all", "tissue"]), min_size=1, max_size=2, unique=True),
    },
)


@given(grids, st.permutations([0, 1]))
@settings(deadline=None, max_examples=40)
def test_every_point_of_a_grid_is_one_job(
    tmp_path_factory: pytest.TempPathFactory, grid: dict[str, list[Any]], order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    fixed = {key: value for key, value in SIMULATE.items() if key not in grid}
    place = " ".join(f"{key} {{{key}}}" for key in grid)
    one = {**fixed, "name": f"one {place}".strip(), "grid": grid}
    other = changed(name="other")
    tables = [(one, other)[k] for k in order]
    jobs = jobs_of(write_batch(folder / "b.toml", *tables))
    points = 1
    for values in grid.values():
        points *= len(values)
    assert len(jobs) == points + 1
    assert len({job.name for job in jobs}) == len(jobs)
    assert len({job.spec.name for job in jobs}) == len(jobs)
    for key, values in grid.items():
        found = [getattr(job.spec, key) for job in jobs if job.spec.name.startswith("one")]
        assert set(found) == set(values)
        assert all(found.count(value) == points // len(values) for value in values)
    # A job's folder is its own, wherever in the file it stands.
    again = jobs_of(write_batch(folder / "b.toml", *reversed(tables)))
    assert {job.name: job.spec for job in again} == {job.name: job.spec for job in jobs}


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([changed(), changed(seed=1)], "would both make"),
        ([changed(grid={"seed": [0, 1]})], "would both make"),
        ([changed(), changed(name="a, mean"), changed(replicates=2)], "would both make"),
        ([{"verb": "train", "brains": ["b.zarr"], "out": o} for o in ("r", "./r")], "both make"),
        ([{"verb": "structures", "brain": "b.zarr", "grid": {"x": [1, 2]}}], "there twice"),
        ([changed(), {"verb": "phantom", "out": "brain.zarr"}], "'phantom brain"),
        (
            [{"verb": "train", "brains": ["b.zarr"], "out": "r"}, changed(checkpoint="r/x.ckpt")],
            "run in any order",
        ),
        ([changed(), {"verb": "evaluate", "brain": "brain.zarr", "result": "a"}], "any order"),
        ([changed(name=None)], "needs a name"),
        ([changed(name="../a")], "cannot be the name"),
        ([changed(name="{sead}")], "no key of the job's grid"),
        ([changed(grid={"name": ["x"]})], "both by itself and in the grid"),
        ([changed(grid={"seed": 3})], "lists of values"),
        ([changed(grid={"seed": []})], "lists of values"),
        ([changed(grid=3)], "lists of values"),
        ([changed(grid={"seed": list(range(101)), "steps": list(range(1, 101))}, steps=None)],
         "10,000 jobs"),
        ([changed(grid={"seed": [-1]})], "'seed' cannot be -1"),
        ([changed(sead=3)], "unknown field 'sead'"),
        ([{"verb": "dance"}], "no known verb"),
        ([{"brain": "b.zarr"}], "no known verb"),
        ([{"verb": "jobs"}], "cannot be part of a batch"),
        ([{"verb": "batch", "batch": "b.toml"}], "cannot be part of a batch"),
        ([], "job"),
    ],
)  # fmt: skip
def test_jobs_that_make_no_sense_together(
    tmp_path: Path, tables: list[dict[str, Any]], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_batch(tmp_path / "b.toml", *tables)
    assert cli.run(["batch", str(path)]) == 2
    told = capsys.readouterr()
    (sentence,) = told.err.strip().splitlines()
    assert words in sentence
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "There is no batch file"),
        (b"[[job", "cannot be read|can be read"),
        (b"\xff\xfe", "can be read"),
        (b"job = 3", "job"),
        (b"[[job]]\nverb = 'info'\n[clusters]\n", "clusters"),
        (b"cluster = 3\n[[job]]\nverb = 'info'\n", "cluster"),
        (b"[cluster]\nkind = 'pbs'\n[[job]]\n", "cluster.kind"),
        (b"[cluster]\nkind = 'local'\nworkers = 0\n[[job]]\n", "cluster.workers"),
        (b"[cluster]\nkind = 'local'\naddress = 'tcp://x:1'\n[[job]]\n", "an address goes with"),
        (b"[cluster]\nkind = 'scheduler'\n[[job]]\n", "an address goes with"),
        (b"[cluster]\nkind = 'scheduler'\naddress = 'host'\n[[job]]\n", "cluster.address"),
        (b"[cluster]\nkind = 'slurm'\n[[job]]\n", "how many workers"),
        (b"[cluster]\nkind = 'local'\nslurm = {queue = 'q'}\n[[job]]\n", "options of Slurm"),
        (b"x = " + b"[" * 100_000, "can be read"),
    ],
)
def test_files_that_are_no_batch(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "b.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_batch(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_options_go_before_the_file(tmp_path: Path) -> None:
    path = write_batch(tmp_path / "b.toml", SIMULATE, cluster={"kind": "local", "threads": 3})
    assert read_batch(path, workers=5).cluster == Cluster(kind="local", threads=3, workers=5)
    there = read_batch(path, scheduler="tcp://h:1").cluster
    assert there == Cluster(kind="scheduler", threads=3, address="tcp://h:1")
    write_batch(path, SIMULATE)
    assert read_batch(path).cluster.kind == "none"
    assert read_batch(path, workers=2).cluster == Cluster(kind="local", workers=2)


# Carrying out ----------------------------------------------------------------------------------


def test_done_jobs_are_left_out_and_failed_ones_done_again(folder: Path) -> None:
    other = open_brain(folder / "brain.zarr").path
    bad = changed(name="bad", brain="later.zarr")
    path = write_batch(folder / "b.toml", bad, SIMULATE)
    failed = teramind("batch", path, "--json")
    assert failed.returncode == 1, failed.stderr
    (sentence,) = [line for line in failed.stderr.splitlines() if "jobs failed" in line]
    assert "1 of 2 jobs failed" in sentence
    assert "later.zarr" in sentence
    log = Path(sentence.partition("its log is ")[2].partition(", and the same")[0])
    assert log.is_file()
    assert states(folder / "b.batch") == ["failed", "done"]
    made = arrays(folder / "brain.zarr", "a")
    written = (folder / "brain.zarr" / "simulations" / "a" / "zarr.json").stat().st_mtime_ns

    shutil.copytree(other, folder / "later.zarr")
    shown = teramind("batch", path, "--dry-run")
    assert shown.returncode == 0
    assert "1 of 2 jobs to do" in shown.stdout
    assert [line.split(":")[0] for line in shown.stdout.splitlines()[1:]] == ["to do", "done"]
    assert "bad" not in open_brain(folder / "later.zarr").simulations

    done = teramind("batch", path)
    assert done.returncode == 0, done.stderr
    assert "2 jobs are done, 1 of them before" in done.stdout
    assert arrays(folder / "later.zarr", "bad") == made
    now = (folder / "brain.zarr" / "simulations" / "a" / "zarr.json").stat().st_mtime_ns
    assert now == written
    again = events(teramind("batch", path, "--json").stdout)
    assert isinstance(again[-1], Finished)
    assert [job["state"] for job in again[-1].result["jobs"]] == ["done", "done"]


@pytest.mark.timeout(1500)  # beside other work; half a minute on a quiet machine
def test_interrupted_jobs_go_on(folder: Path) -> None:
    long = changed(roi=None, slices=[0, 4], steps=10, where="all")
    path = write_batch(folder / "b.toml", long)
    process = subprocess.Popen(
        command("batch", path), env=ENVIRONMENT, text=True, stderr=subprocess.PIPE
    )
    brain = folder / "brain.zarr"
    ledger = brain / ".runs" / "simulations" / "a" / "ledger.jsonl"
    wait_until(lambda: ledger.exists() and bool(ledger.read_bytes()), process)
    with pytest.raises(UserError):
        _begin_beside(path)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "run the same command again to go on" in told
    assert open_brain(brain).simulations.unfinished() == ["a"]
    recorded = ledger.read_text().splitlines()
    assert states(folder / "b.batch") == ["waiting"]

    done = teramind("batch", path)
    assert done.returncode == 0, done.stderr
    assert len(recorded) > 0
    plain = folder / "plain.zarr"
    shutil.copytree(brain, plain, ignore=shutil.ignore_patterns("simulations"))
    alone = folder / "one.toml"
    alone.write_text("\n".join(f"{k} = {toml(v)}" for k, v in {**long, "brain": plain}.items()))
    # As the batch does it: with shards of the usual size.
    subprocess.run(
        [sys.executable, "-m", "napari_teramind", "run", alone], check=True, env=ENVIRONMENT
    )
    assert arrays(brain, "a") == arrays(plain, "a")


def _begin_beside(path: Path) -> None:
    """Carry out a batch that another process is at."""
    from napari_teramind.jobs.batch import run_batch
    from napari_teramind.jobs.runner import JobContext

    batch = read_batch(path)
    run_batch(batch, expand(batch, path), JobContext(lambda event: None))


def test_a_job_that_ended_but_was_not_recorded_is_not_done_again(folder: Path) -> None:
    path = write_batch(folder / "b.toml", SIMULATE)
    assert teramind("batch", path).returncode == 0
    (record,) = (folder / "b.batch").glob("jobs/*/done.json")
    record.unlink()
    done = teramind("batch", path)
    assert "1 of them before" in done.stdout
    assert json.loads(record.read_text())["result"]["name"] == "a"


def test_the_status_tells_of_every_job(folder: Path) -> None:
    path = write_batch(folder / "b.toml", SIMULATE, out="elsewhere")
    assert teramind("batch", path).returncode == 0
    (job,) = status(folder / "elsewhere")["jobs"]
    assert (job["verb"], job["state"], job["share"]) == ("simulate", "done", 1.0)
    assert job["result"]["path"] == str(folder / "brain.zarr" / "simulations" / "a")
    assert Path(job["log"]).is_file()


# Clusters without a cluster --------------------------------------------------------------------


def test_work_of_a_session_that_is_over_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    session = Session(tmp_path / "session")
    session.beat()
    watches = [session.watch() for _ in range(4)]
    assert all(watch.wanted() for watch in watches)
    now += 100
    assert watches[0].wanted()
    now += 100  # nobody has touched the file for 200 s
    assert not watches[0].wanted()
    another = Session(tmp_path / "session")
    another.beat()
    assert not watches[1].wanted()
    assert another.watch().wanted()
    another.end()
    assert not watches[2].wanted()


@pytest.mark.parametrize(("named", "expected"), [(None, ["0", "1"]), ("5,3", ["5", "3"])])
def test_gpus_are_those_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, named: str | None, expected: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == expected
    assert environment(3, expected[1])["CUDA_VISIBLE_DEVICES"] == expected[1]
    assert environment(3)["OMP_NUM_THREADS"] == "3"


def test_workers_that_cannot_live_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "workers.log"
    # An option that no worker knows.
    broken = LocalWorkers("tcp://127.0.0.1:1", ["--no-such-option"], [environment(1)], log)
    monkeypatch.setattr("napari_teramind.jobs.batch.local._MOST_SHORT", 2)
    try:
        with pytest.raises(JobError, match=r"die as soon as they are started.*workers\.log"):
            _tend(broken)
    finally:
        broken.end()
    assert "no-such-option" in log.read_text()


def _tend(workers: LocalWorkers) -> None:
    for _ in range(600):
        workers.tend()
        time.sleep(0.1)


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    options = {
        "queue": "gpu", "cores": 8, "memory": "64GB", "walltime": "04:00:00",
        "job_extra_directives": ["--gres=gpu:1"], "interface": "lo",
        "worker_extra_args": ["--lifetime", "225m"],
    }  # fmt: skip
    cluster = Cluster(kind="slurm", workers=4, slurm=options)
    with slurm_cluster(cluster, tmp_path) as started:
        script = started.job_script()
        assert "sbatch" in started.job_cls.submit_command
    lines = script.splitlines()
    for wanted in ("-p gpu", "--cpus-per-task=8", "-t 04:00:00", "--gres=gpu:1", "-n 1"):
        assert f"#SBATCH {wanted}" in lines
    assert "export OMP_NUM_THREADS=8" in lines
    assert f"#SBATCH -e {tmp_path}/slurm/teramind-%J.err" in lines
    assert "--nthreads 1" in script
    assert "tls://" in script
    assert "--lifetime 225m" in script
    assert (tmp_path / "tls").stat().st_mode & 0o077 == 0


def test_options_that_slurm_does_not_know(tmp_path: Path) -> None:
    cluster = Cluster(kind="slurm", workers=1, slurm={"quue": "gpu", "interface": "lo"})
    with pytest.raises(UserError, match=r"cluster\.slurm.*quue"):
        slurm_cluster(cluster, tmp_path)


def test_a_cluster_without_its_packages_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import builtins

    real = builtins.__import__
    missing: Callable[..., Any] = _without("distributed", real)
    monkeypatch.setattr("napari_teramind.jobs.batch.cluster.import_module", missing)
    path = write_batch(tmp_path / "b.toml", changed())
    assert cli.run(["batch", str(path), "--workers", "2"]) == 2
    assert "pip install 'napari-teramind[cluster]'" in capsys.readouterr().err


def _without(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def find(wanted: str, *more: Any) -> Any:
        if wanted == name:
            raise ModuleNotFoundError(wanted)
        return real(wanted, *more)

    return find

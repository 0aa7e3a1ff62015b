"""From a batch file to the jobs that it stands for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.batch.config import BatchFile
from napari_teramind.jobs.specs import JobSpec, build_spec, dump_spec, spec_of

MOST_JOBS = 10_000
"""More than these are a mistake in a grid."""

_NOT_HERE = ("batch", "jobs", "resume")
_NAMED = ("simulate", "attention")
_FILES = (".zarr", ".zip", ".safetensors", ".ckpt", ".csv", ".toml", ".json")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class BatchJob:
    """One job of a batch.

    Attributes
    ----------
    spec
        What it does.
    name
        What it is called, and its folder: the same as long as it does the same.
    """

    spec: JobSpec
    name: str


def expand(batch: BatchFile, path: Path) -> list[BatchJob]:
    """Return the jobs of a batch, in the order of the file; the last key of a grid varies fastest.

    A key of a grid that is a field of the verb sets that field; any key can be used in text fields
    as ``{key}``, where a path stands for its stem and a list for its values with ``-`` between
    them.

    Parameters
    ----------
    batch
        The batch.
    path
        Its file, from whose folder relative paths count.

    Raises
    ------
    UserError
        If a job is not valid, two would make the same thing, or one needs what another makes.
    """
    jobs: list[BatchJob] = []
    base = path.resolve().parent
    for number, table in enumerate(batch.job, 1):
        where = f"{path}, job {number}"
        for fields in _products(table, where, MOST_JOBS - len(jobs)):
            jobs.append(_job(build_spec(fields, where, base), where))
    _check_apart(jobs, path)
    return jobs


def _products(table: Mapping[str, Any], where: str, room: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of every job that a table stands for."""
    fields = dict(table)
    grid = fields.pop("grid", {})
    if not isinstance(grid, dict) or not all(
        isinstance(values, list) and values for values in grid.values()
    ):
        raise UserError(f"{where}: a grid holds lists of values, as grid.seed = [0, 1, 2].")
    for key in grid:
        if not _KEY.fullmatch(key):
            raise UserError(f"{where}: {key!r} cannot be a key of a grid; use letters and _.")
        if key in fields:
            raise UserError(f"{where}: '{key}' is given both by itself and in the grid.")
    if prod(len(values) for values in grid.values()) > room:
        raise UserError(f"{where}: the batch has more than {MOST_JOBS:,} jobs; cut its grids down.")
    known = spec_of(str(fields.get("verb")))
    for values in product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        words = {key: _word(value) for key, value in point.items()}
        sets = {key: value for key, value in point.items() if known and key in known.model_fields}
        yield {key: _filled(value, words, where) for key, value in (fields | sets).items()}


def _word(value: Any) -> str:
    """Return what stands for a value in a text."""
    if isinstance(value, list):
        return "-".join(_word(each) for each in value)
    text = str(value)
    if "/" in text or "\\" in text or text.endswith(_FILES):
        text = text.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
        text = text.removesuffix(next((end for end in _FILES if text.endswith(end)), ""))
    return text.replace(",", "-")


def _filled(value: Any, words: Mapping[str, str], where: str) -> Any:
    """Put words into the places of a text, or of the texts of a list or a table."""
    if isinstance(value, list):
        return [_filled(each, words, where) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, words, where) for key, each in value.items()}
    if not isinstance(value, str):
        return value

    def word(place: re.Match[str]) -> str:
        if place[1] not in words:
            raise UserError(f"{where}: {place[0]} in {value!r} is no key of the job's grid.")
        return words[place[1]]

    return _PLACE.sub(word, value)


def _job(spec: JobSpec, where: str) -> BatchJob:
    from napari_teramind.brain.layout import check_name

    if spec.verb in _NOT_HERE:
        raise UserError(f"{where}: '{spec.verb}' cannot be part of a batch.")
    name = getattr(spec, "name", None)
    if spec.verb in _NAMED:
        if name is None:
            raise UserError(f"{where}: '{spec.verb}' needs a name in a batch, as name = 'seed 0'.")
        try:
            check_name(name, "result")
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    target = getattr(spec, "out", None) or getattr(spec, "brain", None) or ""
    words = " ".join(filter(None, [spec.verb, _word(str(target)), name]))
    short = re.sub(r"[^A-Za-z0-9 _.-]+", "-", words).strip(" .-")[:70].strip(" .-")
    return BatchJob(spec, f"{short} {hashlib.sha256(dump_spec(spec).encode()).hexdigest()[:8]}")


def _check_apart(jobs: list[BatchJob], path: Path) -> None:
    """Refuse jobs that get in each other's way: they run at the same time, in any order."""
    makers: dict[str, BatchJob] = {}
    names: set[str] = set()
    for job in jobs:
        for what in _made_by(job.spec):
            if what in makers:
                raise UserError(
                    f"{path}: '{makers[what].name}' and '{job.name}' would both make {what}; give "
                    "them different names or places."
                )
            makers[what] = job
        if job.name in names:
            raise UserError(f"{path}: '{job.name}' is there twice; leave one out.")
        names.add(job.name)
    for job in jobs:
        own = set(_made_by(job.spec))
        for read in _paths(job.spec):
            for place in (read, *(str(parent) for parent in Path(read).parents)):
                if place in makers and place not in own:
                    raise UserError(
                        f"{path}: '{job.name}' needs {place}, which '{makers[place].name}' makes; "
                        "jobs of a batch run in any order: put it into a batch of its own."
                    )


def _made_by(spec: Any) -> list[str]:
    """Return what a job makes, so that two that make the same can be told."""
    if getattr(spec, "out", None) is not None:
        return [_place(spec.out)]
    if spec.verb == "attention":
        return [f"{_place(spec.brain)}/attention/{spec.name}"]
    if spec.verb == "simulate":
        names = [spec.name]
        if spec.replicates > 1:
            samples = [f"{spec.name}, seed {spec.seed + k}" for k in range(spec.replicates)]
            names = [*samples, f"{spec.name}, mean", f"{spec.name}, standard deviation"]
        return [f"{_place(spec.brain)}/simulations/{name}" for name in names]
    if spec.verb == "checkpoint-get":
        return [f"the network '{spec.name}' in {spec.folder or 'your folder'}"]
    if spec.verb == "reproduce":
        return [f"the study {_place(spec.study)}"]
    return []


def _paths(spec: Any) -> Iterator[str]:
    """Yield whatever a job may read."""
    values = spec.model_dump(mode="json", exclude={"out", "name", "verb"})
    result = values.get("result")
    if spec.verb == "evaluate" and result is not None:
        yield f"{_place(spec.brain)}/simulations/{result}"
    if spec.verb == "structures" and result is not None:
        yield f"{_place(spec.brain)}/attention/{result}"
    if spec.verb == "export":
        yield f"{_place(spec.brain)}/{spec.image}"
    queue: list[Any] = list(values.values())
    while queue:
        value = queue.pop()
        if isinstance(value, str) and value:
            yield _place(value)
        elif isinstance(value, list | dict):
            queue.extend(value.values() if isinstance(value, dict) else value)


def _place(path: str | Path) -> str:
    text = str(path)
    return text if "://" in text else str(Path(text).absolute())

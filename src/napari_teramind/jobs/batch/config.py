"""What a batch file says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from napari_teramind.errors import UserError
from napari_teramind.jobs.specs.base import JobPath, Spec

Count = Annotated[int, Field(ge=1)]


class Tls(Spec):
    """Files with which a scheduler and those who use it know each other.

    Attributes
    ----------
    ca, cert, key
        Certificate of the authority, own certificate, own key: PEM files.
    """

    ca: JobPath
    cert: JobPath
    key: JobPath


class Cluster(Spec):
    """Where the work is done.

    Attributes
    ----------
    kind
        ``"none"``: one job after the other, in a process of its own, without dask; ``"local"``:
        workers on this computer; ``"scheduler"``: those of a dask scheduler that runs already;
        ``"slurm"``: jobs of a Slurm cluster, each with one worker.
    workers
        How many; by default one a GPU here, or one a core where there is none. On Slurm it must
        be given.
    threads
        With how many threads a worker computes; by default its share of the cores. Results are
        the same bytes only for the same number.
    address
        Of the scheduler, as ``"tcp://10.0.0.1:8786"``.
    tls
        For a scheduler at ``tls://``.
    slurm
        Options of ``dask_jobqueue.SLURMCluster``.
    """

    kind: Literal["none", "local", "scheduler", "slurm"] = "none"
    workers: Count | None = None
    threads: Count | None = None
    address: Annotated[str, Field(pattern=r"^(tcp|tls|wss?)://\S+$")] | None = None
    tls: Tls | None = None
    slurm: dict[str, Any] = {}

    @model_validator(mode="after")
    def _whole(self) -> Cluster:
        if (self.kind == "scheduler") != (self.address is not None):
            raise ValueError("an address goes with kind = 'scheduler', and only with that")
        if self.tls is not None and self.kind != "scheduler":
            raise ValueError("tls goes with kind = 'scheduler'; other kinds have it by themselves")
        if self.slurm and self.kind != "slurm":
            raise ValueError("options of Slurm go with kind = 'slurm'")
        if self.kind == "slurm" and self.workers is None:
            raise ValueError("say how many workers Slurm is asked for: workers = 4")
        if self.kind in ("none", "scheduler") and self.workers is not None:
            raise ValueError(f"workers cannot be chosen where kind = '{self.kind}'")
        return self

    @property
    def text(self) -> str:
        """Where, in words."""
        if self.kind == "none":
            return "one after the other"
        if self.kind == "scheduler":
            return f"by the scheduler at {self.address}"
        how_many = "workers" if self.workers is None else f"{self.workers} worker"
        plural = "s" if self.workers is not None and self.workers > 1 else ""
        return f"by {how_many}{plural} {'here' if self.kind == 'local' else 'of Slurm'}"


class BatchFile(Spec):
    """A batch.

    Attributes
    ----------
    out
        Folder for logs, status and what is done; by default ``<file>.batch`` beside the file.
    cluster
        Where.
    job
        Tables of fields, each with an optional ``grid``.
    """

    out: JobPath
    cluster: Cluster = Cluster()
    job: Annotated[list[dict[str, Any]], Field(min_length=1)]


def read_batch(path: Path, workers: int | None = None, scheduler: str | None = None) -> BatchFile:
    """Read a batch; paths in it count from its folder.

    Parameters
    ----------
    path
        The TOML file.
    workers
        This many in place of what it says; on this computer where it names no cluster.
    scheduler
        Address of a scheduler in place of the cluster that it names.

    Raises
    ------
    UserError
        If it cannot be read, or says something that makes no sense.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no batch file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not a batch file that can be read ({error}).") from None
    folder = path.resolve().parent
    values.setdefault("out", f"{path.stem}.batch")
    cluster = values.get("cluster", {})
    if isinstance(cluster, dict):
        values["cluster"] = _chosen(cluster, workers, scheduler)
    try:
        return BatchFile.model_validate(values, context={"base": folder})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        what = what[0].lower() + what[1:]
        raise UserError(f"{path}: {f'{where}: ' if where else ''}{what}.") from None


def _chosen(cluster: dict[str, Any], workers: int | None, scheduler: str | None) -> dict[str, Any]:
    """Return what the command line makes of the file's cluster."""
    if scheduler is not None:
        kept = {key: value for key, value in cluster.items() if key in ("threads", "tls")}
        cluster = {**kept, "kind": "scheduler", "address": scheduler}
    if workers is None:
        return cluster
    kind = cluster.get("kind", "none")
    return {**cluster, "kind": "local" if kind == "none" else kind, "workers": workers}

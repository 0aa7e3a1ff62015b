"""Workers on dask.distributed: on this computer, of a scheduler that runs, of Slurm.

A scheduler does whatever those who reach it ask for, as the user whom it belongs to. So the
schedulers that are started here demand TLS with certificates made for the occasion, and that of
this computer listens to this computer alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import JobError, UserError
from napari_teramind.jobs.batch.config import Cluster
from napari_teramind.jobs.batch.local import (
    LocalWorkers,
    environment,
    log,
    usable_cores,
    visible_gpus,
)

if TYPE_CHECKING:
    from distributed import Client

LOG_FILE = "cluster.log"
ALLOWED_DEATHS = 20
"""Workers that may die of a task before it counts as guilty: others may have been at fault."""
_CONNECT_SECONDS = 15
_THEIRS = ("distributed", "tornado", "bokeh")
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Workers:
    """Workers that can be given tasks.

    Attributes
    ----------
    client
        Of dask.
    text
        Where they are, in words.
    threads
        With how many threads each computes; None: as its computer says.
    sharing
        How many share a computer's memory.
    tend
        Starts those anew that have died, where that is ours to do.
    """

    client: Client
    text: str
    threads: int | None
    sharing: int
    tend: Callable[[], None] = lambda: None

    def check(self) -> None:
        """Say so if the scheduler is gone.

        Raises
        ------
        JobError
            If it is.
        """
        if self.client.status != "running":
            raise JobError(lost(self.text))

    def count(self) -> int:
        """How many there are now."""
        self.check()  # while dask looks for it again, it would wait
        self.tend()
        try:
            return len(self.client.nthreads())
        except Exception as error:  # whatever a connection that breaks makes it raise
            self.check()
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise JobError(lost(self.text)) from error  # dask has not noticed yet
            raise JobError(
                f"The scheduler at {self.text} does not answer ({error}); run the same command "
                "again to go on."
            ) from error


def lost(text: str) -> str:
    """Say that a scheduler is gone."""
    return f"The scheduler at {text} went away; run the same command again to go on."


@contextmanager
def workers_of(cluster: Cluster, folder: Path) -> Iterator[Workers]:
    """Start, or find, the workers of a cluster; those that were started end with the block.

    Parameters
    ----------
    cluster
        Which.
    folder
        Where the logs go.

    Raises
    ------
    UserError
        If a package is missing, the scheduler cannot be reached, or an option is wrong.
    """
    _needed("distributed", "cryptography")
    import dask
    import distributed  # noqa: F401  # it sets its loggers up when it is imported

    start = {"local": _local, "scheduler": _scheduler, "slurm": _slurm}[cluster.kind]
    deaths = {"distributed.scheduler.allowed-failures": ALLOWED_DEATHS}
    _log_to(folder / LOG_FILE)
    with dask.config.set(deaths), start(cluster, folder) as found:
        yield found


def _needed(*packages: str) -> None:
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError:
            raise UserError(
                f"A cluster needs the package {package.replace('_', '-')}: pip install "
                "'napari-teramind[cluster]', or leave the table [cluster] out of the batch."
            ) from None


def _log_to(path: Path) -> None:
    """Let what dask logs in this process go to a file, and not between our own sentences.

    From here on: its threads still log while, and after, a cluster is closed.
    """
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    theirs = [name for name in logging.root.manager.loggerDict if name.startswith(_THEIRS)]
    for logger in (log, *map(logging.getLogger, theirs)):
        if logger is not log and not logger.handlers:
            continue  # it hands on to one of the others
        for former in logger.handlers:
            former.close()
        logger.handlers, logger.propagate = [handler], False
    log.setLevel(logging.INFO)


@contextmanager
def _client(address: Any, security: Any = None) -> Iterator[Client]:
    from distributed import Client

    client = Client(
        address, security=security, timeout=_CONNECT_SECONDS, set_as_default=False,
        direct_to_workers=False,
    )  # fmt: skip
    try:
        yield client
    finally:
        with suppress(Exception):  # a scheduler that is gone cannot be taken leave of
            client.close(timeout=5)


@contextmanager
def _local(cluster: Cluster, folder: Path) -> Iterator[Workers]:
    from distributed import Scheduler, Security, SpecCluster

    gpus, cores = visible_gpus(), usable_cores()
    count = cluster.workers or len(gpus) or cores
    threads = cluster.threads or max(1, cores // count)
    environments = [
        environment(threads, gpus[number % len(gpus)] if gpus else None) for number in range(count)
    ]
    security = Security.temporary()
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": _LOOPBACK, "port": 0, "protocol": "tls://", "security": security,
            "dashboard_address": f"{_LOOPBACK}:0", "dashboard": False,
        },
    }  # fmt: skip
    with (
        SpecCluster(workers={}, scheduler=scheduler, security=security) as started,
        TemporaryDirectory(prefix="teramind-tls-") as certificates,  # nobody else can look into it
        _client(started) as client,
    ):
        options = [
            "--host", _LOOPBACK, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--memory-limit", "0", "--local-directory", certificates,
            *_tls_options(security, Path(certificates)),
        ]  # fmt: skip
        address = started.scheduler_address
        local = LocalWorkers(address, options, environments, folder / "workers.log")
        try:
            yield Workers(client, "this computer", threads, count, local.tend)
        finally:
            local.end()


def _tls_options(security: Any, folder: Path) -> list[str]:
    """Write a worker's certificates into a folder, and return the options that name them."""
    names = {"ca_file": "--tls-ca-file", "cert": "--tls-cert", "key": "--tls-key"}
    config = security.get_tls_config_for_role("worker")
    options = []
    for key, option in names.items():
        file = folder / f"{key}.pem"
        file.write_text(config[key], encoding="ascii")
        options += [option, str(file)]
    return options


@contextmanager
def _scheduler(cluster: Cluster, folder: Path) -> Iterator[Workers]:
    from distributed import Security

    address, security = str(cluster.address), None
    if cluster.tls is not None:
        for path in (cluster.tls.ca, cluster.tls.cert, cluster.tls.key):
            if not path.is_file():
                raise UserError(f"There is no file {path} for TLS; check the table cluster.tls.")
        security = Security(
            tls_ca_file=str(cluster.tls.ca),
            tls_client_cert=str(cluster.tls.cert),
            tls_client_key=str(cluster.tls.key),
            require_encryption=True,
        )
    with _reached(address, security) as client:
        yield Workers(client, address, cluster.threads, 1)


@contextmanager
def _reached(address: str, security: Any) -> Iterator[Client]:
    opened = _client(address, security)
    try:
        client = opened.__enter__()
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"No scheduler can be reached at {address} "
            f"({reason[0].rstrip('.') if reason else type(error).__name__}); start one, or check "
            "the address."
        ) from None
    try:
        yield client
    finally:
        opened.__exit__(None, None, None)


@contextmanager
def _slurm(cluster: Cluster, folder: Path) -> Iterator[Workers]:
    count = cluster.workers or 1
    with slurm_cluster(cluster, folder) as started, _client(started) as client:
        # Jobs that end, as with their walltime, are replaced.
        started.adapt(minimum_jobs=count, maximum_jobs=count)
        yield Workers(client, "this computer", _slurm_threads(cluster), 1)


def _slurm_threads(cluster: Cluster) -> int:
    return cluster.threads or int(cluster.slurm.get("cores", 1))


def slurm_cluster(cluster: Cluster, folder: Path) -> Any:
    """Return a dask_jobqueue.SLURMCluster that has asked for nothing yet.

    A job is one worker, which does one task at a time with as many threads as it has cores.

    Parameters
    ----------
    cluster
        Whose options are used.
    folder
        Shared by all computers: for logs and certificates.

    Raises
    ------
    UserError
        If dask-jobqueue is missing, or does not take an option.
    """
    _needed("dask_jobqueue")
    from dask_jobqueue import SLURMCluster
    from distributed import Security

    options = dict(cluster.slurm)
    logs, certificates = folder / "slurm", folder / "tls"
    logs.mkdir(parents=True, exist_ok=True)
    certificates.mkdir(mode=0o700, exist_ok=True)
    cores = options.pop("cores", 1)
    said = environment(_slurm_threads(cluster))
    exports = [f"export {key}={value}" for key, value in said.items()]
    values = {
        "memory": "16GB", "job_name": "teramind", "log_directory": str(logs),
        "security": Security.temporary(), "protocol": "tls://",
        "shared_temp_directory": str(certificates),
        **options,
        # One thread of dask a worker; torch's are its own.
        "cores": 1, "processes": 1, "job_cpu": cores,
        "job_script_prologue": [*exports, *options.get("job_script_prologue", [])],
    }  # fmt: skip
    try:
        return SLURMCluster(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"The table cluster.slurm cannot be used: {error}.") from None

"""Worker processes of this computer: started, and started anew where one dies."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from napari_teramind.errors import JobError

log = logging.getLogger("napari_teramind.batch")
"""What happens to the cluster while a batch is carried out."""

_SHORT_SECONDS = 10.0
_MOST_SHORT = 20
"""Lives so short in a row that it is the workers themselves that are broken."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    started: float


class LocalWorkers:
    """Workers of a scheduler, each a process with one thread of dask.

    Parameters
    ----------
    address
        Of the scheduler.
    options
        Of ``dask worker``.
    environments
        What each worker's environment has more than this process's.
    log_file
        Where they log.
    """

    def __init__(
        self,
        address: str,
        options: Sequence[str],
        environments: Sequence[dict[str, str]],
        log_file: Path,
    ) -> None:
        module = [sys.executable, "-P", "-m", "napari_teramind.jobs.batch.local_worker"]
        self._command = [*module, address, *options]
        self._log_file, self._short = log_file, 0
        self._workers = [self._start(environment) for environment in environments]

    def _start(self, environment: dict[str, str]) -> _Worker:
        with self._log_file.open("ab") as out:
            process = subprocess.Popen(
                self._command,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,  # it ends when this is closed, as when this process ends
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return _Worker(process, environment, time.monotonic())

    def tend(self) -> None:
        """Start those anew that have died.

        Raises
        ------
        JobError
            If they die again and again as soon as they are started.
        """
        for number, worker in enumerate(self._workers):
            code = worker.process.poll()
            if code is None:
                continue
            short = time.monotonic() - worker.started < _SHORT_SECONDS
            self._short = self._short + 1 if short else 0
            if self._short >= _MOST_SHORT:
                raise JobError(
                    f"The workers die as soon as they are started; {self._log_file} says why."
                )
            log.info("worker %d died (exit code %d) and is started anew", number, code)
            self._workers[number] = self._start(worker.environment)

    def end(self) -> None:
        """End them, and wait until they have ended."""
        for worker in self._workers:
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        for worker in self._workers:
            worker.process.kill()  # what a worker was at is of no use to anyone
            worker.process.wait()


def environment(threads: int, gpu: str | None = None) -> dict[str, str]:
    """Return what a worker's environment says of its threads, before torch is loaded; its GPU."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    found = dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}
    return found if gpu is None else found | {"CUDA_VISIBLE_DEVICES": gpu}


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(number) for number in range(count)])[:count]


def usable_cores() -> int:
    """Return how many cores this process may use."""
    whole = psutil.cpu_count(logical=False) or 1
    affinity: Any = getattr(psutil.Process(), "cpu_affinity", lambda: range(whole))
    return max(1, min(whole, len(affinity())))

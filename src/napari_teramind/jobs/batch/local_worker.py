"""A dask worker of this computer, which ends with the process that started it.

Started as ``python -m napari_teramind.jobs.batch.local_worker ADDRESS OPTIONS``, the options being
those of ``dask worker``; ends when its standard input is closed.
"""

from __future__ import annotations

from napari_teramind.jobs.process import end_with_stdin
from napari_teramind.memory import keep_freed_memory

_GRACE_SECONDS = 1.0


def main() -> None:
    """Run the worker."""
    from distributed.cli.dask_worker import main as dask_worker

    keep_freed_memory()
    end_with_stdin(_GRACE_SECONDS)
    dask_worker()


if __name__ == "__main__":
    main()

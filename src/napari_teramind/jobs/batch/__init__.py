"""Many jobs from one file, here or on a cluster."""

from __future__ import annotations

from napari_teramind.jobs.batch.config import BatchFile, Cluster, read_batch
from napari_teramind.jobs.batch.grid import BatchJob, expand
from napari_teramind.jobs.batch.run import run_batch

__all__ = ["BatchFile", "BatchJob", "Cluster", "expand", "read_batch", "run_batch"]

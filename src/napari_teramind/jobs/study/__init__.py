"""The paper's protocol from one file: train, generate, evaluate, attend, report."""

from __future__ import annotations

from napari_teramind.jobs.study.config import Study, read_study
from napari_teramind.jobs.study.protocol import reproduce

__all__ = ["Study", "read_study", "reproduce"]

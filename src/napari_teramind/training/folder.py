"""The run folder: everything that a run leaves, readable by a person and safe to kill at any time.

========================  ==========================================================================
``config.json``           settings, shape of the network, genes, brains
``metrics.csv``           a line a step; ``validation.csv``: held-out loss, PSNR, SSIM
``samples/``              real and generated, side by side
``last.safetensors``      the latest weights; ``best.safetensors``: the lowest held-out loss
``checkpoints/``          weights of the last validations
``tensorboard/``          the same numbers and pictures as events
``log.txt``               what happened when
``status.json``           how the run stands, and which process trains it
``state.pt``              what resuming needs
========================  ==========================================================================
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import filelock

from napari_teramind.errors import UserError
from napari_teramind.model.checkpoint import save_model, write_atomically
from napari_teramind.training import record
from napari_teramind.training.config import FREE, TrainConfig

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.tensorboard.writer import SummaryWriter

    from napari_teramind.model.network import TeraMind

METRICS_COLUMNS = ("step", "seconds", "loss", "collage", "shifted", "gradient_norm")
STATUS_INTERVAL = 2.0
"""Seconds between two writings of ``status.json``."""


class RunFolder:
    """A run folder that this process trains in; made by :meth:`claim`."""

    def __init__(
        self, path: Path, header: dict[str, Any], lock: filelock.FileLock, is_new: bool
    ) -> None:
        self.path = path
        self.header = header
        self.is_husk = is_new
        """Whether there is nothing in it yet that would be missed."""
        self._lock = lock
        self._tables: dict[str, TextIO] = {}
        self._board: SummaryWriter | None = None
        self._who = record.process_facts()
        self._told = 0.0
        self._status: dict[str, Any] = {}
        self.log = logging.getLogger(f"napari_teramind.run.{id(self)}")

    @classmethod
    def claim(cls, path: Path, header: dict[str, Any], resume: bool) -> RunFolder:
        """Create the folder, or take over an existing run, for this process alone.

        Raises
        ------
        UserError
            If the folder holds a run and ``resume`` is False, holds a run with other settings or
            brains, holds something else, cannot be made, or is being trained in by another process.
        """
        config = path / record.CONFIG
        is_new = not config.exists()
        if is_new:
            record.check_new(path)
        else:
            if not resume:
                raise UserError(
                    f"{path} holds a training run already; choose another folder or resume it."
                )
            old = json.loads(config.read_text(encoding="utf-8"))
            _check_same(path, old, header)
            if "init" in old:  # what the run started from stays true when it goes on
                header = {**header, "init": old["init"]}
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {path} cannot be made ({error.strerror}); choose another for the run."
            ) from error
        lock = filelock.FileLock(path / record.LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                f"The run in {path} is being trained by another process; stop that one first."
            ) from None
        (path / record.STOP).unlink(missing_ok=True)
        write_atomically(config, json.dumps(header, indent=2).encode())
        return cls(path, header, lock, is_new)

    def add_to_header(self, **values: Any) -> None:
        """Keep more of where the run comes from, in ``config.json`` and every checkpoint."""
        self.header |= values
        write_atomically(self.path / record.CONFIG, json.dumps(self.header, indent=2).encode())

    def begin(self, step: int) -> None:
        """Open tables and log, forgetting what was written after ``step``, to be done again."""
        handler = logging.FileHandler(self.path / record.LOG, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self.log.addHandler(handler)
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        for name in (record.METRICS, record.VALIDATION):
            _cut_table(self.path / name, step)
        for number, path in record.read_samples(self.path):
            if number > step:
                path.unlink()
        from torch.utils.tensorboard.writer import SummaryWriter

        self._board = SummaryWriter(str(self.path / record.TENSORBOARD), purge_step=step + 1)

    def close(self) -> None:
        """Let go of the folder; nothing is left of a run that never began."""
        for table in self._tables.values():
            table.close()
        if self._board is not None:
            self._board.close()
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            handler.close()
        if self.is_husk:
            for name in (record.CONFIG, record.LOG, record.METRICS, record.VALIDATION):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / record.TENSORBOARD, ignore_errors=True)
        self._lock.release()
        if self.is_husk:
            (self.path / record.LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # a panel's job has its log there
                self.path.rmdir()

    def stop_asked(self) -> bool:
        """Whether somebody put a file ``stop`` into the folder."""
        return (self.path / record.STOP).exists()

    # What is written

    def add_step(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Write a line of ``metrics.csv``."""
        row = {"step": step, "seconds": round(seconds, 2), **values}
        self._add_row(record.METRICS, row, METRICS_COLUMNS)
        self._add_scalars("training", step, values)

    def add_validation(self, step: int, values: Mapping[str, float], stains: list[str]) -> None:
        """Write a line of ``validation.csv``; what was not measured stays empty."""
        scores = [f"{score} {stain}" for score in ("psnr", "ssim") for stain in stains]
        columns = ("step", "loss", "collage", "shifted", *scores)
        self._add_row(record.VALIDATION, {"step": step, **values}, columns)
        self._add_scalars("validation", step, values)

    def add_picture(self, step: int, image: np.ndarray) -> Path:
        """Write a sample picture, uint8 (y, x)."""
        from PIL import Image

        path = self.path / record.SAMPLES / f"step-{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        write_atomically(path, buffer.getvalue())
        if self._board is not None:
            self._board.add_image("real and generated", image, step, dataformats="HW")
        return path

    def set_status(self, now: bool = True, **values: Any) -> None:
        """Say how the run stands; unless ``now``, not more often than every two seconds."""
        self._status |= values
        if now or time.monotonic() - self._told >= STATUS_INTERVAL:
            self._told = time.monotonic()
            status = {**self._status, **self._who, "updated": time.time()}
            write_atomically(self.path / record.STATUS, json.dumps(status, indent=1).encode())

    def save_weights(self, model: TeraMind, provenance: Mapping[str, Any]) -> None:
        """Write ``last.safetensors``."""
        save_model(model, self.path / record.WEIGHTS, {**self.header, **provenance})

    def keep_weights(self, step: int, keep: int, best: bool) -> None:
        """Keep the last weights as those of a step, and as the best so far if they are."""
        folder = self.path / record.CHECKPOINTS
        folder.mkdir(exist_ok=True)
        targets = [folder / f"step-{step:06d}.safetensors"] if keep else []
        targets += [self.path / record.BEST] if best else []
        for target in targets:
            for suffix in (".json", ".safetensors"):
                _copy(self.path / f"last{suffix}", target.with_suffix(suffix))
        for old in sorted(folder.glob("step-*.safetensors"))[: -keep or None]:
            old.unlink()
            old.with_suffix(".json").unlink(missing_ok=True)

    def _add_row(self, name: str, row: Mapping[str, Any], columns: tuple[str, ...]) -> None:
        table = self._tables.get(name)
        if table is None:
            path = self.path / name
            new = not path.exists() or path.stat().st_size == 0
            table = self._tables[name] = path.open("a", newline="", encoding="utf-8")
            if new:
                csv.writer(table, lineterminator="\n").writerow(columns)
        csv.DictWriter(table, columns, lineterminator="\n").writerow(row)
        table.flush()

    def _add_scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)


def _check_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to go on with a run under settings that change what is learned."""
    # What a run of an earlier version did not say yet was as the defaults are.
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for part in ("train", "model"):
        for key, value in json.loads(json.dumps(new[part])).items():
            before = old[part].get(key, defaults.get(key))
            if key not in FREE and before != value:
                raise UserError(
                    f"The run in {path} was started with {key} = {before}, "
                    f"not {value}; resume it with its own settings."
                )
    for part, what in (("brains", "learns from"), ("validation", "is measured on")):
        # By name: a disk may be somewhere else the next time.
        before, now = ([Path(at).name for at in each.get(part, ())] for each in (old, new))
        if before != now:
            raise UserError(
                f"The run in {path} {what} {', '.join(before) or 'no brain'}, not "
                f"{', '.join(now) or 'none'}; go on with the same brains, or start a new run from "
                "its weights with --init."
            )
    if old["genes"] != new["genes"]:
        raise UserError(
            f"The run in {path} was started with another gene panel; resume it with the same "
            "brains."
        )


def _cut_table(path: Path, step: int) -> None:
    """Drop lines of later steps, and a line that was being written when the run was killed."""
    if not path.exists():
        return
    first, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    kept = [
        line
        for line in lines
        if line.endswith("\n")
        and line.partition(",")[0].isdigit()
        and int(line.partition(",")[0]) <= step
    ]
    write_atomically(path, "".join([first, *kept]).encode())


def _copy(source: Path, target: Path) -> None:
    """Put a copy into place in one step; a second name of the same file where that can be."""
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)  # files are only ever replaced, never changed
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)

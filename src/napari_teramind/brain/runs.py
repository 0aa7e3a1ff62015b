"""What the runs that write results share: one run a result, a full disk, results replaced."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from napari_teramind.brain.foundation import is_zip
from napari_teramind.brain.ledger import Ledger
from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.brain.store import BrainStore

RUNS = ".runs"
KINDS = ("simulations", "attention")
"""Groups of a brain that hold results."""

_PATIENCE = 0.5
"""Seconds for which a lock is waited for: `settle` holds one for a moment."""


def local_folder(brain: BrainStore) -> Path:
    """Return a brain's folder, into which results are written.

    Raises
    ------
    UserError
        If the brain is not on this computer.
    """
    if "://" in brain.path:
        raise UserError(
            f"{brain.path} is remote, and results are kept in the brain: copy the brain to this"
            " computer."
        )
    if is_zip(brain.path):
        raise UserError(
            f"{brain.path} is a zip file, and results are kept in the brain: unpack it first."
        )
    return Path(brain.path)


@contextmanager
def disk_errors(path: Path, then: str) -> Iterator[None]:
    """Turn a full disk, or a full quota, into a sentence that ends with what to do then."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"The disk of {path} is full; free some space, then {then}.") from error


class RunFolder:
    """The folder ``.runs/<kind>/<name>`` of a brain: what a run needs beside its result.

    It holds the ledger of the result's shards, the result while it is made, and the one that it
    replaces. Results come and go by renaming, so that a kill at any instant leaves a whole one: in
    its place or here, from where `acquire` puts it back.

    Parameters
    ----------
    result : Path
        ``<brain>/<kind>/<name>``.

    Attributes
    ----------
    path : Path
        The folder.
    ledger : Ledger
        Of the result's shards.
    """

    def __init__(self, result: Path) -> None:
        self.result = result
        self.path = result.parent.parent / RUNS / result.parent.name / result.name
        self.ledger = Ledger(self.path)
        self._new = self.path / "new"
        self._replaced = self.path / "replaced"
        self._waste = self.path / "waste"
        # Beside the folder: a lock that went with it could be held by two.
        self._lock = filelock.FileLock(self.path.with_name(f".{result.name}.lock"))

    def acquire(self) -> None:
        """Take the lock, and set right what a killed run left.

        The system gives the lock back when its holder dies.

        Raises
        ------
        UserError
            If another run has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=_PATIENCE)
        except filelock.Timeout:
            raise UserError(
                f"Another run is writing '{self.result.name}'; wait for it, or choose another name."
            ) from None
        try:
            self._settle()
            self.path.mkdir(exist_ok=True)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let another run have the result; what was written stays."""
        if self._lock.is_locked:  # else it may be another's by now
            with suppress(OSError):  # the folder stays if there is something in it
                self.path.rmdir()
            self._lock.release()

    def _settle(self) -> None:
        """Put the replaced result back if its place is empty; clear away what is needed no more."""
        if not self.result.exists() and self._replaced.exists():
            self._replaced.rename(self.result)
        if not self.result.exists() or is_complete(self.result):
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for left_over in (self._new, self._waste):
                shutil.rmtree(left_over, ignore_errors=True)

    @contextmanager
    def making(self) -> Iterator[Path]:
        """Give the path at which to make a new result; if that fails, all is as it was."""
        try:
            yield self._new
        except BaseException:
            self._settle()
            raise

    def put(self, new: Path) -> None:
        """Give a result its place. A complete one that is there is kept here; others go."""
        if self.result.exists():
            aside = self._replaced if is_complete(self.result) else self._waste
            self.result.rename(aside)
        new.rename(self.result)
        shutil.rmtree(self._waste, ignore_errors=True)

    def put_back(self) -> None:
        """Remove the result, and give its place back to the one that it was to replace."""
        if self.result.exists():
            self.result.rename(self._waste)
        if self._replaced.exists():
            self._replaced.rename(self.result)
        self.close()

    def close(self) -> None:
        """Clear away what the run needed, and release the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()


def is_complete(result: Path) -> bool:
    """Tell whether a result in a brain is complete, from its attributes."""
    try:
        attributes = json.loads((result / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    said = attributes.get("teramind")
    return not (isinstance(said, dict) and said.get("complete") is False)


def settle(brain: BrainStore) -> None:
    """Set right what killed runs left in a brain, but for results that are being written."""
    path = local_folder(brain)
    for kind in KINDS:
        for folder in sorted((path / RUNS / kind).glob("[!.]*/")):
            run = RunFolder(path / kind / folder.name)
            with suppress(UserError):  # another run has it
                run.acquire()
                run.release()

"""Fetching a large file: it goes on after a cut, and is used only if its hash is right."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from napari_teramind.errors import UserError
from napari_teramind.published.record import RecordFile
from napari_teramind.published.web import Unreachable, open_address, read_piece
from napari_teramind.words import part as part_of
from napari_teramind.words import size

Report = Callable[[str, int, int], None]

PIECE = 1 << 18
PAUSES = (0.5, 2.0, 5.0)
"""Seconds to wait before another try, after a cut; as many tries as that without a byte more."""


def part_path(file: RecordFile, folder: Path) -> Path:
    """Return where a file is kept until it is whole; parts of another version have other names."""
    return folder / f"{file.file}.{file.md5[:8]}.part"


def there(file: RecordFile, folder: Path) -> int:
    """Return how many bytes of a file an earlier call of `fetch` has left."""
    path = part_path(file, folder)
    return min(path.stat().st_size, file.size) if path.exists() else 0


def fetch(file: RecordFile, folder: Path, report: Report) -> Path:
    """Fetch a file into its part file, going on from what is there, and check its hash.

    Parameters
    ----------
    file
        What to fetch.
    folder
        Where the part file goes; it must exist. Memory does not grow with the file.
    report
        Told bytes done and in all.

    Returns
    -------
    Path
        The part file, whole and checked. It is left where it is when this is interrupted at any
        instant, and when the connection fails for good: the next call goes on with it.

    Raises
    ------
    UserError
        If there is no room, no connection, or the hash is wrong; then the part is removed.
    """
    path = part_path(file, folder)
    try:
        with path.open("a+b") as stream:
            part = _Part(stream)
            part.read_again(file, report)
            need_room(folder, file.size - part.done, file.file)
            _complete(part, file, report)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"The disk of {folder} became full while {file.file} was fetched; make room and run "
            "the same again to go on."
        ) from error
    if part.done != file.size or part.md5.hexdigest() != file.md5:
        path.unlink()
        raise UserError(
            f"{file.file} arrived damaged (its MD5 is {part.md5.hexdigest()}, and should be "
            f"{file.md5}) and was removed; get it again."
        )
    return path


def is_whole(path: Path, file: RecordFile, report: Report) -> bool:
    """Whether a file on the disk is the published one, by its hash."""
    if path.stat().st_size != file.size:
        return False
    with path.open("rb") as stream:
        part = _Part(stream)
        part.read_again(file, report)
    return part.md5.hexdigest() == file.md5


def need_room(folder: Path, count: int, what: str) -> None:
    """Make sure that a disk has room.

    Raises
    ------
    UserError
        If it has less than ``count`` bytes.
    """
    free = shutil.disk_usage(folder).free
    if free < count:
        raise UserError(
            f"There is room for {size(free)} in {folder}, and {what} needs {size(count)}; make "
            "room, or choose another folder."
        )


class _Part:
    """A file that arrives, and the hash of what has arrived."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.begin()

    def begin(self) -> None:
        """Count from the beginning."""
        self.done = 0
        self.md5 = hashlib.md5(usedforsecurity=False)  # what Zenodo gives; against accidents

    def read_again(self, file: RecordFile, report: Report) -> None:
        """Hash what an earlier call has left."""
        found = self._stream.seek(0, 2)
        self._stream.seek(0)
        if found > file.size:  # never ours
            self.restart()
        while piece := self._stream.read(PIECE):
            self._count(piece)
            self.tell(f"Checking what is there of {file.file}", found, report)

    def restart(self) -> None:
        """Forget what is there."""
        self._stream.truncate(0)
        self.begin()

    def add(self, piece: bytes) -> None:
        """Append what has arrived."""
        self._stream.write(piece)
        self._count(piece)

    def tell(self, words: str, total: int, report: Report) -> None:
        """Tell how far it is."""
        report(f"{words}: {part_of(self.done, total)}", self.done, total)

    def _count(self, piece: bytes) -> None:
        self.md5.update(piece)
        self.done += len(piece)


def _complete(part: _Part, file: RecordFile, report: Report) -> None:
    """Fetch what is missing, with some patience for connections that are cut."""
    furthest, tries = part.done, 0
    while part.done < file.size:
        try:
            _fetch_rest(part, file, report)
        except Unreachable as error:
            if part.done > furthest:
                furthest, tries = part.done, 0
            if tries == len(PAUSES):
                raise UserError(
                    f"The download of {file.file} broke off after {size(part.done)} of "
                    f"{size(file.size)} ({error}); what has arrived is kept: run the same "
                    "again to go on."
                ) from error
            part.tell(f"Waiting for the server of {file.file}", file.size, report)
            time.sleep(PAUSES[tries])
            tries += 1


def _fetch_rest(part: _Part, file: RecordFile, report: Report) -> None:
    with open_address(file.address, start=part.done) as answer:
        if answer.status == http.client.PARTIAL_CONTENT:
            _check_start(answer, part.done, file)
        elif part.done:  # a server that can send only whole files
            part.restart()
        part.tell(f"Downloading {file.file}", file.size, report)
        while part.done < file.size:
            part.add(read_piece(answer, min(PIECE, file.size - part.done)))
            part.tell(f"Downloading {file.file}", file.size, report)


def _check_start(answer: http.client.HTTPResponse, start: int, file: RecordFile) -> None:
    """Make sure that a part begins where it was asked for."""
    told = answer.headers.get("Content-Range", "")
    match = re.match(r"bytes (\d+)-", told)
    if match is None or int(match[1]) != start:
        raise UserError(
            f"The server of {file.file} sent another part ({told or 'unnamed'}) than it was asked "
            "for; try again later."
        )

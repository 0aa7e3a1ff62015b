"""Checkpoints in a published zip file: found, and unpacked under names of our own."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_teramind.errors import UserError
from napari_teramind.published.download import PIECE, Report, need_room
from napari_teramind.published.record import RecordFile
from napari_teramind.published.web import Unreachable, open_address, read_piece
from napari_teramind.words import part

CHECKPOINT = "last.ckpt"
ROOM = 2
"""Times its size that a checkpoint needs: while it is there, it is converted, to at most that."""
MOST_DIRECTORY = 64_000_000
"""Bytes of a zip file's table of contents that are read from afar."""


@dataclass(frozen=True)
class Member:
    """A checkpoint in a zip file: its own name, that of its folder, and its entry."""

    name: str
    info: zipfile.ZipInfo


def find_checkpoints(archive: zipfile.ZipFile, file: RecordFile) -> list[Member]:
    """Return the checkpoints in a zip file, by name.

    Raises
    ------
    UserError
        If there is none, or one lies where a zip file cannot rightly put it.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if info.is_dir() or path.name != CHECKPOINT:
            continue
        if ".." in path.parts or path.is_absolute() or ":" in info.filename:
            raise UserError(
                f"{file.file} holds the path '{info.filename}', which leads out of it; nothing of "
                "it was unpacked."
            )
        # Ours is never the path itself: the folder's name, or, where two have the same, all.
        name = _plain(path.parent.name) or file.name
        if name in members:
            name = _plain("-".join(path.parent.parts))
        if name in members:
            raise UserError(f"{file.file} holds '{info.filename}' twice; nothing was unpacked.")
        members[name] = info
    if not members:
        raise UserError(f"{file.file} holds no checkpoint ({CHECKPOINT}); choose another file.")
    return [Member(name, members[name]) for name in sorted(members)]


def open_archive(path: Path, file: RecordFile) -> zipfile.ZipFile:
    """Open a fetched file as a zip file.

    Raises
    ------
    UserError
        If it is none.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"{file.file} is no zip file ({error}); choose another file.") from error


def unpack(archive: zipfile.ZipFile, member: Member, target: Path, report: Report) -> None:
    """Write a checkpoint to a new file; never more bytes than the zip file's contents say.

    Raises
    ------
    UserError
        If it is damaged, locked, or there is no room for it.
    """
    count = member.info.file_size
    need_room(target.parent, ROOM * count, member.name)
    try:
        with archive.open(member.info) as packed, target.open("xb") as out:
            done = 0
            while piece := packed.read(PIECE):
                done += len(piece)
                out.write(piece)
                report(f"Unpacking {member.name}: {part(done, count)}", done, count)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{member.name} cannot be unpacked ({error}); get it again.") from error


def look_into(file: RecordFile) -> list[Member] | None:
    """Return the checkpoints of a zip file that was not fetched; None if they cannot be known.

    Only its table of contents is read, as parts, which not every server can send.

    Raises
    ------
    UserError
        As `find_checkpoints`.
    """
    try:
        archive = zipfile.ZipFile(_Remote(file))
    except (_WholeOnlyError, Unreachable, zipfile.BadZipFile, NotImplementedError, ValueError):
        return None  # what it is will be seen when it is here, and its hash is right
    return find_checkpoints(archive, file)


class _WholeOnlyError(Exception):
    """A server sends no parts."""


class _Remote(io.RawIOBase):
    """A file on a web server, read as parts when they are asked for."""

    def __init__(self, file: RecordFile) -> None:
        super().__init__()
        self._file = file
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        start = {0: 0, 1: self._at, 2: self._file.size}[whence]
        if start + offset < 0:
            raise OSError("before the beginning")  # as of a file; zipfile relies on it
        self._at = start + offset
        return self._at

    def read(self, count: int = -1) -> bytes:
        stop = self._file.size if count < 0 else min(self._at + count, self._file.size)
        if stop <= self._at:
            return b""
        if stop - self._at > MOST_DIRECTORY:
            raise _WholeOnlyError
        with open_address(self._file.address, self._at, stop) as answer:
            if answer.status != 206:
                raise _WholeOnlyError
            content = b""
            while len(content) < stop - self._at:
                content += read_piece(answer, stop - self._at - len(content))
        self._at = stop
        return content


def _plain(name: str) -> str:
    """Return a name as a file can have it on every system; "" if nothing is left of it."""
    return re.sub(r"[^\w.\-]", "_", name).strip("._")[:150]

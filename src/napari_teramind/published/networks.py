"""Getting published networks: fetched, checked, unpacked, converted, kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import filelock

from napari_teramind.errors import UserError
from napari_teramind.published.archive import (
    ROOM,
    Member,
    find_checkpoints,
    look_into,
    open_archive,
    unpack,
)
from napari_teramind.published.download import Report, fetch, is_whole, need_room, there
from napari_teramind.published.here import networks_in, networks_of, read_network
from napari_teramind.published.record import Record, RecordFile, read_record


@dataclass(frozen=True)
class Got:
    """Published networks that are here now.

    Attributes
    ----------
    file
        The published file that they were in.
    doi
        Of the record.
    paths
        The networks, ``.safetensors``, by name.
    fetched
        Whether they were fetched now, or were here already.
    kept
        The zip file, if it was to be kept.
    """

    file: RecordFile
    doi: str
    paths: tuple[Path, ...]
    fetched: bool
    kept: Path | None = None


def get_networks(
    name: str,
    folder: Path,
    genes: Sequence[str] | None = None,
    *,
    keep: bool = False,
    overwrite: bool = False,
    api: str | None = None,
    report: Report | None = None,
) -> Got:
    """Get the networks of a published file, as safetensors.

    The zip file is fetched into a part file beside them, with its MD5 checked. Whenever this is
    interrupted, calling it again goes on: with the rest of the file, or with the networks that
    were not converted yet. Memory grows with the largest checkpoint, not with the zip file.

    Parameters
    ----------
    name
        Of the published file, as ``main`` for ``main.zip``.
    folder
        Where the networks go; made if it is not there.
    genes
        Their panel, which published checkpoints do not carry; a network takes the first ones of a
        longer list. None leaves them without names.
    keep
        Keep the zip file too.
    overwrite
        Get networks that are here already once more, and replace them.
    api
        As for :func:`.record.read_record`.
    report
        Called with words, bytes done and bytes in all.

    Raises
    ------
    UserError
        If there is no such file, no connection, no room; if it is damaged or holds no checkpoint;
        or if a file of another origin is in the way.
    """
    tell = report or (lambda *_: None)
    tell("Asking what was published", 0, 0)
    record = read_record(api)
    file = record.find(name)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, file):
        own, complete = networks_of(file, networks_in(folder))
        if complete and not overwrite:
            if genes is not None and not all(network.named for network in own):
                raise UserError(
                    f"The networks of {file.name} are in {folder} already, without names of genes; "
                    "allow overwriting to get them again with these."
                )
            return Got(file, record.doi, tuple(network.path for network in own), fetched=False)
        kept = folder / file.file
        zipped = _archive(file, folder, kept, overwrite, tell)
        paths = _convert_all(zipped, file, record, folder, genes, overwrite, tell)
        if zipped != kept:
            if keep:
                zipped.rename(kept)
            else:
                zipped.unlink()
        return Got(file, record.doi, tuple(paths), True, kept if kept.exists() else None)


def _archive(file: RecordFile, folder: Path, kept: Path, overwrite: bool, report: Report) -> Path:
    """Return the whole zip file: one that was kept, or one that is fetched now."""
    if kept.exists():
        if is_whole(kept, file, report):
            return kept
        raise UserError(
            f"{kept} is not the file that was published under that name; move it away, or choose "
            "another folder."
        )
    if there(file, folder) != file.size:
        report(f"Looking into {file.file}", 0, 0)
        members = look_into(file) or []
        for member in members:  # before it is fetched, which may take hours
            _refuse_others(_target(folder, member), file, overwrite)
        largest = max((member.info.file_size for member in members), default=0)
        need_room(folder, file.size - there(file, folder) + ROOM * largest, file.file)
    return fetch(file, folder, report)


def _convert_all(
    zipped: Path,
    file: RecordFile,
    record: Record,
    folder: Path,
    genes: Sequence[str] | None,
    overwrite: bool,
    report: Report,
) -> list[Path]:
    """Convert every checkpoint of a zip file, but for those that an earlier call has converted."""
    from napari_teramind.model import convert_checkpoint

    with (
        _opened(zipped, folder / file.file, file) as (archive, members),
        _workplace(folder, file) as place,
    ):
        names = [member.name for member in members]
        paths = [_target(folder, member) for member in members]
        for path in paths:
            _refuse_others(path, file, overwrite)
        for member, path in zip(members, paths, strict=True):
            if path.exists() and not overwrite:
                continue
            checkpoint = place / f"{member.name}.ckpt"
            unpack(archive, member, checkpoint, report)
            report(f"Converting {member.name}", 0, 0)
            origin = {
                "doi": record.doi,
                "file": file.file,
                "md5": file.md5,
                "member": member.info.filename,
                "networks": names,
            }
            convert_checkpoint(checkpoint, path, genes, overwrite, {"published": origin})
            checkpoint.unlink()
    return paths


@contextmanager
def _opened(zipped: Path, kept: Path, file: RecordFile) -> Iterator[tuple[ZipFile, list[Member]]]:
    """Yield the zip file and its checkpoints; what is of no use and was not kept before goes."""
    try:
        with open_archive(zipped, file) as archive:
            members = find_checkpoints(archive, file)
    except UserError:
        if zipped != kept:
            zipped.unlink()
        raise
    with open_archive(zipped, file) as archive:
        yield archive, members


def _target(folder: Path, member: Member) -> Path:
    return folder / f"{member.name}.safetensors"


def _refuse_others(path: Path, file: RecordFile, overwrite: bool) -> None:
    """Make sure that nothing else has a network's name."""
    if overwrite or not path.exists():
        return
    network = read_network(path)
    if network is None or network.md5 != file.md5:
        raise UserError(
            f"{path} exists already and is not of {file.file}; move it away, choose another "
            "folder, or allow overwriting."
        )


@contextmanager
def _alone(folder: Path, file: RecordFile) -> Iterator[None]:
    """Let one process at a time get a file into a folder; the system frees it if that one dies."""
    lock = filelock.FileLock(folder / f".{file.file}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"{file.name} is being fetched into {folder} already; wait for it, or cancel it."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _workplace(folder: Path, file: RecordFile) -> Iterator[Path]:
    """Yield an empty folder for what is unpacked; what a killed run has left in it goes first."""
    place = folder / f".{file.file}.unpacked"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)

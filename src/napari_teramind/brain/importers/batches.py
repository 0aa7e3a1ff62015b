"""Transcript tables of any length, read in batches: CSV, CSV packed by gzip, or Parquet.

Memory holds one batch and what the reader has read ahead, however long the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from napari_teramind.errors import UserError

_BATCH_ROWS = 1 << 17
# Small, because pyarrow's csv reader holds some thirty blocks that it has read ahead.
_BATCH_BYTES = 1 << 21
_HEADER_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 20
_DELIMITERS = ",\t;"
_PARQUET = (".parquet", ".pq")
_FAILURES = (pa.ArrowException, OSError, EOFError)


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read; None leaves one out.

    Attributes
    ----------
    x, y, z
        Numbers.
    gene, group
        Words; `group` is what tells slices apart.
    """

    x: str
    y: str
    gene: str | None = None
    z: str | None = None
    group: str | None = None

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        named = (self.x, self.y, self.gene, self.z, self.group)
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    def words(self) -> list[str]:
        """Those that hold words."""
        return [name for name in (self.gene, self.group) if name is not None]


MERSCOPE = Columns("global_x", "global_y", "gene", "global_z")


@dataclass(frozen=True)
class Words:
    """Words of a batch: `names[codes[i]]` is that of row i, none where the code is -1."""

    codes: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Batch:
    """Rows of a table: places and heights as they are in it, genes, groups."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray | None
    gene: Words
    group: Words
    done: int
    total: int


def files_of(path: Path) -> list[Path]:
    """Return the files of a table: itself, or the Parquet parts in a folder, in their order.

    Raises
    ------
    UserError
        If there is no table.
    """
    if path.is_file():
        return [path]
    parts = [part for part in path.rglob("*") if part.suffix in _PARQUET and part.is_file()]
    parts = sorted(part for part in parts if not part.name.startswith((".", "_")))
    if not parts:
        what = "a folder without Parquet files" if path.is_dir() else "not there"
        raise UserError(f"{path} is {what}: choose a table, as transcripts.csv or .parquet.")
    return sorted(parts, key=lambda part: (len(part.name), str(part)))


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises
    ------
    UserError
        If it cannot be read as a table.
    """
    try:
        if path.suffix in _PARQUET:
            names: list[str] = pa.parquet.read_schema(path).names
            return names
        return _header(path)[0]
    except _FAILURES as error:
        raise _unreadable(path, error) from error


def read_batches(path: Path, columns: Columns) -> Iterator[Batch]:
    """Read a transcript table, CSV (``.gz`` too) or Parquet, in batches.

    Parameters
    ----------
    path : Path
        The table; of a CSV the header says whether commas, semicolons or tabs part the columns.
    columns : Columns
        What is read of it.

    Raises
    ------
    UserError
        If the table is empty, malformed, or lacks a column.
    """
    read = _read_parquet if path.suffix in _PARQUET else _read_csv
    rows = 0
    try:
        for table, done, total in read(path, columns):
            rows += table.num_rows
            yield _batch(table, columns, done, total)
    except _FAILURES as error:
        raise _unreadable(path, error) from error
    if rows == 0:
        raise UserError(f"{path} has no transcripts: export the table again.")


def check_columns(path: Path, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Raise a UserError that lists the columns there are, unless all wanted ones are."""
    missing = [name for name in wanted if name not in found]
    if missing:
        named = ", ".join(found[:30]) + (f" and {len(found) - 30} more" if len(found) > 30 else "")
        raise UserError(f"{path} lacks the column {' and '.join(missing)}: it has {named}.")
    twice = sorted({name for name in wanted if list(found).count(name) > 1})
    if twice:
        raise UserError(f"{path} has two columns {twice[0]}: rename one of them.")


def _unreadable(path: Path, error: Exception) -> UserError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path} cannot be read as a transcript table ({first}).")


def _unpacked(file: IO[bytes]) -> Any:
    """Return what is in a file, unpacked on the way if gzip packed it."""
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return pa.CompressedInputStream(file, "gzip") if packed else file


def _header(path: Path) -> tuple[list[str], str]:
    """Return the names in a CSV's first line, and what parts them."""
    with path.open("rb") as file:
        start = _unpacked(file).read(_HEADER_BYTES)
    line, end, _ = start.partition(b"\n")
    if not line.strip():
        raise UserError(f"{path} is empty: export the table again.")
    if not end and len(start) >= _HEADER_BYTES:
        raise UserError(f"{path} has a first line of more than a megabyte: it is not a table.")
    text = line.decode("utf-8", "replace")
    delimiter = max(_DELIMITERS, key=text.count)
    options = pa.csv.ParseOptions(delimiter=delimiter)
    parsed = pa.csv.read_csv(pa.BufferReader(line + b"\n"), parse_options=options)
    return list(parsed.schema.names), delimiter


def _read_csv(path: Path, columns: Columns) -> Iterator[tuple[pa.Table, int, int]]:
    total = path.stat().st_size
    names, delimiter = _header(path)
    check_columns(path, columns.names, names)
    types = {name: pa.float64() for name in columns.names}
    types |= {name: pa.string() for name in columns.words}
    with path.open("rb") as file:
        reader = pa.csv.open_csv(
            _unpacked(file),
            read_options=pa.csv.ReadOptions(block_size=_BATCH_BYTES),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter),
            convert_options=pa.csv.ConvertOptions(
                include_columns=columns.names, column_types=types
            ),
        )
        for batch in reader:
            yield pa.Table.from_batches([batch]), min(file.tell(), total), total


def _read_parquet(path: Path, columns: Columns) -> Iterator[tuple[pa.Table, int, int]]:
    # Otherwise it keeps in memory whatever it has read, to the end of the file.
    with pa.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        check_columns(path, columns.names, file.schema_arrow.names)
        total, done = file.metadata.num_rows, 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns.names):
            done += batch.num_rows
            yield pa.Table.from_batches([batch]), done, total


def _batch(table: pa.Table, columns: Columns, done: int, total: int) -> Batch:
    return Batch(
        x=_numbers(table, columns.x),
        y=_numbers(table, columns.y),
        z=None if columns.z is None else _numbers(table, columns.z),
        gene=_words(table, columns.gene),
        group=_words(table, columns.group),
        done=done,
        total=total,
    )


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    values: np.ndarray = table[name].cast(pa.float64()).to_numpy()
    return values


def _words(table: pa.Table, name: str | None) -> Words:
    if name is None:
        return Words(np.zeros(table.num_rows, np.int64), [""])
    # By way of strings: some programs write them as bytes, or as a dictionary of either.
    column = table[name].cast(pa.string()).combine_chunks().dictionary_encode()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Words(codes, column.dictionary.to_pylist())

"""The record of published files, as Zenodo lists it: names, sizes and hashes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from napari_teramind.errors import UserError
from napari_teramind.published.web import read_small

RECORD = "14745019"
"""Zenodo's number of the record that Tera-MIND's authors published their files in."""
API = "https://zenodo.org/api"
API_VARIABLE = "TERAMIND_ZENODO"
"""Names another address of Zenodo's API, as that of a mirror inside an institute."""
MOST_BYTES = 4_000_000
ARCHIVE = ".zip"


@dataclass(frozen=True)
class RecordFile:
    """A published file.

    Attributes
    ----------
    file
        Its name in the record, such as ``main.zip``.
    size
        Bytes.
    md5
        What its content must give.
    address
        Where it is fetched from.
    """

    file: str
    size: int
    md5: str
    address: str

    @property
    def name(self) -> str:
        """Name by which it is asked for: that of the file without ``.zip``."""
        return self.file.removesuffix(ARCHIVE)


@dataclass(frozen=True)
class Record:
    """What was published: the record's DOI, and its zip files by name."""

    doi: str
    files: tuple[RecordFile, ...]

    def find(self, name: str) -> RecordFile:
        """Return a file by its name.

        Raises
        ------
        UserError
            If there is none.
        """
        for file in self.files:
            if name in (file.name, file.file):
                return file
        names = ", ".join(file.name for file in self.files) or "nothing"
        raise UserError(f"Nothing was published under the name '{name}'; there is {names}.")


class _Links(BaseModel):
    address: str = Field(alias="self")


def _plain(name: str) -> str:
    """Refuse names that could lead elsewhere: files are written under them."""
    if not re.fullmatch(r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]{0,199}", name):
        raise ValueError(f"{name!r} is no plain file name")
    return name


class _File(BaseModel):
    key: Annotated[str, AfterValidator(_plain)]
    size: Annotated[int, Field(ge=0)]
    checksum: Annotated[str, Field(pattern=r"^md5:[0-9a-f]{32}$")]
    links: _Links


class _Answer(BaseModel):
    doi: str
    files: list[_File]


def read_record(api: str | None = None) -> Record:
    """Ask Zenodo which files were published.

    Parameters
    ----------
    api
        Address of the API, for mirrors; default: that of the variable ``TERAMIND_ZENODO``, or
        else Zenodo's own.

    Raises
    ------
    UserError
        If there is no answer, or one that is not a record of Zenodo
        (https://developers.zenodo.org, "Records").
    """
    base = (api or os.environ.get(API_VARIABLE) or API).rstrip("/")
    address = f"{base}/records/{RECORD}"
    content = read_small(address, MOST_BYTES)
    try:
        answer = _Answer.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise UserError(
            f"{address} does not answer as Zenodo does ({where}: {first['msg'].lower()}); check "
            f"the address, and the variable {API_VARIABLE} if you have set it."
        ) from None
    found = (_published(file) for file in answer.files)
    return Record(answer.doi, tuple(file for file in found if file.file.endswith(ARCHIVE)))


def _published(file: _File) -> RecordFile:
    md5 = file.checksum.removeprefix("md5:")
    return RecordFile(file.key, file.size, md5, file.links.address)

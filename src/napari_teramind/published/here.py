"""Which published networks are in a folder, by what their files say of where they come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from napari_teramind.model.config import METADATA_KEY
from napari_teramind.published.download import there
from napari_teramind.published.record import Record, RecordFile


@dataclass(frozen=True)
class Network:
    """A network in a folder that was published.

    Attributes
    ----------
    path
        Its file.
    md5
        Of the zip file that it was in.
    siblings
        Names of all networks that were in it.
    named
        Whether it says which genes it was trained with.
    """

    path: Path
    md5: str
    siblings: tuple[str, ...]
    named: bool

    @property
    def name(self) -> str:
        """Its own name, that of its folder in the zip file."""
        return self.path.stem


def networks_in(folder: Path) -> list[Network]:
    """Return the published networks in a folder, by name; reads only the files' headers."""
    found = (read_network(path) for path in sorted(folder.glob("*.safetensors")))
    return [network for network in found if network is not None]


def networks_of(file: RecordFile, networks: list[Network]) -> tuple[list[Network], bool]:
    """Return those that were in a published file, and whether they are all that were."""
    own = [network for network in networks if network.md5 == file.md5]
    names = {network.name for network in own}
    return own, bool(own) and all(names.issuperset(network.siblings) for network in own)


@dataclass(frozen=True)
class Offer:
    """A published file, and what of it is in a folder.

    Attributes
    ----------
    file
        The file.
    networks
        Those of its networks that are here.
    complete
        Whether they are all.
    fetched : int
        Bytes of it that a download which was interrupted has left.
    """

    file: RecordFile
    networks: tuple[Network, ...]
    complete: bool
    fetched: int

    @property
    def words(self) -> str:
        """How much of it is here, in a few words."""
        if self.networks:
            return "here" if self.complete else "partly here"
        if self.fetched:
            return f"{100 * self.fetched // max(1, self.file.size)} % fetched"
        return "not here"


def offers(record: Record, folder: Path) -> list[Offer]:
    """Return what can be got, and what of it is in a folder."""
    here, found = networks_in(folder), []
    for file in record.files:
        own, complete = networks_of(file, here)
        found.append(Offer(file, tuple(own), complete, there(file, folder)))
    return found


def read_network(path: Path) -> Network | None:
    """Return what a file says of itself; None if it is damaged, or was not got from the record."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
        origin: Any = header["provenance"]["published"]
        md5, siblings = origin["md5"], tuple(map(str, origin["networks"]))
        return Network(path, str(md5), siblings, bool(header["genes"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None

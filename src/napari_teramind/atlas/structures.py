"""Structures of an atlas and the tree that they form."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

COLUMNS = ("id", "acronym", "name", "color_hex", "parent_id")


@dataclass(frozen=True)
class Structure:
    """One region of an atlas.

    Attributes
    ----------
    id : int
        Number that stands for the structure in an annotation volume.
    acronym, name : str
        As the atlas writes them, such as ``"SNc"`` and ``"Substantia nigra, compact part"``.
    color_hex : str
        Six hexadecimal digits, without ``#``.
    parent_id : int or None
        The structure that this one is a part of; None for the root.
    """

    id: int
    acronym: str
    name: str
    color_hex: str
    parent_id: int | None

    @property
    def title(self) -> str:
        """Acronym and name; only one of them where they are the same."""
        return structure_title(self.acronym, self.name)


def structure_title(acronym: str, name: str) -> str:
    """Return acronym and name; only one of them where they are the same, as of fiber tracts."""
    return name if acronym == name else f"{acronym} - {name}"


class StructureTable(Mapping[int, Structure]):
    """The structures of an atlas by id, with their tree.

    Parameters
    ----------
    structures : iterable of Structure
        In any order; every parent must be among them.
    origin : str
        Where the table came from; named in errors.

    Raises
    ------
    UserError
        When an id occurs twice, a parent is missing, or the parents form a ring.
    """

    def __init__(
        self, structures: Iterable[Structure], origin: str = "the structure table"
    ) -> None:
        self._by_id: dict[int, Structure] = {}
        for structure in structures:
            if structure.id in self._by_id:
                raise UserError(
                    f"Structure id {structure.id} occurs twice in {origin}; keep one of the rows."
                )
            self._by_id[structure.id] = structure
        self.origin = origin
        self._check_parents()

    def _check_parents(self) -> None:
        for structure in self._by_id.values():
            seen = {structure.id}
            parent = structure.parent_id
            while parent is not None:
                if parent not in self._by_id:
                    raise UserError(
                        f"Structure {structure.acronym} in {self.origin} has the ancestor "
                        f"{parent}, which is not in the table; add it or clear the parent_id."
                    )
                if parent in seen:
                    raise UserError(
                        f"Structure {structure.acronym} in {self.origin} is its own ancestor; "
                        "mend the column parent_id."
                    )
                seen.add(parent)
                parent = self._by_id[parent].parent_id

    def __getitem__(self, structure_id: int) -> Structure:
        return self._by_id[structure_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    @cached_property
    def _by_acronym(self) -> dict[str, Structure]:
        return {structure.acronym: structure for structure in self._by_id.values()}

    @cached_property
    def _by_folded(self) -> dict[str, list[Structure]]:
        """Structures by their acronyms in lower case: some differ in nothing else."""
        found: dict[str, list[Structure]] = {}
        for structure in self._by_acronym.values():
            found.setdefault(structure.acronym.casefold(), []).append(structure)
        return found

    def _known(self, acronym: str) -> Structure | None:
        exact = self._by_acronym.get(acronym)
        alike = self._by_folded.get(acronym.casefold(), [])
        return exact if exact is not None or len(alike) != 1 else alike[0]

    def find(self, acronym: str) -> Structure:
        """Find the structure with this acronym, in any case unless another differs in that only.

        Raises
        ------
        UserError
            When there is none; the message names near spellings.
        """
        found = self._known(acronym)
        if found is not None:
            return found
        folded = self._by_folded
        near = difflib.get_close_matches(acronym.casefold(), folded, n=3, cutoff=0.6)
        names = [structure.acronym for each in near for structure in folded[each]]
        hint = f"did you mean {' or '.join(names)}?" if names else "choose one of its acronyms."
        raise UserError(f"No structure has the acronym {acronym!r} in {self.origin}: {hint}")

    def has(self, acronym: str) -> bool:
        """Whether `find` finds a structure."""
        return self._known(acronym) is not None

    def search(self, text: str, limit: int = 50) -> tuple[Structure, ...]:
        """Find structures by acronym or name, as one types.

        Parameters
        ----------
        text : str
            Any part of an acronym or a name, in any case; several words must all occur.
        limit : int
            At most so many.

        Returns
        -------
        tuple of Structure
            The acronym itself first, then acronyms that begin so, names that begin so, words of
            names that do, and the rest; short acronyms before long ones.
        """
        wanted = text.casefold().strip()
        if not wanted:
            return ()
        found = []
        for structure in self._by_id.values():
            acronym, name = structure.acronym.casefold(), structure.name.casefold()
            if wanted == acronym:
                score = 0 if text.strip() == structure.acronym else 1
            elif acronym.startswith(wanted):
                score = 2
            elif name.startswith(wanted):
                score = 3
            elif any(word.startswith(wanted) for word in name.replace(",", " ").split()):
                score = 4
            elif all(word in f"{acronym} {name}" for word in wanted.split()):
                score = 5
            else:
                continue
            found.append((score, len(acronym), structure.acronym, structure))
        found.sort(key=lambda entry: entry[:3])
        return tuple(entry[3] for entry in found[:limit])

    def lineage(self, structure_id: int) -> tuple[Structure, ...]:
        """List the structure itself, its parent, and so on up to the root."""
        line = [self._by_id[structure_id]]
        while line[-1].parent_id is not None:
            line.append(self._by_id[line[-1].parent_id])
        return tuple(line)

    @cached_property
    def _children(self) -> dict[int, list[int]]:
        children: dict[int, list[int]] = {structure_id: [] for structure_id in self._by_id}
        for structure in self._by_id.values():
            if structure.parent_id is not None:
                children[structure.parent_id].append(structure.id)
        return children

    def children(self, structure_id: int) -> tuple[Structure, ...]:
        """List the structures whose parent this one is, in the order of the table."""
        return tuple(self._by_id[child] for child in self._children[structure_id])

    def within(self, acronym: str) -> frozenset[int]:
        """Ids of the structure and of everything inside it."""
        return self.within_id(self.find(acronym).id)

    def within_id(self, structure_id: int) -> frozenset[int]:
        """Ids of the structure with this id and of everything inside it."""
        found: set[int] = set()
        open_ids = [structure_id]
        while open_ids:
            current = open_ids.pop()
            found.add(current)
            open_ids.extend(self._children[current])
        return frozenset(found)

    def mask(self, labels: ArrayLike, acronym: str) -> NDArray[np.bool_]:
        """Where an array of ids lies inside a structure.

        Parameters
        ----------
        labels : array of int
            Structure ids, any shape.
        acronym : str
            The structure; everything inside it counts.

        Returns
        -------
        array of bool
            Of the shape of `labels`.
        """
        return np.isin(np.asarray(labels), np.fromiter(self.within(acronym), np.int64))

    def subset(self, ids: Iterable[int]) -> StructureTable:
        """Keep these structures and all their ancestors, in the order of this table."""
        keep = {structure.id for i in ids for structure in self.lineage(int(i))}
        return StructureTable((s for s in self._by_id.values() if s.id in keep), self.origin)

    def rows(self) -> list[dict[str, object]]:
        """One dict a structure with the keys of ``COLUMNS``; ``parent_id`` is None for the root."""
        return [{key: getattr(s, key) for key in COLUMNS} for s in self._by_id.values()]

    def frame(self) -> pd.DataFrame:
        """Turn the table into a data frame with the columns of ``COLUMNS``."""
        import pandas as pd

        frame = pd.DataFrame(self.rows(), columns=list(COLUMNS))
        return frame.astype({"id": "int64", "parent_id": "Int64"})


def table_from_frame(frame: pd.DataFrame, origin: str) -> StructureTable:
    """Build the table from a data frame with the columns of ``COLUMNS``.

    Raises
    ------
    UserError
        When a column is missing or an id is not a number.
    """
    import pandas as pd

    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise UserError(
            f"The structure table {origin} lacks the column {missing[0]!r}; "
            f"it needs {', '.join(COLUMNS)}."
        )
    try:
        ids = frame["id"].astype("int64")
        parents = frame["parent_id"].astype("Int64")
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The structure table {origin} has an id or parent_id that is no whole number "
            f"({error}); mend the column."
        ) from error
    return StructureTable(
        (
            Structure(
                id=int(structure_id),
                acronym=str(acronym),
                name=str(name),
                color_hex=str(color).lstrip("#").upper().zfill(6),
                parent_id=None if pd.isna(parent) else int(parent),
            )
            for structure_id, acronym, name, color, parent in zip(
                ids, frame["acronym"], frame["name"], frame["color_hex"], parents, strict=True
            )
        ),
        origin,
    )


def read_structures(path: str | Path) -> StructureTable:
    """Read a structure table from a CSV file such as the Allen Institute's ``structures.csv``.

    Parameters
    ----------
    path : path
        A CSV file with at least the columns of ``COLUMNS``.

    Raises
    ------
    UserError
        When the file is missing, no CSV, or lacks a column.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no structure table at {path}; give the path of a CSV file.")
    try:
        # "NA" and the like are acronyms here, not missing values.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values={"parent_id": [""]})
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"The structure table {path} cannot be read as CSV ({error}).") from error
    frame = frame.rename(columns=str.strip)
    if "parent_id" in frame:
        frame["parent_id"] = pd.to_numeric(frame["parent_id"], errors="coerce")
    return table_from_frame(frame, str(path))


@cache
def allen_structures() -> StructureTable:
    """Load the structures of the Allen Mouse Brain Atlas that the phantom is built of.

    Ids, acronyms, names, colours and parents are facts of the Allen Mouse Brain Reference Atlas
    (ontology of the Common Coordinate Framework, CCFv3 2017), © Allen Institute for Brain Science,
    https://atlas.brain-map.org; about a quarter of its structures, with all their ancestors.
    """
    source = resources.files("napari_teramind.atlas") / "allen_structures.csv"
    with resources.as_file(source) as path:
        return read_structures(path)

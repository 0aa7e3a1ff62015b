"""All measures of a comparison, in one long table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.brain.bins import label_places
from napari_teramind.errors import UserError
from napari_teramind.evaluate.counting import Method, Tally, tally_nuclei
from napari_teramind.evaluate.frechet import Moments, frechet_distance
from napari_teramind.evaluate.images import MARGIN, PlaneScores
from napari_teramind.evaluate.texture import Extractor, whole_patches
from napari_teramind.evaluate.tiles import TILE, Box, cut, widened, within

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_teramind.evaluate.sources import Comparison, Source

Report = Callable[[str, int, int], None]
Row = tuple[str, str, str, str, float, int]

COLUMNS = ("stain", "slice", "structure", "metric", "value", "n")
FORMS = (".csv", ".parquet", ".json")
NUCLEAR = "DAPI"
"""The stain in which nuclei are found."""
ALL = "all"


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    table : DataFrame
        A row per stain, slice, structure and metric: columns `COLUMNS`. ``slice`` is a number;
        ``mean`` or ``std`` over slices, with n the number of slices; or ``all`` for what is
        measured over all slices at once. ``structure`` is an acronym, or ``all``. What cannot be
        measured has no row.
    notes : list of str
        What the user should know.
    """

    table: pd.DataFrame
    notes: list[str]


def measure(
    comparison: Comparison,
    *,
    structures: bool = False,
    nuclei: Method | None = None,
    extractors: Sequence[Extractor] = (),
    tile: int = TILE,
    report: Report | None = None,
) -> Measured:
    """Measure how near a result is to its reference.

    Planes are read in tiles with margins; memory grows with the number of structures and with that
    of features, not with the planes.

    Parameters
    ----------
    comparison
        What is compared; see :mod:`.sources` for which pixels.
    structures
        Measure every structure too, with all that is in it.
    nuclei
        How nuclei are found in the stain DAPI; None: they are not.
    extractors
        Features whose Fréchet distances are measured, over all slices at once.
    tile
        Side of a tile in px; patches are cut within tiles, so it is a multiple of their sides.
    report
        Progress callback.

    Raises
    ------
    UserError
        If the brain has no structures and these are asked for, or there is nothing to compare: no
        pixel counts, or the reference is black in all of them.
    """
    run = _Run(comparison, structures, nuclei, extractors, tile, report)
    for z in range(*comparison.slices):
        run.slice(z)
    return run.measured()


class _Run:
    def __init__(
        self,
        comparison: Comparison,
        structures: bool,
        nuclei: Method | None,
        extractors: Sequence[Extractor],
        tile: int,
        report: Report | None,
    ) -> None:
        self._c, self._tile, self._report = comparison, tile, report
        self._table = comparison.structures if structures else None
        self._ids = np.array(sorted(self._table or ()), np.int64)
        self._nuclei = nuclei if NUCLEAR in comparison.stains else None
        self._features = [_Features(each, comparison.stains) for each in extractors]
        self._rows: list[Row] = []
        self._tiles = sum(1 for _ in cut(comparison.box, tile))
        self._done, self._counted = 0, False
        self._missing: dict[str, list[str]] = {}
        self.notes: list[str] = []
        if nuclei is not None and self._nuclei is None:
            self.notes.append(f"There is no stain {NUCLEAR} to find nuclei in: they are left out.")

    def _parts(self, box: Box, z: int) -> NDArray[np.integer]:
        if self._table is None:
            return np.zeros((box[1] - box[0], box[3] - box[2]), np.int64)
        labels = self._c.labels(box, range(z, z + 1))[0]
        return label_places(self._ids, labels, self._table.origin)

    def _tick(self, words: str, z: int) -> None:
        if self._report is not None:
            z0, z1 = self._c.slices
            passes = 1 if self._nuclei is None else 3
            total = (z1 - z0) * self._tiles * passes
            self._report(f"{words} slice {z - z0 + 1} of {z1 - z0}", self._done, total)
        self._done += 1

    def slice(self, z: int) -> None:
        """Measure one slice."""
        there = [stain for stain in self._c.stains if self._is_there(stain, z)]
        for stain in self._c.stains:
            if stain not in there:
                self._missing.setdefault(stain, []).append(str(z))
        planes = {stain: PlaneScores(self._c.box, len(self._ids) + 1) for stain in there}
        for tile in cut(self._c.box, self._tile):
            self._tick("Comparing", z)
            counts = self._c.counts(tile, z)
            if not planes or not counts.any():
                continue
            parts = self._parts(tile, z)
            wide = widened(tile, MARGIN, self._c.box)
            for stain, plane in planes.items():
                real, made = (s.read(stain, z, wide) for s in (self._c.reference, self._c.result))
                plane.add(tile, real, made, counts, parts)
                here = within(tile, wide)
                for features in self._features:
                    features.add(stain, tile, real[here], made[here], counts)
        for stain, plane in planes.items():
            for name, chosen in self._named(plane.pixels > 0):
                self._rows += _score_rows(stain, z, name, plane, chosen)
        if self._nuclei is not None:
            if NUCLEAR in there:
                self._count_nuclei(z, planes[NUCLEAR].pixels > 0)
            else:
                self._done += 2 * self._tiles

    def _is_there(self, stain: str, z: int) -> bool:
        """Whether the reference has the stain in a slice: a pixel that counts is not black."""
        for tile in cut(self._c.box, self._tile):
            counts = self._c.counts(tile, z)
            self._counted |= bool(counts.any())
            if counts.any() and self._c.reference.read(stain, z, tile)[counts].any():
                return True
        return False

    def _named(
        self, present: NDArray[np.bool_]
    ) -> Iterator[tuple[str, NDArray[np.integer] | None]]:
        """Yield the names of the whole and of the structures that are there, and their parts."""
        yield ALL, None
        if self._table is None:
            return
        for structure in self._table.subset(self._ids[present[:-1]].tolist()).values():
            inside = sorted(self._table.within_id(structure.id))
            yield structure.acronym, np.searchsorted(self._ids, inside)

    def _count_nuclei(self, z: int, present: NDArray[np.bool_]) -> None:
        assert self._nuclei is not None

        def counts(box: Box) -> NDArray[np.bool_]:
            return self._c.counts(box, z)

        def parts(box: Box) -> NDArray[np.integer]:
            return self._parts(box, z)

        def found(source: Source) -> Tally:
            assert self._nuclei is not None

            def read(box: Box) -> NDArray[np.uint8]:
                return source.read(NUCLEAR, z, box)

            return tally_nuclei(
                read,
                counts,
                parts,
                self._c.box,
                self._c.brain.pixel_size,
                self._nuclei,
                self._tile,
                lambda: self._tick("Finding nuclei,", z),
            )

        tallies = found(self._c.reference), found(self._c.result)
        unit = self._c.brain.pixel_size**2
        for name, chosen in self._named(present):
            picked = None if chosen is None else chosen.tolist()
            self._rows += _nuclei_rows(z, name, tallies, picked, unit)

    def measured(self) -> Measured:
        """Return the table, means over slices and distances of features at its end."""
        import pandas as pd

        if not self._rows:
            where = f"where {self._c.reference.words} and {self._c.result.words} both are"
            if not self._counted:
                raise UserError(f"There is no tissue {where}; choose another result.")
            raise UserError(
                f"There are no stains to compare with {where}: the first are black; choose another"
                " result, or compare with one by --against."
            )
        for stain, slices in self._missing.items():
            self.notes.append(
                f"{stain} is black in slice {', '.join(slices)} of {self._c.reference.words}:"
                " left out."
            )
        table = pd.DataFrame(self._rows, columns=list(COLUMNS))
        last = [row for features in self._features for row in features.rows(self.notes)]
        parts = [table, _over_slices(table), pd.DataFrame(last, columns=list(COLUMNS))]
        whole = pd.concat([part for part in parts if len(part)], ignore_index=True)
        return Measured(whole[~whole["value"].isna()].reset_index(drop=True), self.notes)


class _Features:
    """Moments of the features of an extractor, for every stain and metric."""

    def __init__(self, extractor: Extractor, stains: Sequence[str]) -> None:
        self._extractor = extractor
        self._moments = {
            (stain, metric): (Moments(), Moments())
            for stain in stains
            for metric in extractor.metrics
        }

    def add(
        self,
        stain: str,
        tile: Box,
        real: NDArray[np.uint8],
        made: NDArray[np.uint8],
        counts: NDArray[np.bool_],
    ) -> None:
        """Add the patches of a tile."""
        where = list(whole_patches(tile, counts, self._extractor.side))
        if not where:
            return
        for k, image in enumerate((real, made)):
            found = self._extractor(np.stack([image[place] for place in where]))
            for metric, features in found.items():
                self._moments[stain, metric][k].add(features)

    def rows(self, notes: list[str]) -> Iterator[Row]:
        """Yield the distances; what should be known of them goes to the notes."""
        for (stain, metric), (real, made) in self._moments.items():
            n, side = min(real.n, made.n), self._extractor.side
            if n < 2:
                notes.append(
                    f"The {metric} of {stain} needs two patches of {side} x {side} px; there"
                    f" {'is one' if n else 'is none'}."
                )
                continue
            if n <= len(real.mean):
                notes.append(
                    f"The {metric} of {stain} is of {n} patches and {len(real.mean)} features: with"
                    " so few it comes out too large; compare it only with one of as many."
                )
            yield stain, ALL, ALL, metric, frechet_distance(real, made), n


def _score_rows(
    stain: str, z: int, name: str, plane: PlaneScores, chosen: NDArray[np.integer] | None
) -> Iterator[Row]:
    scores = plane.scores(chosen)
    if scores is None:
        return
    values = {
        "psnr": (scores.psnr, scores.n),
        "ssim": (scores.ssim, scores.ssim_n),
        "grey_mean_reference": (scores.means[0], scores.n),
        "grey_mean_result": (scores.means[1], scores.n),
        "grey_wasserstein": (scores.distance, scores.n),
    }
    for metric, (value, n) in values.items():
        yield stain, str(z), name, metric, value, n


def _nuclei_rows(
    z: int, name: str, tallies: tuple[Tally, Tally], parts: Sequence[int] | None, unit: float
) -> Iterator[Row]:
    """Yield numbers and areas; ``unit`` is the area of a pixel in square micrometers."""
    from scipy.stats import wasserstein_distance

    place = (NUCLEAR, str(z), name)
    areas = []
    for tally, words in zip(tallies, ("reference", "result"), strict=True):
        count = tally.count(parts)
        yield (*place, f"nuclei_{words}", float(count), count)
        sizes, times = (np.asarray(values) for values in tally.areas(parts))
        areas.append((sizes * unit, times))
        if len(sizes):
            mean = float(sizes @ times / times.sum() * unit)
            yield (*place, f"nucleus_area_mean_{words}", mean, int(times.sum()))
    (a, m), (b, n) = areas
    if len(a) and len(b):
        distance = float(wasserstein_distance(a, b, m, n))
        yield (*place, "nucleus_area_wasserstein", distance, int(min(m.sum(), n.sum())))


def _over_slices(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over slices."""
    import pandas as pd

    keys = ["stain", "structure", "metric"]
    parts = []
    groups = table[~table["value"].isna()].groupby(keys, sort=False)["value"]
    with np.errstate(invalid="ignore"):  # the PSNR of equal images is infinite
        for word, values in (("mean", groups.mean()), ("std", groups.std())):
            frame = values.reset_index().assign(slice=word)
            parts.append(frame.assign(n=groups.count().to_numpy()))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def write_metrics(
    measured: Measured, comparison: Comparison, path: Path, overwrite: bool = False
) -> Path:
    """Write the table as ``.csv``, ``.parquet`` or ``.json``.

    JSON holds what was compared too; it has no infinity, so that the PSNR of equal images is null.

    Raises
    ------
    UserError
        If the ending is none of these, or something is there already.
    """
    from napari_teramind.attention.statistics import write_table
    from napari_teramind.brain.export import check_target, staged

    if check_target(path, overwrite, FORMS) != ".json":
        write_table(measured.table, path, overwrite)
        return path
    about: dict[str, Any] = {
        "reference": comparison.reference.words,
        "result": comparison.result.words,
        "provenance": comparison.result.image.provenance,
        "region_px": list(comparison.box),
        "slices": list(comparison.slices),
        "notes": measured.notes,
    }
    rows = [
        row | {"value": row["value"] if np.isfinite(row["value"]) else None}
        for row in measured.table.to_dict("records")
    ]
    with staged(path) as partial:
        partial.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n", encoding="utf-8")
    return path

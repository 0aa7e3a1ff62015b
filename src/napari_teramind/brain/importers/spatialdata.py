"""Importer of SpatialData stores: their points and images, where one coordinate system has them.

Read with zarr and pyarrow alone. Source: Marconato et al. 2025, "SpatialData: an open and universal
data framework for spatial omics", and its format of Zarr groups, images and labels as OME-Zarr and
points as Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from napari_teramind.brain import foundation, layout
from napari_teramind.brain.importers.assembly import assemble
from napari_teramind.brain.importers.batches import check_columns, column_names, files_of
from napari_teramind.brain.importers.ngff import Source, pick_channel
from napari_teramind.brain.importers.parts import Parts
from napari_teramind.brain.importers.pictures import Picture, coarsest, zarr_picture
from napari_teramind.brain.importers.report import ImportReport
from napari_teramind.brain.importers.tables import guess_columns
from napari_teramind.brain.multiscale import MICROMETERS, MultiscaleImage
from napari_teramind.brain.spatialdata import (
    SYSTEM,
    elements,
    is_spatialdata,
    matrix_of,
    transformations,
    units_of,
)
from napari_teramind.brain.writer import Report
from napari_teramind.errors import UserError

_CLOSE = 1e-6


def import_spatialdata(
    store: str | Path,
    out: str | Path,
    *,
    points: str | None = None,
    stains: Mapping[str, str] | None = None,
    coordinate_system: str = SYSTEM,
    unit_um: float | None = None,
    gene: str | None = None,
    slice_column: str | None = None,
    project: Literal["max", "mean"] = "max",
    percentiles: tuple[float, float] = (0.1, 99.9),
    slice_spacing: float | None = None,
    genes: Sequence[str] | None = None,
    name: str | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> ImportReport:
    """Make a brain of the points and images of a SpatialData store.

    Memory grows with the number of genes, and neither with rows nor with images; see `assemble`.

    Parameters
    ----------
    store : path
        The store, a folder on this computer.
    out : path
        Brain to make.
    points : str, optional
        Element of the transcripts; the only one if not given.
    stains : mapping of str to str, optional
        Image element of every stain, ``image#channel`` where it has several channels. If not given,
        those images that have channels named after a brain's stains, DAPI and PolyT.
    coordinate_system : str
        Where elements lie.
    unit_um : float, optional
        Micrometers of its unit. If neither this nor the store says it: where images have pixels of
        one unit and points are scaled, points are taken to be in micrometers; where images have
        other pixels, or there are none, the unit is taken to be the micrometer.
    gene : str, optional
        Column of genes; the store's own feature key, or a common name, if not given.
    slice_column, project, percentiles, slice_spacing, genes, name, overwrite, report
        As of `import_table`.

    Returns
    -------
    ImportReport

    Raises
    ------
    UserError
        If there are no such elements, they lie where they cannot be placed, or something is at
        `out` already.
    """
    out, path = Path(out), Path(store)
    foundation.check_target(out, overwrite)
    if unit_um is not None and not (np.isfinite(unit_um) and unit_um > 0):
        raise UserError(f"The unit of {unit_um:g} um makes no sense: give a positive number.")
    root = _open(path)
    system = _System(path, coordinate_system)
    element, group = _one_of(elements(root, "points"), points, "points", path)
    matrix = system.matrix(group, f"points/{element}", ("x", "y"))
    choices: list[str] = []
    found = _images(root, system, stains, choices)
    unit = system.unit(unit_um, matrix, list(found.values()), choices)
    files = files_of(path / "points" / element / "points.parquet")
    gene = gene or _feature_key(group, column_names(files[0]))
    columns, guessed = guess_columns(files[0], gene, "x", "y", None, slice_column)
    for file in files:
        check_columns(file, columns.names, column_names(file))
    parts = Parts(
        format="spatialdata",
        tables=[files],
        columns=columns,
        matrix=np.diag([unit, unit, 1.0]) @ matrix,
        stains={stain: [image.picture(unit)] for stain, image in found.items()},
        project=project,
        percentiles=percentiles,
        slice_spacing=slice_spacing,
        genes=genes,
        choices=guessed + choices,
        source={"store": str(path), "points": element, "coordinate_system": coordinate_system},
    )
    return assemble(parts, out, name, overwrite, report)


def _feature_key(group: zarr.Group, columns: Sequence[str]) -> str | None:
    """Return the column that holds genes, if points say so."""
    said: Any = group.attrs.asdict().get("spatialdata_attrs")
    key = said.get("feature_key") if isinstance(said, Mapping) else None
    return key if key in columns else None


def _open(path: Path) -> zarr.Group:
    if not path.is_dir():
        raise UserError(
            f"{path} is not a folder: choose a SpatialData store on this computer, as sample.zarr."
        )
    root = foundation.open_root(str(path))
    if not is_spatialdata(root):
        raise UserError(f"{path} does not say that it is a SpatialData store: check the path.")
    return root


def _one_of(
    known: Sequence[tuple[str, zarr.Group]], wanted: str | None, kind: str, path: Path
) -> tuple[str, zarr.Group]:
    """Return the element that is named, or the only one."""
    if not known:
        raise UserError(f"{path} has no {kind}: choose a store that has them.")
    names = ", ".join(name for name, _ in known)
    if wanted is None:
        if len(known) > 1:
            raise UserError(f"{path} has the {kind} {names}: say which, as --{kind} {known[0][0]}.")
        return known[0]
    for name, group in known:
        if name == wanted:
            return name, group
    raise UserError(f"{path} has no {kind} named {wanted!r}: it has {names}.")


@dataclass(frozen=True)
class _Image:
    """A channel of an image element; `matrix` (3, 3) takes its pixels to the system, as (x, y)."""

    image: MultiscaleImage
    channel: int
    matrix: np.ndarray

    @property
    def side(self) -> float:
        """Side of a pixel in the system."""
        return _side(self.matrix)

    def picture(self, unit: float) -> Picture:
        """Return the coarsest level that is fine enough, in micrometers."""
        # In SpatialData all levels begin at one corner, and a pixel begins at its number.
        y, x = (self.image.axes.index(axis) for axis in "yx")
        first = np.asarray(self.image.scale(0))
        steps = [np.asarray(self.image.scale(k)) / first for k in range(len(self.image.levels))]
        level = coarsest([self.side * unit * float(step[x]) for step in steps])
        larger = np.diag([steps[level][x], steps[level][y], 1.0])
        source = Source(self.image, level, "a stain")
        return zarr_picture(source, self.channel, np.diag([unit, unit, 1.0]) @ self.matrix @ larger)


def _side(matrix: np.ndarray) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def _images(
    root: zarr.Group,
    system: _System,
    stains: Mapping[str, str] | None,
    choices: list[str],
) -> dict[str, _Image]:
    """Open the images of the stains that are named, or else those that have channels of such names.

    A stain for which there is none is left out.
    """
    known = elements(root, "images")
    if stains:
        found = {}
        for stain, place in stains.items():
            wanted, _, channel = place.partition("#")
            name, group = _one_of(known, wanted, "images", system.path)
            found[stain] = system.image(group, name, stain, channel or None)
        return found
    opened = {name: system.multiscale(group, name) for name, group in known}
    guessed = {}
    for stain in (channel.name for channel in layout.DEFAULT_STAINS):
        named = [
            name
            for name, image in opened.items()
            if stain.casefold() in (channel.name.casefold() for channel in image.channels)
        ]
        if len(named) > 1:
            raise UserError(
                f"{system.path} has {stain} in the images {', '.join(named)}: say which, as --stain"
                f" {stain}={named[0]}."
            )
        if named:
            guessed[stain] = system.image(root[f"images/{named[0]}"], named[0], stain, None)
            choices.append(f"{stain} from the image {named[0]}.")
    if known and not guessed:
        names = ", ".join(name for name, _ in known)
        raise UserError(
            f"{system.path} has no image with a channel named DAPI or PolyT, only {names}: say"
            f" which shows what, as --stain DAPI={known[0][0]}#0."
        )
    return guessed


@dataclass(frozen=True)
class _System:
    """A coordinate system of a store."""

    path: Path
    name: str
    _units: set[str] = field(default_factory=set)

    def matrix(self, group: zarr.Group, name: str, axes: Sequence[str]) -> np.ndarray:
        """Return the matrix (3, 3) that takes (x, y, 1) of an element into the system.

        Raises
        ------
        UserError
            If it does not lie there, or other axes are mixed with y and x.
        """
        path = f"{self.path}/{name}"
        known = transformations(group)
        if self.name not in known:
            raise UserError(
                f"{path} does not lie in the coordinate system {self.name!r}: it has"
                f" {', '.join(known) or 'none'} (--coordinate-system)."
            )
        step = known[self.name]
        self._units.update(units_of(step))
        whole = matrix_of(step, axes, path)
        x, y = axes.index("x"), axes.index("y")
        others = [i for i in range(len(axes)) if i not in (x, y)]
        flat: np.ndarray = whole[np.ix_([x, y, -1], [x, y, -1])]
        mixed = whole[np.ix_([x, y], others)].any()
        if mixed or not np.isfinite(flat).all() or abs(np.linalg.det(flat)) < 1e-12:
            raise UserError(
                f"{path} lies by a transformation that does not take a plane to a plane and back:"
                " transform it first."
            )
        return flat

    def multiscale(self, group: zarr.Group, name: str) -> MultiscaleImage:
        """Open an image element."""
        return MultiscaleImage(group, f"{self.path}/images/{name}", placed=False)

    def image(self, group: Any, name: str, stain: str, channel: str | None) -> _Image:
        """Open the channel of an image element that is named, or that has the stain's name."""
        image = self.multiscale(group, name)
        source = Source(image, 0, f"the stain {stain}")
        source.check()
        matrix = self.matrix(group, f"images/{name}", image.axes)
        return _Image(image, pick_channel(source, stain, channel), matrix)

    def unit(
        self,
        given: float | None,
        points: np.ndarray,
        images: Sequence[_Image],
        choices: list[str],
    ) -> float:
        """Return the micrometers of its unit: given, stated, or what can be told; see above.

        Raises
        ------
        UserError
            If it counts pixels, and nothing says how large they are.
        """
        if given is not None:
            return given
        stated = self._units - {"unit", "pixel", "None"}
        if stated:
            unknown = stated - MICROMETERS.keys()
            if unknown or len(self._units) > 1:
                raise UserError(
                    f"{self.path} has the units {', '.join(sorted(self._units))} in the coordinate"
                    f" system {self.name!r}: give --unit-um."
                )
            return MICROMETERS[stated.pop()]
        said = f"The coordinate system {self.name} does not say its unit: "
        if not images or abs(images[0].side - 1) > _CLOSE:
            choices.append(f"{said}taken as micrometers.")
            return 1.0
        scale = _side(points)
        if abs(scale - 1) <= _CLOSE:
            raise UserError(
                f"{self.path} counts pixels in the coordinate system {self.name!r}, and does not"
                " say how large they are: give --unit-um, as 0.2125."
            )
        choices.append(
            f"{said}taken as pixels of {1 / scale:.4f} um, since points are scaled by {scale:.4f}."
        )
        return 1 / scale

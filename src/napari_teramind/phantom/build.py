"""Making a phantom brain and writing it to a store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.atlas import Atlas, load_brainglobe, read_annotation
from napari_teramind.brain import BrainWriter, LabelInfo
from napari_teramind.errors import UserError
from napari_teramind.phantom.anatomy import Anatomy, AtlasAnatomy, ProceduralAnatomy
from napari_teramind.phantom.cells import CellField
from napari_teramind.phantom.expression import Compositions, load_profiles
from napari_teramind.phantom.plan import BIN, BLOCK, Plan, check_animal, make_plan, panel
from napari_teramind.phantom.render import Renderer
from napari_teramind.phantom.section import BLOCK_BINS, Section
from napari_teramind.phantom.tables import PartTable, cell_frame, transcript_frame
from napari_teramind.phantom.transcripts import TranscriptField, bin_counts

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore

Report = Callable[[str, int, int], None]
_VERSION = "1"


def make_phantom(
    out: str | Path,
    *,
    animal: str = "main",
    size: str = "S",
    seed: int = 0,
    atlas: Atlas | str | Path | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> BrainStore:
    """Make a phantom mouse brain.

    The same arguments give the same brain, byte for byte, on the same versions of NumPy and SciPy.
    A run that was interrupted goes on where it stopped when it is started again with the same
    arguments.

    Parameters
    ----------
    out : path
        Folder of the brain to write.
    animal : {"main", "supp_m", "supp_f"}
        ``main`` has its own gene panel; the two supporting ones share a larger one and have no
        olfactory bulb. Each has its own anatomy and its own cells.
    size : {"XS", "S", "M", "L"}
        From a tiny brain for tests to one whole slice of 50,000 px a side. Cells keep their true
        size; the anatomy is scaled to the image.
    seed : int
        Not negative; another seed, another individual.
    atlas : Atlas, path or str, optional
        Build on this anatomy: a loaded atlas, an annotation volume (or its folder), or BrainGlobe's
        name of an atlas. The procedural mouse brain when not given.
    overwrite : bool
        Replace a finished brain at `out`.
    report : callable, optional
        Told ``(message, done, total)`` as sections are made.

    Returns
    -------
    BrainStore
        The finished brain. Ground truth is in its labels (``structures``, ``tissue``, ``nuclei``)
        and tables (``cells``, ``transcripts``, ``sections``).

    Raises
    ------
    UserError
        When an argument is not possible, or `out` exists and is something else.

    Examples
    --------
    >>> brain = make_phantom("phantom.zarr", animal="main", size="XS")  # doctest: +SKIP
    >>> brain.table("cells").groupby("type").size()  # doctest: +SKIP
    """
    anatomy = _anatomy(animal, atlas)
    plan = make_plan(animal, size, seed, anatomy)
    writer = _open_writer(Path(out), plan, anatomy, overwrite, report)
    # One thread draws while the other compresses and writes: exactly one, as the writer is not
    # made for more.
    with writer, ThreadPoolExecutor(1) as background:
        for z in range(plan.size.slices):
            _SectionWriter(writer, plan, anatomy, z, background, report).write()
        _write_section_table(writer, plan)
        for table in ("cells", "transcripts"):
            PartTable(writer.path, table).clean()
    from napari_teramind.brain import open_brain

    return open_brain(out)


def _anatomy(animal: str, atlas: Atlas | str | Path | None) -> Anatomy:
    if atlas is None:
        return ProceduralAnatomy(check_animal(animal).olfactory_bulb)
    if isinstance(atlas, Atlas):
        return AtlasAnatomy(atlas)
    if Path(atlas).exists():
        return AtlasAnatomy(read_annotation(atlas))
    # A name without a path in it is BrainGlobe's.
    if isinstance(atlas, Path) or any(c in str(atlas) for c in "/\\."):
        raise UserError(
            f"There is no atlas at {atlas}; give an annotation volume, its folder, "
            "or BrainGlobe's name of an atlas."
        )
    return AtlasAnatomy(load_brainglobe(atlas))


def _open_writer(
    out: Path,
    plan: Plan,
    anatomy: Anatomy,
    overwrite: bool,
    report: Report | None,
) -> BrainWriter:
    source = {
        "phantom": _VERSION,
        "animal": plan.animal.name,
        "size": plan.size.name,
        "seed": plan.seed,
        "atlas": anatomy.atlas.name if isinstance(anatomy, AtlasAnatomy) else "procedural",
        "um_per_mm": plan.um_per_mm,
        "ap_mm": list(plan.ap_mm),
        "numpy": np.__version__,
    }
    if _same_unfinished(out, source):
        return BrainWriter.resume(out, report=report)
    return BrainWriter.create(
        out,
        name=f"Phantom {plan.animal.name}",
        shape=plan.shape,
        genes=panel(plan.animal.name),
        slice_positions=plan.positions_um,
        labels={
            "structures": LabelInfo(BIN, anatomy.table.rows()),
            "tissue": LabelInfo(BIN, [{"id": 1, "acronym": "tissue", "name": "Tissue"}]),
            "nuclei": LabelInfo(1),
        },
        source=source,
        overwrite=overwrite,
        report=report,
    )


def _same_unfinished(out: Path, source: dict[str, Any]) -> bool:
    """Whether `out` holds the beginning of this very phantom."""
    import zarr

    try:
        root = zarr.open_group(str(out), mode="r")
    except (FileNotFoundError, ValueError, KeyError):
        return False
    meta: Any = root.attrs.get("teramind", {})
    return bool(
        isinstance(meta, dict) and not meta.get("complete", True) and meta.get("source") == source
    )


class _SectionWriter:
    """Writes one section tile by tile; tiles that are there already are left alone."""

    def __init__(
        self,
        writer: BrainWriter,
        plan: Plan,
        anatomy: Anatomy,
        z: int,
        background: ThreadPoolExecutor,
        report: Report | None,
    ) -> None:
        self.writer, self.plan, self.z, self.report = writer, plan, z, report
        self.background = background
        self.section = Section(plan, anatomy, z)
        profiles = load_profiles(plan.animal.name)
        self.cells = CellField(self.section, profiles, Compositions(anatomy.table))
        self.transcripts = TranscriptField(self.cells)
        self.renderer = Renderer(self.cells)
        self.table = anatomy.table
        if writer.tile % BLOCK and writer.tile < max(plan.size.height, plan.size.width):
            raise ValueError(f"tiles of {writer.tile} px are no whole number of {BLOCK} px blocks")

    def write(self) -> None:
        """Write all tiles of the section, then its labels."""
        height, width = self.plan.size.height, self.plan.size.width
        tile = self.writer.tile
        corners = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
        writing: Future[None] | None = None
        for done, (y, x) in enumerate(corners):
            finish = self._make_tile(y, x)
            if writing is not None:
                # No more than one tile waits: memory stays bounded, and errors come out here.
                writing.result()
            writing = self.background.submit(finish)
            if self.report:
                self.report(
                    f"Section {self.z + 1} of {self.plan.size.slices}",
                    self.z * len(corners) + done + 1,
                    self.plan.size.slices * len(corners),
                )
        if writing is not None:
            writing.result()
        self._write_structures()

    def _make_tile(self, y: int, x: int) -> Callable[[], None]:
        """Draw a tile, and return what is left to do: writing it."""
        tile = self.writer.tile
        unit = (self.z, y // tile, x // tile)
        y1 = min(y + tile, self.plan.size.height)
        x1 = min(x + tile, self.plan.size.width)
        missing = {
            image: unit not in self.writer.written(image) for image in ("genes", "stains", "nuclei")
        }
        counts = self._count(y, y1, x, x1) if missing["genes"] else None
        drawn = None
        if missing["stains"] or missing["nuclei"]:
            drawn = self._draw(y, y1, x, x1)

        def finish() -> None:
            if counts is not None:
                self.writer.write_genes(self.z, y // BIN, x // BIN, counts)
            if drawn is not None and missing["stains"]:
                self.writer.write_stains(self.z, y, x, drawn[0])
            if drawn is not None and missing["nuclei"]:
                self.writer.write_label("nuclei", self.z, drawn[1], y, x)

        return finish

    def _count(self, y: int, y1: int, x: int, x1: int) -> np.ndarray:
        """Write the rows of a tile to the tables and count its transcripts in bins."""
        n_genes = len(self.cells.profiles.genes)
        bins = -(-(y1 - y) // BIN), -(-(x1 - x) // BIN)
        found = self.transcripts.in_area(y, y1, x, x1)
        name = f"{self.z:03d}-{y:06d}-{x:06d}"
        # The tables come first: a tile in the ledger has its rows on disk.
        PartTable(self.writer.path, "transcripts").write(
            name, transcript_frame(found, self.z, self.cells.profiles.genes)
        )
        cells = self.cells.in_area(y, y1, x, x1)
        PartTable(self.writer.path, "cells").write(
            name, cell_frame(cells, self.z, self.cells.profiles, self.table)
        )
        return bin_counts(found, n_genes, y, x, bins)

    def _draw(self, y: int, y1: int, x: int, x1: int) -> tuple[np.ndarray, np.ndarray]:
        stains = np.zeros((2, y1 - y, x1 - x), np.uint8)
        nuclei = np.zeros((y1 - y, x1 - x), np.uint32)
        for top in range(y, y1, BLOCK):
            for left in range(x, x1, BLOCK):
                image, labels = self.renderer.block(top // BLOCK, left // BLOCK)
                h, w = labels.shape
                here = (slice(top - y, top - y + h), slice(left - x, left - x + w))
                stains[:, here[0], here[1]] = image
                nuclei[here] = labels
        return stains, nuclei

    def _write_structures(self) -> None:
        """Write structures and tissue of the section, tile by tile."""
        height, width = self.writer.label_shape("structures")
        tile = self.writer.label_tile("structures")
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                unit = (self.z, y // tile, x // tile)
                missing = [
                    name
                    for name in ("structures", "tissue")
                    if unit not in self.writer.written(name)
                ]
                if not missing:
                    continue
                ids = self._structures(y, min(y + tile, height), x, min(x + tile, width))
                tissue = (ids != 0) & ~np.isin(ids, self.cells.ventricles)
                images = {"structures": ids, "tissue": tissue.astype(np.uint32)}
                for name in missing:
                    self.writer.write_label(name, self.z, images[name], y, x)

    def _structures(self, y: int, y1: int, x: int, x1: int) -> np.ndarray:
        ids = np.zeros((y1 - y, x1 - x), np.uint32)
        for top in range(y, y1, BLOCK_BINS):
            for left in range(x, x1, BLOCK_BINS):
                h, w = min(BLOCK_BINS, y1 - top), min(BLOCK_BINS, x1 - left)
                block = self.section.structures(top // BLOCK_BINS, left // BLOCK_BINS)
                ids[top - y : top - y + h, left - x : left - x + w] = block[:h, :w]
        return ids


def _write_section_table(writer: BrainWriter, plan: Plan) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "slice": np.arange(plan.size.slices),
            "position_um": plan.positions_um,
            "ap_mm": np.round(plan.ap_mm, 4),
        }
    )
    writer.write_table("sections", frame)

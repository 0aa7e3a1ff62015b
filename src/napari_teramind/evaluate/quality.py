"""What a person should see of every slice of a brain before computing on it.

Tissue is where the first stain, smoothed over `SMOOTH_UM`, is brighter than Otsu's threshold of the
whole stack; it is found on a coarse level of detail, so that the size of a brain does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_teramind.brain.export import check_target, staged
from napari_teramind.evaluate.pages import page, picture

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore, MultiscaleImage
    from napari_teramind.brain.writer import Report

SMOOTH_UM = 20.0
_THUMBNAIL = 320
_FEW, _MANY = 0.5, 2.0
_LEAST_INSIDE, _LEAST_OVERLAP = 0.9, 0.7
_AROUND, _MORE_GENES = 2, 3


@dataclass
class SliceQuality:
    """One slice.

    Attributes
    ----------
    z
        Its number.
    position_um
        Where it lies.
    source
        What it was made of; "" if the brain does not say.
    tissue_mm2
        Area of tissue.
    overlap
        Of its tissue with that of the slice before, as a part of the smaller of both; None for the
        first one.
    transcripts
        Counted in its gene bins.
    inside
        Part of its table's rows that lie in the brain; None if the brain does not say.
    missing
        Genes of the panel without a transcript.
    thumbnails
        (y, x) uint8 by stain.
    notes
        What stands out, in sentences.
    """

    z: int
    position_um: float
    source: str
    tissue_mm2: float
    overlap: float | None
    transcripts: float
    inside: float | None
    missing: list[str]
    thumbnails: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)


def slice_quality(brain: BrainStore, report: Report | None = None) -> list[SliceQuality]:
    """Measure every slice of a brain.

    Memory holds the stack at the level of detail whose slices have at most `_THUMBNAIL` px a side.

    Parameters
    ----------
    brain
        The store.
    report
        Progress callback.
    """
    level = _thumbnail_level(brain.stains)
    size = brain.pixel_size * 2**level
    stack = np.asarray(brain.stains.levels[level][:])  # (stains, z, y, x)
    masks = _tissue(stack[0], size)
    totals = _totals(brain)
    found: list[SliceQuality] = []
    for z in range(brain.shape[0]):
        counts = totals[:, z]
        source, inside = _origin(brain, z)
        found.append(
            SliceQuality(
                z=z,
                position_um=float(brain.slice_positions[z]),
                source=source,
                tissue_mm2=float(masks[z].sum()) * size**2 / 1e6,
                overlap=None if z == 0 else _overlap(masks[z - 1], masks[z]),
                transcripts=float(counts.sum()),
                inside=inside,
                missing=[gene for gene, n in zip(brain.gene_names, counts, strict=True) if n == 0],
                thumbnails=dict(zip(brain.stain_names, stack[:, z], strict=True)),
            )
        )
        if report is not None:
            report("Looking at slices", z + 1, brain.shape[0])
    _note(found)
    return found


def _thumbnail_level(image: MultiscaleImage) -> int:
    for level, array in enumerate(image.levels):
        if max(array.shape[-2:]) <= _THUMBNAIL:
            return level
    return len(image.levels) - 1


def _tissue(stack: np.ndarray, size: float) -> np.ndarray:
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    sigma = SMOOTH_UM / size
    smooth = ndimage.gaussian_filter(stack.astype(np.float32), (0, sigma, sigma))
    if not np.ptp(smooth):
        return np.zeros(stack.shape, bool)
    return np.asarray(smooth > threshold_otsu(smooth))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    smaller = int(min(a.sum(), b.sum()))
    return float((a & b).sum()) / smaller if smaller else 0.0


def _totals(brain: BrainStore) -> np.ndarray:
    """Return transcripts (genes, z) by the table that is written with every brain."""
    table = brain.table("gene_totals").pivot(index="gene", columns="slice", values="total")
    return table.loc[list(brain.gene_names)].to_numpy()


def _origin(brain: BrainStore, z: int) -> tuple[str, float | None]:
    """Return what a slice was made of, and the part of its transcripts that lie in the brain."""
    source = brain.source
    slices, regions = source.get("slices"), source.get("regions")
    if not slices or not regions:
        return "", None
    region = slices[z]["region"]
    name = Path(regions[region]).name
    counted = source.get("transcripts")
    if not counted:
        return name, None
    rows = counted[region]
    placed = rows["inside"] + rows["outside"]
    return name, rows["inside"] / placed if placed else 0.0


def _note(slices: list[SliceQuality]) -> None:
    """Say what stands out against the slices around: brains are smaller at their ends."""
    for s in slices:
        around = [t for t in slices if 0 < abs(t.z - s.z) <= _AROUND] or [s]
        area = float(np.median([t.tissue_mm2 for t in around]))
        transcripts = float(np.median([t.transcripts for t in around]))
        silent = float(np.median([len(t.missing) for t in around]))
        if not any(image.any() for image in s.thumbnails.values()):
            s.notes.append("All its images are black.")
        for what, value, usual in (
            ("tissue", s.tissue_mm2, area),
            ("transcripts", s.transcripts, transcripts),
        ):
            if usual and not _FEW * usual <= value <= _MANY * usual:
                s.notes.append(f"It has {value / usual:.2g} times the {what} of slices around it.")
        if s.inside is not None and s.inside < _LEAST_INSIDE:
            s.notes.append(f"Only {s.inside:.0%} of its transcripts lie in the brain.")
        if s.overlap is not None and s.overlap < _LEAST_OVERLAP:
            s.notes.append(
                f"Its tissue overlaps that of the slice before by {s.overlap:.2f} only: look at "
                "order, flip and registration."
            )
        if s.transcripts and len(s.missing) > silent + _MORE_GENES:
            s.notes.append(f"{len(s.missing)} genes have no transcript, more than around it.")


def write_quality_report(
    brain: BrainStore, out: Path, overwrite: bool = False, report: Report | None = None
) -> list[SliceQuality]:
    """Write a page that shows every slice of a brain.

    Parameters
    ----------
    brain
        The store.
    out
        The page, ``.html``.
    overwrite
        Replace what is there.
    report
        Progress callback.

    Raises
    ------
    UserError
        If it may not be written.
    """
    check_target(out, overwrite, (".html",))
    slices = slice_quality(brain, report)
    depth, height, width = brain.shape
    text = page(
        "quality.html",
        title=f"{brain.name}: slices",
        lead=(
            f"{depth} slices of {height:,} x {width:,} px at {brain.pixel_size:.4g} um, "
            f"{len(brain.gene_names)} genes. Tissue is where {brain.stain_names[0]}, smoothed over "
            f"{SMOOTH_UM:g} um, is brighter than Otsu's threshold of the whole stack."
        ),
        noted=[_shown(s) for s in slices if s.notes],
        slices=[_shown(s) for s in slices],
        footer=f"Made by napari-teramind from {brain.path}.",
    )
    with staged(out) as partial:
        partial.write_text(text, encoding="utf-8")
    return slices


def _shown(s: SliceQuality) -> dict[str, Any]:
    facts = [
        ("Position", f"{s.position_um:,.4g} um"),
        ("Tissue", f"{s.tissue_mm2:,.3g} mm\N{SUPERSCRIPT TWO}"),
        ("Transcripts", f"{s.transcripts:,.0f}"),
    ]
    if s.inside is not None:
        facts.append(("Inside the images", f"{s.inside:.1%}"))
    if s.overlap is not None:
        facts.append(("Overlap with the slice before", f"{s.overlap:.2f}"))
    return {
        "number": s.z,
        "source": s.source,
        "facts": facts,
        "missing": s.missing,
        "notes": s.notes,
        "pictures": [
            {"name": name, "address": picture(image)} for name, image in s.thumbnails.items()
        ],
    }

"""What an import found, counted and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class TranscriptCounts:
    """Where the rows of transcript tables went; the parts add up to `rows`.

    Attributes
    ----------
    rows : int
        Rows read.
    inside : int
        Rows that are in the gene volume.
    blank : int
        Rows of blank (control) barcodes.
    unknown : int
        Rows of genes that are not in the gene list given.
    invalid : int
        Rows without a position or a gene.
    outside : int
        Rows of known genes outside the mosaic.
    without_plane : int
        Rows inside the mosaic in focal planes that no image shows.
    """

    rows: int = 0
    inside: int = 0
    blank: int = 0
    unknown: int = 0
    invalid: int = 0
    outside: int = 0
    without_plane: int = 0

    def settle(self) -> None:
        """Say that all rows that were not left out are inside."""
        left_out = self.blank + self.unknown + self.invalid + self.outside + self.without_plane
        self.inside = self.rows - left_out


def total(counts: Sequence[TranscriptCounts]) -> TranscriptCounts:
    """Add up what became of the rows of several tables."""
    names = [part.name for part in fields(TranscriptCounts)]
    return TranscriptCounts(**{name: sum(getattr(c, name) for c in counts) for name in names})


@dataclass
class ImportReport:
    """Counts and choices of one import; kept in the brain's provenance too.

    Attributes
    ----------
    format : str
        ``merscope``, ``omezarr``, ``tiles``, ``table`` or ``spatialdata``.
    path : str
        The brain made.
    shape : tuple of int
        (z, y, x) in slices and pixels.
    pixel_size : float
        Micrometers per pixel.
    genes : int
        Genes in the panel.
    transcripts : TranscriptCounts or None
        Rows of the tables; None where the input held counts already.
    blank_genes, unknown_genes : dict of str to int
        Rows left out, by gene.
    silent_genes : list of str
        Genes of the list given that no row names.
    intensities : dict of str to list of float
        Per stain, the source intensities that became 0 and 255; empty for 8-bit input.
    percentiles : tuple of float
        Percentiles that these intensities are.
    missing_planes : list of str
        Images that are not there, one entry each.
    missing_tiles : list of str
        Published tiles that are not there, one entry each.
    corrupt_tiles : dict of str to str
        Published tiles that could not be read, and why.
    choices : list of str
        What was chosen where the user left it open, one sentence each.
    warnings : list of str
        Everything else that a user should know, one sentence each.
    """

    format: str
    path: str
    shape: tuple[int, int, int]
    pixel_size: float
    genes: int
    transcripts: TranscriptCounts | None = None
    blank_genes: dict[str, int] = field(default_factory=dict)
    unknown_genes: dict[str, int] = field(default_factory=dict)
    silent_genes: list[str] = field(default_factory=list)
    intensities: dict[str, list[float]] = field(default_factory=dict)
    percentiles: tuple[float, float] = (0.1, 99.9)
    missing_planes: list[str] = field(default_factory=list)
    missing_tiles: list[str] = field(default_factory=list)
    corrupt_tiles: dict[str, str] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)

    def summary(self) -> list[str]:
        """Return the report as sentences."""
        z, y, x = self.shape
        size = f"{self.path}: {z} slices of {y} x {x} px at {self.pixel_size:.4f} um"
        lines = [f"{size}, {self.genes} genes."]
        if self.transcripts is not None:
            lines += self._transcript_lines(self.transcripts)
        if self.silent_genes:
            lines.append(f"No transcripts of {_some(self.silent_genes)}, which the list names.")
        low, high = self.percentiles
        for stain, (black, white) in self.intensities.items():
            lines.append(
                f"{stain}: intensities {black:g} to {white:g} (percentiles {low:g} and {high:g})"
                " became 0 to 255."
            )
        if self.missing_planes:
            missing = _some(self.missing_planes)
            lines.append(f"Missing images (black, or left out if no stain has them): {missing}.")
        if self.missing_tiles:
            lines.append(f"Missing tiles (empty): {_some(self.missing_tiles)}.")
        return lines + self.choices + self.warnings

    def _transcript_lines(self, counts: TranscriptCounts) -> list[str]:
        lines = [f"{counts.inside:,} of {counts.rows:,} transcripts are in the gene volume."]
        reasons = [
            (counts.outside, "outside the images"),
            (counts.without_plane, "in focal planes that no image shows"),
            (counts.blank, f"of {len(self.blank_genes)} blank barcodes and controls"),
            (counts.unknown, f"of {len(self.unknown_genes)} genes not in the list"),
            (counts.invalid, "without a position or a gene"),
        ]
        left_out = [f"{number:,} {reason}" for number, reason in reasons if number]
        if left_out:
            lines.append(f"Left out: {', '.join(left_out)}.")
        return lines


def _some(names: list[str], limit: int = 6) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"

"""Atlases: opened, fetched first where BrainGlobe has to, searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_teramind.errors import UserError
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs.attention import AtlasSpec
from napari_teramind.jobs.verbs.common import Result

if TYPE_CHECKING:
    from napari_teramind.atlas import Atlas


def atlas(spec: AtlasSpec, job: JobContext) -> Result:
    """Open an atlas and say what it holds, or list those of BrainGlobe."""
    from napari_teramind.atlas import brainglobe_names, open_atlas, read_annotation

    if spec.source is None:
        names = brainglobe_names()
        if not names:
            raise UserError(
                "BrainGlobe's list of atlases cannot be fetched, and none is here already: check"
                " the network connection, or name an annotation volume."
            )
        return {"names": names, "summary": names}
    job.report(f"Opening the atlas {spec.source}", 0, 0)
    if spec.structures is None:
        opened = open_atlas(spec.source, job.report)
    else:
        opened = read_annotation(spec.source, spec.structures)
    summary = [_described(opened)]
    found: list[dict[str, object]] = []
    if spec.find is not None:
        for structure in opened.table.search(spec.find, spec.top):
            found.append({"id": structure.id, "acronym": structure.acronym, "name": structure.name})
            summary.append(f"{structure.acronym} - {structure.name} (id {structure.id})")
        if not found:
            summary.append(f"No structure has {spec.find!r} in its acronym or name.")
    return {
        "name": opened.name,
        "structures": len(opened.table),
        "shape": list(opened.annotation.shape),
        "resolution_um": list(opened.resolution_um),
        "found": found,
        "summary": summary,
    }


def _described(opened: Atlas) -> str:
    shape = " x ".join(str(side) for side in opened.annotation.shape)
    steps = " x ".join(f"{step:g}" for step in opened.resolution_um)
    return f"{opened.name}: {len(opened.table):,} structures, {shape} voxels of {steps} um."

"""Making brains and describing what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import (
    ConvertCheckpointSpec,
    DraftManifestSpec,
    ImportMerscopeSpec,
    ImportOmeZarrSpec,
    ImportSpatialDataSpec,
    ImportTableSpec,
    ImportTilesSpec,
    InfoSpec,
    PhantomSpec,
    QualitySpec,
)
from napari_teramind.jobs.verbs.common import Result, read_panel

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.brain.importers.report import ImportReport
    from napari_teramind.model import TeraMind


def run_import_merscope(spec: ImportMerscopeSpec, job: JobContext) -> Result:
    """Make a brain from MERSCOPE region folders."""
    from napari_teramind.brain.importers.merscope import import_merscope

    report = import_merscope(
        spec.regions,
        spec.out,
        stains=spec.stains,
        planes=spec.planes,
        project=spec.project,
        percentiles=spec.percentiles,
        slice_spacing=spec.slice_spacing,
        region_spacing=spec.region_spacing,
        genes=read_panel(spec.genes),
        name=spec.name,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return _imported(spec.out, report)


def run_import_omezarr(spec: ImportOmeZarrSpec, job: JobContext) -> Result:
    """Make a brain from separate OME-Zarr images."""
    from napari_teramind.brain.importers.omezarr import import_omezarr

    report = import_omezarr(
        spec.out,
        stains=spec.stains,
        genes=spec.genes,
        gene_names=read_panel(spec.gene_list),
        structures=spec.structures,
        tissue=spec.tissue,
        slice_positions=spec.slice_positions,
        percentiles=spec.percentiles,
        name=spec.name,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return _imported(spec.out, report)


def run_import_tiles(spec: ImportTilesSpec, job: JobContext) -> Result:
    """Make a brain from published training tiles."""
    from napari_teramind.brain.importers.tiles import import_tiles

    report = import_tiles(
        spec.gene_folder,
        spec.out,
        genes=read_panel(spec.genes) or (),
        images=spec.images,
        stains=spec.stains,
        name=spec.name,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return _imported(spec.out, report)


def run_import_table(spec: ImportTableSpec, job: JobContext) -> Result:
    """Make a brain from transcript tables and images."""
    from napari_teramind.brain.importers.tables import import_table

    report = import_table(
        spec.tables,
        spec.out,
        gene=spec.gene,
        x=spec.x,
        y=spec.y,
        z=spec.z,
        slice_column=spec.slice_column,
        stains=spec.stains,
        unit=spec.unit,
        pixel_size=spec.pixel_size,
        origin=spec.origin,
        project=spec.project,
        percentiles=spec.percentiles,
        slice_spacing=spec.slice_spacing,
        genes=read_panel(spec.gene_list),
        name=spec.name,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return _imported(spec.out, report)


def run_import_spatialdata(spec: ImportSpatialDataSpec, job: JobContext) -> Result:
    """Make a brain from a SpatialData store."""
    from napari_teramind.brain.importers.spatialdata import import_spatialdata

    report = import_spatialdata(
        spec.store,
        spec.out,
        points=spec.points,
        stains=spec.stains,
        coordinate_system=spec.coordinate_system,
        unit_um=spec.unit_um,
        gene=spec.gene,
        slice_column=spec.slice_column,
        project=spec.project,
        percentiles=spec.percentiles,
        slice_spacing=spec.slice_spacing,
        genes=read_panel(spec.gene_list),
        name=spec.name,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return _imported(spec.out, report)


def draft(spec: DraftManifestSpec, job: JobContext) -> Result:
    """Write a manifest of region folders."""
    from napari_teramind.brain.importers.manifest import draft_manifest

    found = draft_manifest(spec.regions, spec.out, spec.overwrite)
    summary = [*found, f"Edit {spec.out}, then: teramind import merscope {spec.out} -o brain.zarr"]
    return {"path": str(spec.out), "summary": summary}


def quality(spec: QualitySpec, job: JobContext) -> Result:
    """Write a page that shows every slice of a brain."""
    from napari_teramind.brain import open_brain
    from napari_teramind.evaluate.quality import write_quality_report

    slices = write_quality_report(open_brain(spec.brain), spec.out, spec.overwrite, job.report)
    noted = {s.z: s.notes for s in slices if s.notes}
    summary = [f"Slice {z}: {' '.join(notes)}" for z, notes in noted.items()]
    return {
        "path": str(spec.out),
        "notes": {str(z): notes for z, notes in noted.items()},
        "summary": [*(summary or ["Nothing stands out."]), f"Look at {spec.out} in a browser."],
    }


def _imported(out: Path, report: ImportReport) -> Result:
    return {"path": str(out), "report": report.to_dict(), "summary": report.summary()}


def phantom(spec: PhantomSpec, job: JobContext) -> Result:
    """Make a procedural brain."""
    from napari_teramind.phantom import make_phantom

    brain = make_phantom(
        spec.out,
        animal=spec.animal,
        size=spec.size,
        seed=spec.seed,
        atlas=spec.atlas,
        overwrite=spec.overwrite,
        report=job.report,
    )
    return _describe_brain(brain)


def info(spec: InfoSpec, job: JobContext) -> Result:
    """Describe a brain or a checkpoint."""
    path = Path(spec.path)
    if path.suffix in (".safetensors", ".ckpt"):
        from napari_teramind.model import load_model

        return describe_model(spec.path, load_model(path))
    from napari_teramind.brain import open_brain

    return _describe_brain(open_brain(spec.path))


def _describe_brain(brain: BrainStore) -> Result:
    depth, height, width = brain.shape
    sides = [side * brain.pixel_size for side in (height, width)]
    unit = "um" if max(sides) < 1000 else "mm"
    size = " x ".join(f"{side if unit == 'um' else side / 1000:.3g}" for side in sides)
    summary = [
        f"{brain.path}: brain '{brain.name}'.",
        (
            f"{depth} slices of {height} x {width} px "
            f"({size} {unit} at {brain.pixel_size:.4g} um/px)."
        ),
        f"Stains: {', '.join(brain.stain_names)}.",
        f"Genes: {len(brain.gene_names)} ({_listed(brain.gene_names)}).",
        f"Labels: {', '.join(brain.labels) or 'none'}.",
        f"Attention: {', '.join(brain.attention) or 'none'}.",
        f"Simulations: {', '.join(brain.simulations) or 'none'}.",
    ]
    return {
        "kind": "brain",
        "path": brain.path,
        "name": brain.name,
        "shape": list(brain.shape),
        "pixel_size_um": brain.pixel_size,
        "slice_positions_um": brain.slice_positions.tolist(),
        "stains": list(brain.stain_names),
        "genes": list(brain.gene_names),
        "labels": list(brain.labels),
        "simulations": list(brain.simulations),
        "attention": list(brain.attention),
        "summary": summary,
    }


def describe_model(path: str, model: TeraMind) -> Result:
    """Return what a network is, as the result of a job."""
    config = model.config
    weights = sum(p.numel() for p in model.parameters())
    genes = model.gene_names
    summary = [
        f"{path}: network of {weights / 1e6:.1f} million weights.",
        (
            f"{config.genes} genes over {config.gene_slices} slices make {config.stains} stains of "
            f"{config.image_slices} slices, in patches of {config.patch} px."
        ),
        f"Genes: {_listed(genes)}." if genes else "Its genes are not named; give the panel.",
    ]
    return {
        "kind": "checkpoint",
        "path": path,
        "config": config.to_dict(),
        "genes": None if genes is None else list(genes),
        "sha256": model.sha256,
        "summary": summary,
    }


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def convert(spec: ConvertCheckpointSpec, job: JobContext) -> Result:
    """Turn a published checkpoint into safetensors."""
    from napari_teramind.model import convert_checkpoint, load_model

    path = convert_checkpoint(
        spec.source, spec.out, read_panel(spec.genes), overwrite=spec.overwrite
    )
    return describe_model(str(path), load_model(path))

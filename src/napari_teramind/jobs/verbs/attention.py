"""Attention: maps into the store, structures into tables, files for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs.attention import AttentionSpec, ExportSpec, StructuresSpec
from napari_teramind.jobs.verbs.common import Result, pick_device, read_panel

if TYPE_CHECKING:
    import pandas as pd

    from napari_teramind.attention.quantities import Atlas2D
    from napari_teramind.attention.stored import StoredMaps
    from napari_teramind.brain import BrainStore, MultiscaleImage
    from napari_teramind.model import TeraMind

_TABLES = (".csv", ".parquet")


def attention(spec: AttentionSpec, job: JobContext) -> Result:
    """Compute the attention of gene pairs and keep it in the brain."""
    from napari_teramind.attention.job import attention_to_store, plan_attention
    from napari_teramind.attention.pairs import pair_name
    from napari_teramind.brain import open_brain
    from napari_teramind.brain.layout import check_name
    from napari_teramind.brain.runs import settle

    brain = open_brain(spec.brain)
    if not spec.dry_run:
        settle(brain)
    pairs = [_pair(pair) for pair in spec.pairs]
    name = spec.name or _free_name(brain, pair_name(pairs[0]))
    check_name(name, "result")
    model = _network(spec.checkpoint, spec.genes, spec.device)
    asked = (pairs, spec.roi, spec.slices, spec.structures, spec.maps)
    plan = plan_attention(brain, model, *asked)
    details = {"units": plan.units, "bytes": plan.bytes}
    job.planned(plan.text, **details)
    if spec.dry_run:
        return {**details, "summary": [f"{plan.text}."]}
    path = attention_to_store(
        brain,
        model,
        name,
        *asked,
        report=job.report,
        job=spec.model_dump(mode="json"),
        overwrite=spec.overwrite,
    )
    return {"path": path, "name": name, "summary": [f"Computed {path}."]}


def structures(spec: StructuresSpec, job: JobContext) -> Result:
    """Sum attention up by structure."""
    if spec.out is not None:
        from napari_teramind.brain.export import check_target

        forms = (*_TABLES, ".npz") if spec.all_pairs else _TABLES
        check_target(spec.out, spec.overwrite, forms)
    return _all_pairs(spec, job) if spec.all_pairs else _statistics(spec, job)


def _statistics(spec: StructuresSpec, job: JobContext) -> Result:
    from napari_teramind.attention.pairs import pair_name
    from napari_teramind.attention.statistics import (
        rank_agreement,
        ranking,
        structure_statistics,
    )
    from napari_teramind.brain import open_brain

    if spec.roi or spec.slices:
        raise UserError(
            "A result has a region of its own; --roi and --slices go with --all-pairs only."
        )
    brain = open_brain(spec.brain)
    maps = _result(brain, spec.result)
    pairs = list(dict.fromkeys(c.pair for c in maps.channels if c.pair is not None))
    pair = pairs[0] if spec.pair is None else _pair(spec.pair)
    of = pair_name(pair)
    atlas = _atlas(spec, brain, job)
    table = structure_statistics(brain, maps, atlas, report=job.report)
    if spec.structures:
        table = _only(table, spec.structures)
    best = ranking(table, spec.quantity, of, spec.map)
    shown = best[["acronym", "name", "bins", "mean", "median", "p95", "enrichment"]].head(spec.top)
    heading = f"{spec.quantity} of {of}" + (
        "" if spec.quantity == "expression" else f", {spec.map}"
    )
    summary = [f"{heading}, best structures first:", *_lines(shown)]
    result: dict[str, Any] = {"structures": shown.to_dict("records")}
    if spec.trend:
        result["trends"] = _trends(brain, maps, pair, atlas, job)
        summary += [
            f"Attention against counts, {name}: r = {trend['pearson']:.3f} over {trend['bins']:,}"
            " bins where either gene occurs."
            for name, trend in result["trends"].items()
        ]
    if spec.against:
        tables = {brain.name: table}
        for location in spec.against:
            other = open_brain(location)
            found = structure_statistics(other, _result(other, maps.name), report=job.report)
            tables[other.name if other.name not in tables else location] = found
        agreed, numbers = rank_agreement(tables, spec.quantity, of, spec.map)
        summary += ["Ranks in every brain:", *_lines(agreed.head(spec.top))]
        summary += [f"{name} = {value:.3f}" for name, value in numbers.items()]
        result["agreement"] = numbers
    return _with_table(result, summary, table, spec)


def _only(table: pd.DataFrame, acronyms: Sequence[str]) -> pd.DataFrame:
    """Keep the rows of some structures."""
    missing = [acronym for acronym in acronyms if acronym not in set(table["acronym"])]
    if missing:
        raise UserError(
            f"The result says nothing of {', '.join(missing)}: no such structure lies in its "
            "region; acronyms are written as in the table without --structure."
        )
    return table[table["acronym"].isin(acronyms)]


def _trends(
    brain: BrainStore,
    maps: StoredMaps,
    pair: tuple[str, str],
    atlas: Atlas2D | None,
    job: JobContext,
) -> dict[str, dict[str, Any]]:
    """Trend line of attention against counts for every map of a pair, as plain values."""
    from napari_teramind.attention.trend import attention_trend

    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(c.map for c in maps.channels if c.pair == pair and c.map):
        trend = attention_trend(brain, maps, pair, name, atlas=atlas, report=job.report)
        line = {column: trend.table[column].tolist() for column in trend.table}
        found[name] = {"pearson": trend.pearson, "bins": trend.bins, "line": line}
    return found


def _all_pairs(spec: StructuresSpec, job: JobContext) -> Result:
    from napari_teramind.attention.matrices import structure_matrices
    from napari_teramind.brain import open_brain

    if spec.checkpoint is None:
        raise UserError("All pairs at once need the network; give --checkpoint.")
    brain = open_brain(spec.brain)
    model = _network(spec.checkpoint, spec.genes, spec.device)
    matrices = structure_matrices(
        brain,
        model,
        spec.roi,
        spec.slices,
        atlas=_atlas(spec, brain, job),
        report=job.report,
    )
    if spec.pair is not None:
        pair = _pair(spec.pair)
        table = matrices.where(pair)
        summary = [f"Where A of {pair[0]} and {pair[1]} stands out:"]
    elif spec.structures:
        table = matrices.top(spec.structures[0], None)
        for acronym in spec.structures:
            matrices.table.find(acronym)
        parts = [matrices.top(name, None).assign(acronym=name) for name in spec.structures]
        import pandas as pd

        table = pd.concat(parts, ignore_index=True)
        summary = [f"Pairs that interact most in {', '.join(spec.structures)}:"]
    else:
        table = matrices.frame()
        summary = ["Pairs that interact most, structure by structure:"]
    summary += _lines(table.head(spec.top))
    shown = {"pairs": table.head(spec.top).to_dict("records")}
    if spec.out is not None and spec.out.suffix == ".npz":
        matrices.save(spec.out, spec.overwrite)
        return {**shown, "path": str(spec.out), "summary": [*summary, f"Wrote {spec.out}."]}
    return _with_table(shown, summary, table, spec)


def export(spec: ExportSpec, job: JobContext) -> Result:
    """Write an image, table or figure of a brain to a file."""
    from napari_teramind.brain import open_brain
    from napari_teramind.brain.export import FORMS, check_target

    form = check_target(spec.out, spec.overwrite, (*FORMS, *_TABLES, ".png"))
    brain = open_brain(spec.brain)
    if form in (*_TABLES, ".png"):
        kind, _, name = spec.image.partition("/")
        if kind != "attention" or not name:
            raise UserError(
                f"Tables and figures are made of attention results, not of {spec.image!r}; give"
                " attention/<name>."
            )
        _export_maps(spec, brain, name, form, job)
    else:
        from napari_teramind.brain.export import export_image

        job.report(f"Writing {spec.out.name}", 0, 0)
        export_image(
            _image(brain, spec.image),
            spec.out,
            channels=spec.channels,
            level=spec.level,
            slices=spec.slices,
            overwrite=spec.overwrite,
        )
    return {"path": str(spec.out), "summary": [f"Wrote {spec.out}."]}


def _export_maps(
    spec: ExportSpec, brain: BrainStore, name: str, form: str, job: JobContext
) -> None:
    maps = _result(brain, name)
    if form == ".png":
        from napari_teramind.attention.figures import figure_of_pair

        pair = None if spec.pair is None else _pair(spec.pair)
        figure_of_pair(
            brain,
            maps,
            spec.out,
            pair,
            spec.map,
            spec.slice,
            overwrite=spec.overwrite,
            report=job.report,
        )
        return
    from napari_teramind.attention.statistics import structure_statistics, write_table

    table = structure_statistics(brain, maps, report=job.report)
    write_table(table, spec.out, spec.overwrite)


def _image(brain: BrainStore, path: str) -> MultiscaleImage:
    kind, _, name = path.partition("/")
    results = {"attention": brain.attention, "simulations": brain.simulations}
    if kind in results and name in results[kind]:
        return results[kind][name]
    images = {"stains": lambda: brain.stains, "genes": lambda: brain.genes}
    if path in images:
        return images[path]()
    if path in brain.labels:
        return brain.labels[path]
    known = [*images, *brain.labels]
    known += [f"{kind}/{name}" for kind, group in results.items() for name in group]
    raise UserError(f"{brain.path} has no image {path!r}; it has {', '.join(known)}.")


def _pair(pair: str | tuple[str, str]) -> tuple[str, str]:
    from napari_teramind.attention.pairs import read_pair

    return read_pair(pair) if isinstance(pair, str) else pair


def _network(checkpoint: Path, genes: str | None, device: str) -> TeraMind:
    from napari_teramind.model import load_model

    return load_model(checkpoint, genes=read_panel(genes), device=pick_device(device))


def _result(brain: BrainStore, name: str | None) -> StoredMaps:
    from napari_teramind.attention.stored import open_maps

    if name is None:
        names = list(brain.attention)
        if len(names) != 1:
            held = (
                f"has {len(names)} attention results ({', '.join(names)})"
                if names
                else ("has no attention results")
            )
            hint = "name one with --result" if names else "make one with 'teramind attention'"
            raise UserError(f"{brain.path} {held}; {hint}.")
        name = names[0]
    return open_maps(brain, name)


def _atlas(spec: StructuresSpec, brain: BrainStore, job: JobContext) -> Atlas2D | None:
    """Structures of an atlas laid over the slices; None for the brain's own labels."""
    if spec.atlas is None:
        if spec.transforms is not None:
            raise UserError("Transforms belong to an atlas; name it with --atlas.")
        return None
    from napari_teramind.atlas import PlacedAtlas, open_atlas, read_transforms
    from napari_teramind.attention.quantities import placed_atlas

    if spec.transforms is None:
        raise UserError(
            "An atlas needs the transforms that lay it over the slices; give --transforms."
        )
    transforms = read_transforms(spec.transforms)
    return placed_atlas(brain, PlacedAtlas(open_atlas(spec.atlas, job.report), transforms))


def _with_table(
    result: dict[str, Any], summary: list[str], table: pd.DataFrame, spec: StructuresSpec
) -> Result:
    from napari_teramind.attention.statistics import write_table

    if spec.out is None:
        return {**result, "summary": summary}
    write_table(table, spec.out, spec.overwrite)
    return {**result, "path": str(spec.out), "summary": [*summary, f"Wrote {spec.out}."]}


def _lines(table: pd.DataFrame) -> list[str]:
    text = table.to_string(index=False, float_format=lambda value: f"{value:.4g}", max_colwidth=44)
    return text.splitlines()


def _free_name(brain: BrainStore, wanted: str) -> str:
    name, number = wanted, 1
    while name in brain.attention:
        number += 1
        name = f"{wanted}-{number}"
    return name

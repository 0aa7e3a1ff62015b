"""How good a generated result is: metrics into a table, expression by structure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs.evaluate import EvaluateSpec
from napari_teramind.jobs.verbs.common import Result, pick_device

if TYPE_CHECKING:
    import pandas as pd

    from napari_teramind.brain import BrainStore
    from napari_teramind.evaluate.counting import Method
    from napari_teramind.evaluate.sources import Source
    from napari_teramind.evaluate.texture import Extractor

_TABLES = (".csv", ".parquet")


def evaluate(spec: EvaluateSpec, job: JobContext) -> Result:
    """Compare a result with the real stains, and sum expression up by structure."""
    from napari_teramind.brain import open_brain

    _check(spec)
    brain = open_brain(spec.brain)
    asked = (spec.result, spec.against, spec.out, spec.inception)
    only_expression = spec.expression is not None and not any(asked)
    result: Result = {"summary": []} if only_expression else _metrics(spec, brain, job)
    if spec.expression is not None:
        _expression(brain, spec.expression, spec.overwrite, job)
        result["expression"] = str(spec.expression)
        result["summary"].append(f"Wrote {spec.expression}.")
    return result


def _check(spec: EvaluateSpec) -> None:
    """Refuse what cannot be done before anything is read."""
    from napari_teramind.brain.export import check_target
    from napari_teramind.evaluate.report import FORMS

    if spec.out is not None:
        check_target(spec.out, spec.overwrite, FORMS)
    if spec.expression is not None:
        check_target(spec.expression, spec.overwrite, _TABLES)
        if spec.out is not None and spec.out.resolve() == spec.expression.resolve():
            raise UserError(f"{spec.out} cannot hold both tables; give --expression another file.")
    if spec.nuclei == "cellpose" and spec.cellpose_weights is None:
        raise UserError(
            "Cellpose needs its weights, which are not fetched; give the file with"
            " --cellpose-weights, or use --nuclei watershed."
        )
    if spec.nuclei != "cellpose" and spec.cellpose_weights is not None:
        raise UserError("Weights of Cellpose are used with --nuclei cellpose only; add it.")


def _metrics(spec: EvaluateSpec, brain: BrainStore, job: JobContext) -> Result:
    from napari_teramind.evaluate.report import measure, write_metrics
    from napari_teramind.evaluate.sources import compared, sentence
    from napari_teramind.evaluate.texture import Texture

    against = None if spec.against is None else _other(spec.against)
    comparison = compared(brain, spec.result, against)
    extractors: list[Extractor] = [Texture()]
    if spec.inception is not None:
        from napari_teramind.evaluate.inception import Inception

        extractors.append(Inception(spec.inception, pick_device(spec.device)))
    with _method(spec, brain.pixel_size) as nuclei:
        measured = measure(
            comparison,
            structures=spec.structures,
            nuclei=nuclei,
            extractors=extractors,
            report=job.report,
        )
    for note in measured.notes:
        job.warn(note)
    summary = [f"{sentence(comparison.result.words)} against {comparison.reference.words}:"]
    summary += _lines(measured.table)
    result: dict[str, Any] = {"metrics": _overall(measured.table).to_dict("records")}
    if spec.out is not None:
        write_metrics(measured, comparison, spec.out, spec.overwrite)
        result["path"] = str(spec.out)
        summary.append(f"Wrote {spec.out}.")
    return {**result, "summary": summary}


def _other(against: str) -> Source:
    """Open BRAIN/RESULT."""
    from napari_teramind.brain import open_brain
    from napari_teramind.evaluate.sources import stored_result

    if "://" in against:
        brain, _, name = against.rstrip("/").rpartition("/")
        return stored_result(open_brain(brain.removesuffix("/simulations")), name)
    path = Path(against)
    parent = path.parent.parent if path.parent.name == "simulations" else path.parent
    return stored_result(open_brain(parent), path.name)


@contextmanager
def _method(spec: EvaluateSpec, pixel_size: float) -> Iterator[Method | None]:
    """Yield how nuclei are found; Cellpose's process lives as long as the block."""
    if spec.nuclei == "none":
        yield None
    elif spec.nuclei == "watershed":
        from napari_teramind.evaluate.counting import Watershed

        yield Watershed(pixel_size)
    else:
        from napari_teramind.evaluate.cellpose import Cellpose

        assert spec.cellpose_weights is not None
        with Cellpose(spec.cellpose_weights, pick_device(spec.device)) as cellpose:
            yield cellpose


def _expression(brain: BrainStore, out: Path, overwrite: bool, job: JobContext) -> None:
    from napari_teramind.attention.statistics import write_table
    from napari_teramind.evaluate.expression import expression_by_structure

    write_table(expression_by_structure(brain, job.report), out, overwrite)


def _overall(table: pd.DataFrame) -> pd.DataFrame:
    """Keep what is measured of everything that was compared, slices taken together."""
    return table[(table["structure"] == "all") & table["slice"].isin(["mean", "std", "all"])]


def _lines(table: pd.DataFrame) -> list[str]:
    """Means over slices with their standard deviations, stain by stain."""
    overall = _overall(table)
    shown = overall[overall["slice"] != "std"].set_index(["stain", "metric"])
    spread = overall[overall["slice"] == "std"].set_index(["stain", "metric"])["value"]
    wide = shown[["value"]].assign(std=spread).sort_index(level="stain", sort_remaining=False)
    text = wide.reset_index().to_string(index=False, float_format=lambda v: f"{v:.4g}", na_rep="")
    return str(text).splitlines()

"""Training a network."""

from __future__ import annotations

from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import TrainSpec
from napari_teramind.jobs.verbs.common import Result, pick_device, read_panel


def train(spec: TrainSpec, job: JobContext) -> Result:
    """Fit a network to brains."""
    from napari_teramind.brain import open_brain
    from napari_teramind.training import TrainConfig, fit

    config = TrainConfig(genes=read_panel(spec.genes), **spec.settings())
    brains = [open_brain(path) for path in spec.brains]
    if spec.time_limit is not None:
        job.ends_within(spec.time_limit)
    fitted = fit(
        brains,
        spec.out,
        config,
        report=job.report,
        device=pick_device(spec.device),
        resume=spec.resume,
    )
    why = "" if fitted.finished else f" of {config.steps}, as the time was up"
    return {
        "path": str(fitted.checkpoint),
        "step": fitted.step,
        "loss": fitted.loss,
        "finished": fitted.finished,
        "summary": [
            f"Trained {fitted.step} steps{why}; the loss is {fitted.loss:.4f}.",
            f"The network is in {fitted.checkpoint}.",
        ],
    }

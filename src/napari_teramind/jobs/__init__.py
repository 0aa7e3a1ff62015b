"""Jobs: what to do (specs), what is told meanwhile (events), and running it here or elsewhere."""

from napari_teramind.jobs.events import (
    Emit,
    Event,
    Failed,
    Finished,
    Measured,
    Pictured,
    Planned,
    Preview,
    Progress,
    Warned,
    parse_event,
)
from napari_teramind.jobs.process import JobProcess
from napari_teramind.jobs.runner import run_job
from napari_teramind.jobs.specs import (
    ConvertCheckpointSpec,
    ImportMerscopeSpec,
    ImportOmeZarrSpec,
    InfoSpec,
    JobSpec,
    PhantomSpec,
    SimulateSpec,
    TrainSpec,
    build_spec,
    load_spec,
)

__all__ = [
    "ConvertCheckpointSpec",
    "Emit",
    "Event",
    "Failed",
    "Finished",
    "ImportMerscopeSpec",
    "ImportOmeZarrSpec",
    "InfoSpec",
    "JobProcess",
    "JobSpec",
    "Measured",
    "PhantomSpec",
    "Pictured",
    "Planned",
    "Preview",
    "Progress",
    "SimulateSpec",
    "TrainSpec",
    "Warned",
    "build_spec",
    "load_spec",
    "parse_event",
    "run_job",
]

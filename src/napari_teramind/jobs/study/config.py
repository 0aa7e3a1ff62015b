"""What a study file says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from napari_teramind.errors import UserError
from napari_teramind.jobs.specs.attention import Pairs
from napari_teramind.jobs.specs.base import Checkpoint, JobPath, Location, Spec
from napari_teramind.words import listed

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,40}$")]


class Animal(Spec):
    """A brain of the study: one that is there, or a phantom that is made.

    Attributes
    ----------
    brain
        The store; where a phantom is made if ``phantom`` is given.
    phantom, size, seed
        Which phantom, of which size, from which seed.
    """

    brain: Location
    phantom: Literal["main", "supp_m", "supp_f"] | None = None
    size: Literal["XS", "S", "M", "L"] = "S"
    seed: Annotated[int, Field(ge=0)] = 0


class Experiment(Spec):
    """One network, and the animal that it is judged by.

    Attributes
    ----------
    train
        Animals that it is trained on; empty where ``checkpoint`` is given.
    checkpoint
        A network that is there.
    test
        The animal whose images are generated.
    training, simulate
        Settings that differ from the study's, as for ablations (``gene_slices``, ``patch``,
        ``steps``).
    attention
        Whether its network's attention is computed in every animal.
    """

    train: list[Name] = []
    checkpoint: Checkpoint | None = None
    test: Name
    training: dict[str, Any] = {}
    simulate: dict[str, Any] = {}
    attention: bool = False

    @model_validator(mode="after")
    def _one_network(self) -> Experiment:
        if bool(self.train) == (self.checkpoint is not None):
            raise ValueError("give either animals to train on or a checkpoint")
        if self.test in self.train:
            raise ValueError(f"it is tested on {self.test}, on which it is trained")
        return self


class Study(Spec):
    """A study.

    Attributes
    ----------
    title
        For the report.
    out
        Folder for networks, tables and the report.
    animals, experiments
        By name; the first experiment is the one that the report's pictures show.
    pairs
        Gene pairs whose attention is computed.
    training, simulate
        Settings of the verbs ``train`` and ``simulate``.
    """

    title: str = "Study"
    out: JobPath
    animals: Annotated[dict[Name, Animal], Field(min_length=1)]
    experiments: Annotated[dict[Name, Experiment], Field(min_length=1)]
    pairs: Pairs = ["Nr4a2,Th", "Slc17a6,Slc17a7"]
    training: dict[str, Any] = {"preset": "packaged"}
    simulate: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known_animals(self) -> Study:
        for name, experiment in self.experiments.items():
            unknown = {*experiment.train, experiment.test} - set(self.animals)
            if unknown:
                raise ValueError(
                    f"experiment {name!r} names {listed(sorted(unknown))}, which is no animal here"
                )
        return self


def read_study(path: Path) -> Study:
    """Read a study; paths in it count from its folder.

    Raises
    ------
    UserError
        If it cannot be read, or says something that makes no sense.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        study = Study.model_validate(values, context={"base": path.resolve().parent})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not a study that can be read ({error}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {f'{where}: ' if where else ''}{what}.") from None
    return study.model_copy(update={"out": study.out.resolve()})

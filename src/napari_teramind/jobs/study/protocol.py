"""The protocol, stage by stage (Wu et al. 2025, sections 4 and 5).

Networks learn from some animals and generate the images of another, which they have not seen; what
they made is held against what is real; their attention is computed in every animal, and the order
of the structures compared across animals.
"""

from __future__ import annotations

import csv
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import build_spec
from napari_teramind.jobs.study.config import Experiment, Study
from napari_teramind.jobs.study.stages import Stages, State
from napari_teramind.words import listed

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.jobs.specs import JobSpec

TABLES, NETWORKS, STAGES, FIGURES = "tables", "networks", "stages", "figures"


@dataclass
class Judged:
    """What became of an experiment.

    Attributes
    ----------
    name, experiment
        Which.
    checkpoint
        Its network.
    result
        Name of what it generated, in the test animal's brain.
    metrics
        Table of `teramind evaluate`.
    """

    name: str
    experiment: Experiment
    checkpoint: Path
    result: str
    metrics: Path


@dataclass
class Attended:
    """Attention of one pair by one experiment's network.

    Attributes
    ----------
    experiment
        Its name.
    pair
        The genes.
    tables
        Ranked structures, by animal.
    figures
        Pictures of the pair, by animal.
    agreement
        Numbers of `teramind structures --against`; empty for a single animal.
    """

    experiment: str
    pair: tuple[str, str]
    tables: dict[str, Path]
    figures: dict[str, Path]
    agreement: dict[str, float]


def reproduce(study: Study, name: str, job: JobContext) -> Path:
    """Carry out a study and write its report.

    What is done already is left out; what was interrupted goes on.

    Parameters
    ----------
    study
        The study.
    name
        What its results are called in the brains.
    job
        Told how far it is.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    UserError
        If a stage failed; the sentence says which.
    """
    from napari_teramind.jobs.study.report import write_report

    run = _Run(study, _word(name), Stages(study.out / STAGES, job))
    run.check()
    for folder in (TABLES, NETWORKS, STAGES, FIGURES):
        (study.out / folder).mkdir(parents=True, exist_ok=True)
    run.make_phantoms()
    run.common_panel()
    judged = [run.judge(key, each) for key, each in study.experiments.items()]
    attended = [found for each in judged if each.experiment.attention for found in run.attend(each)]
    return write_report(study, judged, attended, run.expression(judged[0]), job)


@dataclass
class _Run:
    """A study that is being carried out."""

    study: Study
    name: str
    stages: Stages

    def check(self) -> None:
        """Refuse settings that make no sense before the first stage, not hours later."""
        for key, experiment in self.study.experiments.items():
            if experiment.checkpoint is None:
                _spec("train", **self._training(key, experiment))
            checkpoint = experiment.checkpoint or self._trained(key)
            _spec("simulate", **self._generation(key, experiment, checkpoint))

    @property
    def panel(self) -> Path:
        """The list of the genes that every animal has."""
        return self.study.out / TABLES / "panel.csv"

    def _trained(self, key: str) -> Path:
        return self.study.out / NETWORKS / key / "last.safetensors"

    def _training(self, key: str, experiment: Experiment) -> dict[str, Any]:
        return {
            "brains": [self.study.animals[animal].brain for animal in experiment.train],
            "genes": str(self.panel),
            "out": self._trained(key).parent,
            **self.study.training,
            **experiment.training,
        }

    def _generation(self, key: str, experiment: Experiment, checkpoint: Path) -> dict[str, Any]:
        return {
            "brain": self.study.animals[experiment.test].brain,
            "checkpoint": checkpoint,
            "name": f"{self.name} {key}",
            **self.study.simulate,
            **experiment.simulate,
        }

    def make_phantoms(self) -> None:
        for key, animal in self.study.animals.items():
            if animal.phantom is not None:
                values = {"out": animal.brain, "animal": animal.phantom}
                spec = _spec("phantom", **values, size=animal.size, seed=animal.seed)
                self.stages.run(f"phantom {key}", f"Making the phantom {key}", spec)

    def brain(self, animal: str) -> BrainStore:
        from napari_teramind.brain import open_brain

        return open_brain(self.study.animals[animal].brain)

    def common_panel(self) -> None:
        """Write the genes that every animal has, in the order of the first one tested."""
        first = next(iter(self.study.experiments.values())).test
        panels = {key: self.brain(key).gene_names for key in self.study.animals}
        common = set.intersection(*(set(panel) for panel in panels.values()))
        if not common:
            raise UserError(f"{listed(list(panels))} have no gene in common: check their names.")
        with self.panel.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [["gene"], *([gene] for gene in panels[first] if gene in common)]
            )

    def judge(self, key: str, experiment: Experiment) -> Judged:
        """Train, generate, evaluate."""
        checkpoint = self._network(key, experiment)
        values = self._generation(key, experiment, checkpoint)
        brain, result = values["brain"], values["name"]
        instead = dict.fromkeys(
            (State.BEGUN, State.CHANGED), _spec("simulate", **values, overwrite=True)
        )
        if result in self.brain(experiment.test).simulations.unfinished():
            instead[State.BEGUN] = _spec("resume", brain=brain, name=result)
        words = f"Generating {experiment.test} by {key}"
        after = [f"train {key}"] if experiment.train else []
        made = self.stages.run(
            f"simulate {key}", words, _spec("simulate", **values), after, instead
        )
        metrics = self.study.out / TABLES / f"metrics {key}.csv"
        judge = _spec(
            "evaluate",
            brain=brain,
            result=made["name"],
            out=metrics,
            structures=self.brain(experiment.test).structures is not None,
            overwrite=True,
        )
        self.stages.run(f"evaluate {key}", f"Evaluating {key}", judge, after=[f"simulate {key}"])
        return Judged(key, experiment, checkpoint, made["name"], metrics)

    def _network(self, key: str, experiment: Experiment) -> Path:
        if experiment.checkpoint is not None:
            return experiment.checkpoint
        values = self._training(key, experiment)
        spec, stage, run = _spec("train", **values), f"train {key}", Path(values["out"])
        made = [f"phantom {a}" for a in experiment.train if self.study.animals[a].phantom]
        if self.stages.state(stage, spec, made) is State.CHANGED and run.exists():
            run.rename(_free(run.with_name(f"{run.name} before")))
        instead = {State.BEGUN: _spec("train", **{**values, "resume": True})}
        words = f"Training {key} on {listed(experiment.train)}"
        self.stages.run(stage, words, spec, made, instead)
        return self._trained(key)

    def expression(self, judged: Judged) -> Path | None:
        """Sum up the expression of the animal that an experiment is tested on."""
        animal = judged.experiment.test
        if self.brain(animal).structures is None:
            return None
        table = self.study.out / TABLES / f"expression {animal}.csv"
        values = {"brain": self.study.animals[animal].brain, "expression": table}
        spec = _spec("evaluate", **values, overwrite=True)
        made = [f"phantom {animal}"] if self.study.animals[animal].phantom else []
        self.stages.run(f"expression {animal}", f"Expression in {animal}", spec, after=made)
        return table

    def attend(self, judged: Judged) -> list[Attended]:
        """Compute the attention of the pairs in every animal, and hold the animals together."""
        from napari_teramind.attention.pairs import pair_name, read_pair

        pairs = [read_pair(pair) if isinstance(pair, str) else pair for pair in self.study.pairs]
        result = f"{self.name} {judged.name}"
        for animal, known in self.study.animals.items():
            values = {"brain": known.brain, "checkpoint": judged.checkpoint, "name": result}
            spec = _spec("attention", **values, pairs=pairs)
            again = _spec("attention", **values, pairs=pairs, overwrite=True)
            instead = dict.fromkeys((State.BEGUN, State.CHANGED), again)
            stage = f"attention {judged.name} {animal}"
            words = f"Attention of {judged.name} in {animal}"
            after = [f"train {judged.name}"] if judged.experiment.train else []
            self.stages.run(stage, words, spec, after, instead)
        found = []
        for pair in pairs:
            each = Attended(judged.name, pair, {}, {}, {})
            for animal in self.study.animals:
                stem = f"{judged.name} {pair_name(pair)} {animal}"
                self._summarise(each, animal, result, stem)
            found.append(each)
        return found

    def _summarise(self, each: Attended, animal: str, result: str, stem: str) -> None:
        """Write the table and the figure of a pair in an animal; the first is held to all."""
        brains = {key: known.brain for key, known in self.study.animals.items()}
        first = animal == next(iter(brains))
        against = [other for key, other in brains.items() if key != animal] if first else []
        table = self.study.out / TABLES / f"structures {stem}.csv"
        figure = self.study.out / FIGURES / f"{stem}.png"
        values = {"brain": brains[animal], "result": result, "pair": each.pair}
        spec = _spec("structures", **values, against=against, out=table, overwrite=True)
        picture = _spec(
            "export",
            brain=brains[animal],
            image=f"attention/{result}",
            pair=each.pair,
            out=figure,
            overwrite=True,
        )
        of_all = [f"attention {each.experiment} {key}" for key in brains]
        after = of_all if first else [f"attention {each.experiment} {animal}"]
        told = self.stages.run(f"structures {stem}", f"Structures of {stem}", spec, after=after)
        self.stages.run(f"figure {stem}", f"Drawing {stem}", picture, after=after)
        each.tables[animal], each.figures[animal] = table, figure
        each.agreement.update(told.get("agreement", {}))


def _spec(verb: str, **values: Any) -> JobSpec:
    return build_spec({"verb": verb, **values}, f"The study's settings of {verb!r}")


def _free(path: Path) -> Path:
    """Return a path at which nothing is: this one, or one with a number."""
    numbers = (path.with_name(f"{path.name} {n}") for n in itertools.count(2))
    return next(each for each in itertools.chain([path], numbers) if not each.exists())


def _word(name: str) -> str:
    """Return a name as brains take them for results."""
    return re.sub(r"[^A-Za-z0-9 _.-]+", "-", name).strip(" .-") or "study"

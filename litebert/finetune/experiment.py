"""Fine-tunings of a model on tasks, with the learning rate chosen on dev, and what they come to over several seeds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from data_tools.shards import keyed_rng
from litebert.evaluate.heldout import wilson_interval
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig
from litebert.finetune.distillation import Teaching
from litebert.finetune.prediction import device
from litebert.finetune.summary import CONFIDENCE, Summary, above
from litebert.finetune.tasks import Task
from litebert.finetune.trial import MEASURED, PreparedTask, Trial, family_of, length_of, used
from litebert.train.run import write

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "rjieba", "nltk")
CODE = (
    "augmentation",
    "candidate",
    "classes",
    "classification",
    "distillation",
    "examples",
    "family",
    "prediction",
    "records",
    "span",
    "tagging",
    "tasks",
    "trial",
)  # modules that scores depend on


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a model, its floor, its shuffled run or a teacher's student comes to.

    Attributes:
        learning_rate: chosen on dev.
        choice: the first seed's score on dev, by learning rate; None where it diverged.
        dev, test: summaries by name of score.
        sampling: 95 % interval of the mean accuracy on test, of its examples alone (Wilson 1927); None of other scores.
        seconds: of training, in all; as they were measured if they come from the cache.
        tokens_per_s: of the first seed's fine-tuning, padding aside.
        edge: lowest or highest, if of several learning rates that one is the best on dev: others may be better.
        seed: the best on dev.
        classes, confused: of that seed's trial.
    """

    learning_rate: float
    choice: Mapping[str, float | None]
    dev: Mapping[str, Summary]
    test: Mapping[str, Summary]
    sampling: tuple[float, float] | None
    seconds: float
    tokens_per_s: float
    edge: str | None
    seed: int
    classes: Mapping[str, Mapping[str, float]]
    confused: Sequence[Sequence[str | int]]


@dataclasses.dataclass
class Best:
    """The first of the best models on dev, of those that were fine-tuned.

    Attributes:
        score: on dev.
        model: with its head, on the CPU.
        trial, learning_rate, seed: that it came of.
    """

    score: float = -math.inf
    model: Any = None
    trial: Trial | None = None
    learning_rate: float = 0.0
    seed: int = 0

    def offer(self, score: float, model: Any, trial: Trial, learning_rate: float, seed: int) -> None:
        """Keeps a model if it is better."""
        if score > self.score:
            self.score, self.model = score, model.cpu()
            self.trial, self.learning_rate, self.seed = trial, learning_rate, seed


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Fine-tunings of a model on a task by some settings.

    Attributes:
        random: begins with random weights of the model's shape: the floor.
        shuffled: learns from labels of other examples: chance.
        teaching: learns from a teacher's logits too.
        kept: folder of trials that were run before, by fingerprint.
        best: what is to keep the best model; trials that were run before are run again, for their models are gone.
    """

    candidate: Candidate
    task: Task
    config: FinetuneConfig
    kept: Path
    random: bool = False
    shuffled: bool = False
    teaching: Teaching | None = None
    best: Best | None = None

    def outcome(self) -> Outcome:
        """Every learning rate with the first seed, then every seed with the best of them.

        Raises ValueError where all rates diverge, or a further seed does with the best of them.
        """
        metric, rates = family_of(self.task).metric, self.config.rates
        tried = {rate: self._trial(rate, 1) for rate in rates}
        choice = {f"{rate:g}": trial.scores["dev"][metric] if trial.scores else None for rate, trial in tried.items()}
        chosen = max(rates, key=lambda rate: tried[rate].scores["dev"][metric] if tried[rate].scores else -math.inf)
        trials = [tried[chosen]]
        while trials[-1].scores and len(trials) < self.config.seeds:
            trials.append(self._trial(chosen, len(trials) + 1))
        if not trials[-1].scores:
            raise ValueError(
                f"{self._label(chosen, len(trials))}: diverged, its logits are not finite: lower train.learning_rates, "
                f"or look whether the weights of {self.candidate.location} are finite"
            )
        summaries = {
            split: {
                name: Summary.of([trial.scores[split][name] for trial in trials]) for name in trials[0].scores[split]
            }
            for split in MEASURED
        }
        every = [*tried.values(), *trials[1:]]
        best = max(trials, key=lambda trial: trial.scores["dev"][metric])
        return Outcome(
            chosen,
            choice,
            **summaries,
            sampling=_sampling(summaries["test"], len(self.task.test)),
            seconds=sum(trial.seconds for trial in every),
            tokens_per_s=trials[0].tokens_per_s,
            edge=_edge(chosen, rates) if len(set(choice.values())) > 1 else None,
            seed=1 + trials.index(best),
            classes=best.classes,
            confused=best.confused,
        )

    def _trial(self, rate: float, seed: int) -> Trial:
        """From the cache, else run and put there."""
        identity = self._identity | {"learning_rate": rate, "seed": seed}
        path = self.kept / f"{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()}.json"
        if path.is_file() and not self.best:
            try:
                return Trial(**json.loads(path.read_text())["trial"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}: no trial ({error!r}): remove it") from None
        trial, model = self._prepared.run(rate, seed, self.random, self._label(rate, seed))
        if self.best and trial.scores:
            self.best.offer(trial.scores["dev"][self._prepared.family.metric], model, trial, rate, seed)
        self.kept.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps({"identity": identity, "trial": dataclasses.asdict(trial)}, indent=1))
        return trial

    def _label(self, rate: float, seed: int) -> str:
        """A trial, in words."""
        start = "floor" if self.random else self.candidate.location.name
        how = ", shuffled" * self.shuffled + ", distilled" * bool(self.teaching)
        return f"{self.task.name}, {start}{how}, learning rate {rate:g}, seed {seed}"

    @cached_property
    def _prepared(self) -> PreparedTask:
        return PreparedTask.prepared(self.candidate, self.task, self.config, self.shuffled, self.teaching)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """All that a score depends on, but learning rate and seed."""
        settings = dataclasses.asdict(self.config.resolved)
        del settings["learning_rates"], settings["seeds"]
        return {
            "start": self.candidate.shape if self.random else self.candidate.fingerprint,
            "random": self.random,
            "shuffled": self.shuffled,
            "teaching": self.teaching.identity if self.teaching else None,
            "task": self.task.fingerprint,
            "settings": settings,
            "reading": [self.candidate.reading, self.teaching.teacher.reading if self.teaching else None],
            "device": device(),
            "threads": torch.get_num_threads(),
            "code": code_fingerprint(),
            "versions": versions(),
        }


def _sampling(test: Mapping[str, Summary], count: int) -> tuple[float, float] | None:
    """How far the mean accuracy on so many examples may be from that on all there could be."""
    return wilson_interval(test["accuracy"].mean * count, count, CONFIDENCE) if "accuracy" in test else None


def _edge(chosen: float, rates: Sequence[float]) -> str | None:
    if chosen in (ends := (min(rates), max(rates))):
        return ("lowest", "highest")[ends.index(chosen)]
    return None


def evaluate(
    candidate: Candidate,
    tasks: Sequence[Task],
    config: FinetuneConfig,
    arms: Sequence[str],
    kept: Path,
    teachings: Mapping[str, Teaching] | None = None,
) -> dict[str, Any]:
    """Everything there is to say about a model on tasks, as JSON has it; scores are shares of 1.

    Args:
        arms: beside the model itself: floor, shuffled, or both.
        kept: folder of trials that were run before.
        teachings: by fingerprint of a task, for another arm: distilled.
    """
    for task in tasks:
        length_of(family_of(task), candidate, config)
        used(task, config)
    given = teachings or {}
    return {
        "model": str(candidate.location),
        "fingerprint": candidate.fingerprint,
        "settings": dataclasses.asdict(config.resolved),
        "device": device(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "tasks": [_evaluated(candidate, task, config, arms, kept, given.get(task.fingerprint)) for task in tasks],
    }


def _evaluated(
    candidate: Candidate,
    task: Task,
    config: FinetuneConfig,
    arms: Sequence[str],
    kept: Path,
    teaching: Teaching | None,
) -> dict[str, Any]:
    metric = family_of(task).metric
    outcomes = {"model": Experiment(candidate, task, config, kept).outcome()}
    if "floor" in arms:
        outcomes["floor"] = Experiment(candidate, task, config, kept, random=True).outcome()
    if "shuffled" in arms:
        outcomes["shuffled"] = Experiment(candidate, task, config, kept, shuffled=True).outcome()
    if teaching:
        outcomes["distilled"] = Experiment(candidate, task, config, kept, teaching=teaching).outcome()
    facts = facts_of(task, config) | {name: dataclasses.asdict(outcome) for name, outcome in outcomes.items()}
    if "floor" in outcomes:
        facts["above_floor"] = above(outcomes["model"].test[metric], outcomes["floor"].test[metric])
    if teaching:
        facts["above_model"] = above(outcomes["distilled"].test[metric], outcomes["model"].test[metric])
        facts["teaching"] = teaching.identity
    return facts


def facts_of(task: Task, config: FinetuneConfig) -> dict[str, Any]:
    """What a task is, and what of it is used, as JSON has it."""
    return {
        "task": task.name,
        "kind": task.kind,
        "metric": family_of(task).metric,
        "fingerprint": task.fingerprint,
        "origin": task.origin,
        "without_label": dict(task.without_label),
        "overlap": dict(task.overlap),
        "unfound": task.unfound,
        "sizes": {
            "train": len(used(task, config)),
            "dev": len(task.dev),
            "test": len(task.test),
        },
    }


@cache
def code_fingerprint() -> str:
    """SHA-256 of the source that scores depend on, as it is when this is asked first, in hex."""
    files = [*(Path(__file__).with_name(f"{name}.py") for name in CODE), Path(keyed_rng.__file__)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def versions() -> dict[str, str]:
    """Of the libraries that scores depend on."""
    return {name: version(name) for name in PACKAGES}

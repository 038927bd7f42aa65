"""What was measured of runs by others: held-out figures, scores on tasks, speeds and what was made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from litebert.evaluate.heldout import Heldout
from litebert.report.fields import Interval, Quartiles
from litebert.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Score:
    """A mean over seeds, or a difference of two; a share of 1.

    Attributes:
        mean: of it.
        interval: 95 %; None of one seed.
        scores: of the seeds; empty of a difference, and where mean and interval are all that is known.
        seeds: how many ``interval`` is of by Student's t, where there are no scores; 0 of a difference.
    """

    mean: float
    interval: Interval | None
    scores: tuple[float, ...] = ()
    seeds: int = 0


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """What a run comes to on a task, on its test set.

    Attributes:
        task: its name, with some of its fingerprint where tasks of that name differ; folder: its name alone.
        fingerprint: of its files.
        metric: name of the score.
        seeds: fine-tunings that a score is the mean of.
        trained, tested: examples.
        model: the run's score.
        floor: of random weights of its shape; above: the difference of the two; shuffled: with labels of others.
        taught: learning from a fine-tuned teacher too; gained: how far that is above ``model``.
        settings: of fine-tuning, as they were asked for.
    """

    task: str
    folder: str
    fingerprint: str
    metric: str
    seeds: int
    trained: int
    tested: int
    model: Score
    floor: Score | None
    above: Score | None
    shuffled: Score | None
    taught: Score | None
    gained: Score | None
    settings: Mapping[str, Any]

    def unlike(self, other: TaskScores) -> list[str]:
        """In what two scores on tasks of one name differ that has to be the same for them to compare, in words.

        How many seeds they are of is none of that: their intervals say it. Nor are learning rates that were chosen.
        """
        if self.fingerprint != other.fingerprint:
            return ["other files"]
        terms = [
            {"score": its.metric, "training examples": its.trained, "test examples": its.tested, **its.settings}
            for its in (self, other)
        ]
        names = [name for name in dict.fromkeys([*terms[0], *terms[1]]) if name != "seeds"]
        both = [(name, *(each.get(name, "unsaid") for each in terms)) for name in names]
        return [f"{name} {own} and {its}" for name, own, its in both if own != its]


@dataclasses.dataclass(frozen=True)
class Product:
    """A fine-tuned model that was kept, or what was exported of it.

    Attributes:
        task, metric: their names.
        taught: whether it learnt from a fine-tuned teacher too.
        form: that it is kept in.
        whole: its score on test in fp32, a share of 1; kept: that of the exported file; None where it was not measured.
    """

    task: str
    metric: str
    taught: bool
    form: str
    whole: float
    kept: float | None


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a run's encoder is in a form that it is exported in, and what it takes. Quartiles are by length.

    Attributes:
        form: of the encoder, and its threads.
        megabytes: of its file; memory: at most, of a process that has run it; None where it is not said.
        milliseconds: of a call with one sample.
        samples_per_s: of calls with many.
        where: processor and versions, in words; batch of ``samples_per_s`` and commit, if the file has them.
        file: that it is from; only what is in one was measured in turn, on one machine.
    """

    form: str
    megabytes: float | None
    memory: float | None
    milliseconds: Mapping[int, Quartiles]
    samples_per_s: Mapping[int, Quartiles]
    where: str
    file: Path

    @property
    def kind(self) -> str:
        """Its form without its threads."""
        return self.form.rpartition(", ")[0]

    @property
    def threads(self) -> str:
        """How many, in words."""
        return self.form.rpartition(", ")[2]


@dataclasses.dataclass
class Measured:
    """What is known of a run beside its folder.

    Attributes:
        heldout: on held-out documents, after so many steps.
        step: of ``heldout``.
        tasks: on tasks.
        speeds: of its exports.
        products: what was fine-tuned of it and kept.
    """

    heldout: Heldout | None = None
    step: int = 0
    tasks: list[TaskScores] = dataclasses.field(default_factory=list)
    speeds: list[Speed] = dataclasses.field(default_factory=list)
    products: list[Product] = dataclasses.field(default_factory=list)


def comparable(runs: Sequence[Run], measured: Mapping[str, Measured]) -> bool:
    """Whether all held-out figures are of the same words under the same tokenizer."""
    tokenizers = {run.fingerprints["tokenizer"] for run in runs if measured[run.name].heldout}
    asked = {(its.masked_tokens, its.unigram_loss_masked) for each in measured.values() if (its := each.heldout)}
    return len(tokenizers) < 2 and len(asked) < 2

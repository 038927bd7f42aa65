"""Tasks that give a sentence, or a pair of them, one of several classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from data_tools.shards.keyed_rng import permutation
from litebert.finetune.classes import Pair
from litebert.finetune.examples import Labelled
from litebert.finetune.family import NOT_LABELLED, Encoded, Floats, Integers, rows_of


@dataclasses.dataclass(frozen=True)
class Classification:
    """A class of each example; its score is accuracy, as CLUE's is."""

    labels: tuple[str, ...]

    head: ClassVar[str] = "AutoModelForSequenceClassification"
    collator: ClassVar[str] = "DataCollatorWithPadding"
    max_length: ClassVar[int] = 128
    metric: ClassVar[str] = "accuracy"

    @property
    def outputs(self) -> tuple[str, ...]:
        """A logit a class."""
        return self.labels

    def encode(self, examples: Sequence[Labelled], tokenizer: Any, max_length: int) -> Encoded:
        """One row an example; of a pair, the longer text is cut first."""
        others = [one.other for one in examples] if examples[0].other is not None else None
        encoding = tokenizer([one.text for one in examples], others, truncation=True, max_length=max_length)
        classes = self._classes(examples).tolist()
        rows = [row | {"labels": label} for row, label in zip(rows_of(encoding), classes, strict=True)]
        return Encoded(rows, np.arange(len(rows)), ())

    def scores(self, examples: Sequence[Labelled], encoded: Encoded, outputs: tuple[Floats, ...]) -> dict[str, float]:
        """Accuracy, macro-averaged F1, and the accuracy of always saying the commonest class."""
        right, said = self._classes(examples), outputs[0].argmax(-1)
        size = len(self.labels)
        table = np.bincount(right * size + said, minlength=size * size).reshape(size, size)
        hits, either = table.diagonal(), table.sum(0) + table.sum(1)
        f1 = (2 * hits[either > 0] / either[either > 0]).mean()
        majority = table.sum(1).max() / len(examples)
        return {"accuracy": float(hits.sum() / len(examples)), "macro_f1": float(f1), "majority": float(majority)}

    def said(self, examples: Sequence[Labelled], encoded: Encoded, outputs: tuple[Floats, ...]) -> list[str]:
        """The likeliest class of each example."""
        return [self.labels[number] for number in outputs[0].argmax(-1).tolist()]

    def pairs(self, examples: Sequence[Labelled], encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Pair]:
        """The class of each example, and the likeliest one."""
        return zip((one.label for one in examples), self.said(examples, encoded, outputs), strict=True)

    def distributions(self, encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Floats]:
        """Of each row, [1, classes]."""
        return (logits[None] for logits in outputs[0])

    def shuffled(self, examples: Sequence[Labelled], key: int) -> list[Labelled]:
        """Each text with the class of another."""
        order = permutation(key, len(examples))
        return [
            dataclasses.replace(one, label=examples[other].label) for one, other in zip(examples, order, strict=True)
        ]

    def _classes(self, examples: Sequence[Labelled]) -> Integers:
        numbers: dict[str | None, int] = {label: number for number, label in enumerate(self.labels)}
        numbers[None] = NOT_LABELLED
        return np.array([numbers[one.label] for one in examples])

"""Tasks that find entities in a text: one of B-, I- of a type, or O, for each token."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from data_tools.shards.keyed_rng import permutation
from litebert.finetune.classes import Pair
from litebert.finetune.examples import Tagged
from litebert.finetune.family import NOT_LABELLED, Encoded, Floats, Integers, rows_of

Entity = tuple[int, int, str]


@dataclasses.dataclass(frozen=True)
class Tagging:
    """Entities by their types; an entity counts where start, end and type are right (CoNLL 2003)."""

    labels: tuple[str, ...]

    head: ClassVar[str] = "AutoModelForTokenClassification"
    collator: ClassVar[str] = "DataCollatorForTokenClassification"
    max_length: ClassVar[int] = 128
    metric: ClassVar[str] = "f1"

    @property
    def outputs(self) -> tuple[str, ...]:
        """O, then B- and I- of each type: type k begins with 1 + 2k and goes on with 2 + 2k."""
        return ("O", *(f"{place}-{label}" for label in self.labels for place in "BI"))

    def encode(self, examples: Sequence[Tagged], tokenizer: Any, max_length: int) -> Encoded:
        """One row an example, cut at its end; what is cut off is missed."""
        texts = [one.text for one in examples]
        encoding = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
        offsets = [_without_space(text, found) for text, found in zip(texts, encoding["offset_mapping"], strict=True)]
        tags = [self._tags(one.entities, found) for one, found in zip(examples, offsets, strict=True)]
        rows = [row | {"labels": found} for row, found in zip(rows_of(encoding), tags, strict=True)]
        return Encoded(rows, np.arange(len(rows)), offsets)

    def scores(self, examples: Sequence[Tagged], encoded: Encoded, outputs: tuple[Floats, ...]) -> dict[str, float]:
        """F1, precision and recall over all entities, and the F1 of perfect tags: the most that these tokens allow."""
        right = [set(one.entities or ()) for one in examples]
        said = self.said(examples, encoded, outputs)
        perfect = [
            set(self.entities(np.asarray(row["labels"]), offsets))
            for row, offsets in zip(encoded.rows, encoded.offsets, strict=True)
        ]
        f1, precision, recall = agreement(right, said)
        return {"f1": f1, "precision": precision, "recall": recall, "ceiling": agreement(right, perfect)[0]}

    def said(self, examples: Sequence[Tagged], encoded: Encoded, outputs: tuple[Floats, ...]) -> list[set[Entity]]:
        """The entities of each text, by the likeliest tags."""
        return [
            set(self.entities(tags[: len(offsets)], offsets))
            for tags, offsets in zip(outputs[0].argmax(-1), encoded.offsets, strict=True)
        ]

    def pairs(self, examples: Sequence[Tagged], encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Pair]:
        """The types at each place where an entity is, or is said to be."""
        for one, said in zip(examples, self.said(examples, encoded, outputs), strict=True):
            right = set(one.entities or ())
            wrong = {(start, end): name for start, end, name in said - right}
            for start, end, name in sorted(right):
                yield name, name if (start, end, name) in said else wrong.pop((start, end), None)
            yield from ((None, name) for name in wrong.values())

    def distributions(self, encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Floats]:
        """Of each row, [tokens, tags]; of tokens that stand for text."""
        for logits, offsets in zip(outputs[0], encoded.offsets, strict=True):
            yield np.where(offsets[:, :1] < offsets[:, 1:], logits[: len(offsets)], np.nan)

    def shuffled(self, examples: Sequence[Tagged], key: int) -> list[Tagged]:
        """Each text with the entities of another, as far as it reaches."""
        order = permutation(key, len(examples))
        return [
            Tagged(one.text, tuple(entity for entity in examples[other].entities or () if entity[1] <= len(one.text)))
            for one, other in zip(examples, order, strict=True)
        ]

    def entities(self, tags: Integers, offsets: Integers) -> Iterator[Entity]:
        """Entities of tags [tokens]. An I- that continues nothing of its type begins, as in CoNLL's own script."""
        start = end = kind = -1
        for tag, (first, last) in zip(tags.tolist(), offsets.tolist(), strict=True):
            if first == last:
                continue
            begins, its = tag % 2 == 1, (tag - 1) // 2
            if kind >= 0 and (begins or its != kind):
                yield start, end, self.labels[kind]
                kind = -1
            if its >= 0 and kind < 0:
                start, kind = first, its
            end = last
        if kind >= 0:
            yield start, end, self.labels[kind]

    def _tags(self, entities: Sequence[Entity] | None, offsets: Integers) -> list[int]:
        """Of tokens that touch an entity; of two entities that share a token, the first has it."""
        if entities is None:
            return [NOT_LABELLED] * len(offsets)
        tags = np.where(offsets[:, 0] < offsets[:, 1], 0, NOT_LABELLED)
        for start, end, label in entities:
            touched = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start) & (tags != NOT_LABELLED))
            if len(touched) and not tags[touched].any():
                number = self.labels.index(label)
                tags[touched] = 2 + 2 * number
                tags[touched[0]] = 1 + 2 * number
        return tags.tolist()


def agreement(right: Sequence[set[Any]], said: Sequence[set[Any]]) -> tuple[float, float, float]:
    """F1, precision and recall over all examples together; 0 where there is nothing to divide by."""
    both = sum(len(one & other) for one, other in zip(right, said, strict=True))
    wanted, found = sum(map(len, right)), sum(map(len, said))
    return 2 * both / max(1, wanted + found), both / max(1, found), both / max(1, wanted)


def _without_space(text: str, offsets: Sequence[tuple[int, int]]) -> Integers:
    """Offsets of tokens without the space that a SentencePiece token may begin with, [tokens, 2]."""
    begun = [(first + len(text[first:last]) - len(text[first:last].lstrip()), last) for first, last in offsets]
    return np.array(begun, np.int64).reshape(-1, 2)

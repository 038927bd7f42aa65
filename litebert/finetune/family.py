"""What kinds of tasks that are fine-tuned alike have in common: how examples become rows, and outputs scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from litebert.finetune.classes import Pair

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
NOT_LABELLED = -100  # what PyTorch's cross entropy passes over
TARGETS = ("labels", "start_positions", "end_positions")  # what a row has beside its tokens


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Examples as a model takes them, with labels.

    Attributes:
        rows: sequences, as a collator of transformers takes them.
        owners: int64 [rows], the example that each is of.
        offsets: int64 [tokens, 2] of each row: the characters of the text, or of the passage, that a token stands for;
            an empty range for any other token. empty where scores do not need them.
    """

    rows: Sequence[dict[str, Any]]
    owners: Integers
    offsets: Sequence[Integers]

    def __getitem__(self, part: slice) -> Encoded:
        """Some of the rows."""
        return Encoded(self.rows[part], self.owners[part], self.offsets[part])

    @property
    def tokens(self) -> int:
        """How many there are, padding aside."""
        return sum(len(row["input_ids"]) for row in self.rows)


class Family(Protocol):
    """Sentences and pairs, tagging, or spans.

    Attributes:
        head: name of the class of transformers that it needs.
        collator: name of the one that pads its rows.
        max_length: tokens of a row, where nothing else is said.
        metric: the score that decides.
        outputs: names of what the head gives for it, in order.
    """

    @property
    def head(self) -> str: ...
    @property
    def collator(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...

    def encode(self, examples: Sequence[Any], tokenizer: Any, max_length: int) -> Encoded:
        """Rows of examples, none longer than max_length tokens."""

    def scores(self, examples: Sequence[Any], encoded: Encoded, outputs: tuple[Floats, ...]) -> dict[str, float]:
        """Shares of 1, of logits [rows, ...] that are padded at their end."""

    def said(self, examples: Sequence[Any], encoded: Encoded, outputs: tuple[Floats, ...]) -> Sequence[Any]:
        """What logits say of each example: its class, its entities or an answer."""

    def pairs(self, examples: Sequence[Any], encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Pair]:
        """What is right and what logits say, of each example or entity; nothing where there are no classes."""

    def distributions(self, encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Floats]:
        """What logits say of each row, [places, classes]: a place is the row, one of its tokens, or an answer's end.

        NaN stands at a place that is not asked about.
        """

    def shuffled(self, examples: Sequence[Any], key: int) -> list[Any]:
        """The texts, each with the labels of another, drawn by a key: nothing to be learnt but what is frequent."""


def rows_of(encoding: Any) -> list[dict[str, Any]]:
    """The sequences of a tokenizer's answer, one by one."""
    names = [name for name in encoding if name not in ("offset_mapping", "overflow_to_sample_mapping")]
    columns = [[np.asarray(values, np.int32) for values in encoding[name]] for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

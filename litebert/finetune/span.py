"""Tasks that answer a question by a span of a passage, measured as CMRC 2018 does (Cui et al. 2019)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from nltk.tokenize import NLTKWordTokenizer

from data_tools.shards.keyed_rng import permutation
from litebert.finetune.classes import Pair
from litebert.finetune.examples import Question
from litebert.finetune.family import NOT_LABELLED, Encoded, Floats, Integers, rows_of

LONGEST = 128  # tokens of an answer
PUNCTUATION = frozenset(
    "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
)  # that CMRC's script leaves out, and no other
_HAN = re.compile("[\u4e00-\u9fa5]")
_WORDS = NLTKWordTokenizer()


@dataclasses.dataclass(frozen=True)
class Span:
    """An answer to each question; passages that are too long are read in windows that overlap."""

    head: ClassVar[str] = "AutoModelForQuestionAnswering"
    collator: ClassVar[str] = "DataCollatorWithPadding"
    max_length: ClassVar[int] = 384
    metric: ClassVar[str] = "f1"
    outputs: ClassVar[tuple[str, ...]] = ("start", "end")

    def encode(self, examples: Sequence[Question], tokenizer: Any, max_length: int) -> Encoded:
        """A row a window; a question is cut after max_length / 4 tokens, windows share as many.

        A window's targets are the tokens where the first answer starts and ends, or its first token where the answer
        is not whole in it.
        """
        encoding = tokenizer(
            _cut([one.question for one in examples], tokenizer, max_length // 4),
            [one.context for one in examples],
            truncation="only_second",
            max_length=max_length,
            stride=max_length // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        owners = np.array(encoding["overflow_to_sample_mapping"])
        offsets = []
        for number, found in enumerate(encoding["offset_mapping"]):
            passage = np.array([part == 1 for part in encoding.sequence_ids(number)])
            offsets.append(np.array(found, np.int64) * passage[:, None])
        targets = [_target(examples[owner], found) for owner, found in zip(owners, offsets, strict=True)]
        rows = [
            row | {"start_positions": start, "end_positions": end}
            for row, (start, end) in zip(rows_of(encoding), targets, strict=True)
        ]
        return Encoded(rows, owners, offsets)

    def scores(self, examples: Sequence[Question], encoded: Encoded, outputs: tuple[Floats, ...]) -> dict[str, float]:
        """Exact matches and F1, means over questions of the best of their answers."""
        said = self.said(examples, encoded, outputs)
        rights = [[text for text, _ in one.answers] for one in examples]
        exact = np.mean([exact_match(right, its) for right, its in zip(rights, said, strict=True)])
        f1 = np.mean([overlap(right, its) for right, its in zip(rights, said, strict=True)])
        return {"f1": float(f1), "exact_match": float(exact)}

    def said(self, examples: Sequence[Question], encoded: Encoded, outputs: tuple[Floats, ...]) -> list[str]:
        """The answer to each question."""
        return likeliest(examples, encoded, *outputs)

    def pairs(self, examples: Sequence[Question], encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Pair]:
        """None: there are no classes."""
        return iter(())

    def distributions(self, encoded: Encoded, outputs: tuple[Floats, ...]) -> Iterator[Floats]:
        """Of each row, [2, tokens]: where the answer starts, and where it ends."""
        for start, end, offsets in zip(*outputs, encoded.offsets, strict=True):
            yield np.stack([start, end])[:, : len(offsets)]

    def shuffled(self, examples: Sequence[Question], key: int) -> list[Question]:
        """Each passage with an answer where another passage has its own, as far as it reaches."""
        order = permutation(key, len(examples))
        return [_moved(one, *examples[other].answers[0]) for one, other in zip(examples, order, strict=True)]


def _cut(questions: Sequence[str], tokenizer: Any, tokens: int) -> list[str]:
    """Questions without what comes after so many tokens of them."""
    encoding = tokenizer(
        list(questions),
        add_special_tokens=False,
        truncation=True,
        max_length=tokens + 1,
        return_offsets_mapping=True,
    )
    return [
        text[: offsets[tokens][0]] if len(offsets) > tokens else text
        for text, offsets in zip(questions, encoding["offset_mapping"], strict=True)
    ]


def _moved(one: Question, text: str, start: int) -> Question:
    end = min(max(start, 0) + len(text), len(one.context))
    start = max(0, end - len(text))
    return dataclasses.replace(one, answers=((one.context[start:end], start),))


def _target(one: Question, offsets: Integers) -> tuple[int, int]:
    """The tokens of the first answer, or (0, 0); of a question without one, NOT_LABELLED."""
    if not one.labelled:
        return NOT_LABELLED, NOT_LABELLED
    text, start = one.answers[0]
    passage = np.flatnonzero(offsets[:, 0] < offsets[:, 1])
    end = start + len(text)
    if start < 0 or not len(passage) or offsets[passage[0], 0] > start or offsets[passage[-1], 1] < end:
        return 0, 0
    touched = passage[(offsets[passage, 0] < end) & (offsets[passage, 1] > start)]
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)


def likeliest(examples: Sequence[Question], encoded: Encoded, start: Floats, end: Floats) -> list[str]:
    """The likeliest span of each question, over all its windows; logits [rows, tokens]."""
    passage = np.zeros(start.shape, bool)
    for row, offsets in enumerate(encoded.offsets):
        passage[row, : len(offsets)] = offsets[:, 0] < offsets[:, 1]
    score, first, last = best_spans(start, end, passage)
    best = np.lexsort((-score, encoded.owners))  # by example, its best window first
    _, where = np.unique(encoded.owners[best], return_index=True)
    said = []
    for row in best[where].tolist():
        offsets = encoded.offsets[row]
        begins, ends = int(offsets[first[row], 0]), int(offsets[last[row], 1])
        said.append(examples[encoded.owners[row]].context[begins:ends].strip())
    return said


def best_spans(start: Floats, end: Floats, passage: npt.NDArray[np.bool_]) -> tuple[Floats, Integers, Integers]:
    """The span of at most LONGEST tokens with the largest sum of logits, in each row.

    Args:
        start, end: logits [rows, tokens].
        passage: whether a token is of the passage, [rows, tokens].

    Returns:
        sums, first and last tokens, [rows]; the sum is -inf, of tokens (0, 0), where a row has no passage.
    """
    start, end = (np.where(passage, logits, -np.inf).astype(np.float32) for logits in (start, end))
    rows = np.arange(len(start))
    score, first, last = np.full(len(start), -np.inf, np.float32), np.zeros_like(rows), np.zeros_like(rows)
    for length in range(min(LONGEST, start.shape[1])):
        sums = start[:, : start.shape[1] - length] + end[:, length:]
        at = sums.argmax(1)
        better = sums[rows, at] > score
        score[better] = sums[rows, at][better]
        first[better], last[better] = at[better], at[better] + length
    return score, first, last


def exact_match(right: Sequence[str], said: str) -> bool:
    """Whether an answer is one of the right ones, case and PUNCTUATION aside."""
    return _bare(said) in map(_bare, right)


def overlap(right: Sequence[str], said: str) -> float:
    """F1 of the longest common run of characters, or words where they are not Chinese, with the best right answer."""
    return max(_overlap(segments(one), segments(said)) for one in right)


def segments(text: str) -> list[str]:
    """Chinese characters one by one, and the words of what is between them; lower case, without PUNCTUATION."""
    parts, other = [], ""
    for character in _bare(text):
        if _HAN.match(character):
            parts += [*_WORDS.tokenize(other), character]
            other = ""
        else:
            other += character
    return parts + _WORDS.tokenize(other)


def _overlap(right: list[str], said: list[str]) -> float:
    common = SequenceMatcher(None, right, said, autojunk=False).find_longest_match().size
    return 2 * common / max(1, len(right) + len(said))


def _bare(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in PUNCTUATION)

"""Copies of texts for a teacher to answer: with words masked, and cut down to a few words (Tang et al. 2019).

"Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", section 3.2, without its replacement of
words by others of the same part of speech.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import rjieba

from data_tools.shards.keyed_rng import below, draws, key_of
from litebert.finetune.examples import Labelled, Tagged

MASK = "[MASK]"
LONGEST = 5  # words of an n-gram
_TEXT = 2**32 - 1  # the counter of what is drawn once for a text, where a word's is its place
_WHOLE = 2**32

Integers = npt.NDArray[np.int64]
Strings = npt.NDArray[np.object_]


@dataclasses.dataclass(frozen=True)
class Words:
    """Texts as words, end to end.

    Attributes:
        words: str [words].
        masks: what stands in a word's place where it is masked, str [words].
        counts: words of each text, [texts].
    """

    words: Strings
    masks: Strings
    counts: Integers

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        """Cuts texts as the masks of pretraining are, by jieba's algorithm."""
        cut = [rjieba.cut(text) for text in texts]
        words = list(chain.from_iterable(cut))
        masks = [_masked(word) for word in words]
        return cls(np.array(words, object), np.array(masks, object), np.array([len(each) for each in cut], np.int64))

    def copy(self, number: int, key: int, mask: float, ngram: float) -> list[str]:
        """One copy of every text, a pure function of its arguments and of the texts' places.

        Args:
            number: of the copy.
            key: of all that is drawn.
            mask: the share of words that are masked.
            ngram: the share of texts of which only 1 to 5 words are left, side by side, masked or not.
        """
        ends = np.cumsum(self.counts)
        begins = ends - self.counts
        texts = np.arange(len(self.counts))
        owners = np.repeat(texts, self.counts)
        drawn, *_ = draws(key, owners.astype(np.uint64), np.arange(len(owners)) - begins[owners], number)
        shown = np.where(drawn < mask * _WHOLE, self.masks, self.words)
        chance, length, place, _ = draws(key, texts.astype(np.uint64), _TEXT, number)
        cut = chance < ngram * _WHOLE
        lengths = np.where(cut, np.minimum(self.counts, 1 + below(length, LONGEST)), self.counts)
        firsts = begins + below(place, self.counts - lengths + 1)
        return ["".join(shown[one : one + count]) for one, count in zip(firsts.tolist(), lengths.tolist(), strict=True)]


def augmented(
    examples: Sequence[Labelled | Tagged], copies: int, mask: float, ngram: float, fingerprint: str
) -> list[Any]:
    """Copies of examples, without labels: all of the first copy, then of the second, ...

    Of pairs, the first copy changes the first text, the second the other, the third both, and so on. Texts whose
    entities are tagged are not cut.

    Args:
        fingerprint: of the task: with a row's number and a copy's, what is drawn depends on nothing else.
    """
    tagged = isinstance(examples[0], Tagged)
    texts = {"text": Words.of([one.text for one in examples])}
    if others := [one.other for one in examples if isinstance(one, Labelled) and one.other is not None]:
        texts["other"] = Words.of(others)
    made: list[Any] = []
    for number in range(copies):
        names = (("text",), ("other",), ("text", "other"))[number % 3] if others else ("text",)
        changed = {
            name: texts[name].copy(number, key_of("augment", fingerprint, name), mask, 0.0 if tagged else ngram)
            for name in names
        }
        made += [
            dataclasses.replace(one.bare, **dict(zip(changed, new, strict=True)))
            for one, new in zip(examples, zip(*changed.values(), strict=True), strict=True)
        ]
    return made


def _masked(word: str) -> str:
    """A mask for each character, as a Chinese word has tokens; one for a word of another script; space stays."""
    if word.isspace():
        return word
    return MASK if word.isascii() else MASK * len(word)

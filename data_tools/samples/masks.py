"""Samples masked: which tokens, and what stands there instead (BERT, Devlin et al. 2019).

A copy of a sample's masks is a pure function of (seed, document, sample, copy): computed while the shards are
built, or years later from their word starts, it is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_tools.samples.choice import Choice, chosen_tokens
from data_tools.samples.columns import I64, Samples, ranges
from data_tools.shards.keyed_rng import U32, below, draws, key_of
from data_tools.text.interface import Vocabulary

_MAX_COPIES = 1000
_REPLACEMENT = 2  # what draws are for, beside those of the runs: the last word of their counter


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """How samples are masked.

    Attributes:
        strategy: what is masked: tokens one by one, whole words (word), n-grams of words with p(n) in proportion
            to 1 / n (ngram; Lan et al. 2020), or spans of words with lengths of a geometric distribution cut off
            at max_span (span; Joshi et al. 2020).
        rate: share of a sample's tokens that are masked, special tokens not counted. A sample's budget is that many
            tokens, rounded, at least one. Tokens meet it exactly. Whole words never exceed it, and stop where no
            word that is left would fit; n-grams and spans too, for they are cut short after a word.
        max_ngram: words of the longest n-gram.
        max_span: words of the longest span.
        span_stop: probability that a span ends after a word.
        frequency_smoothing: how much likelier rare words are masked: a word's chance to be drawn is the mean over
            its tokens of their count in the training text to the power of minus this; 0 for all words alike, 0.7 in
            XLM and DistilBERT (Sanh et al. 2019).
        mask_share: of the masked tokens, those that show [MASK].
        random_share: those that show a random token; the rest shows the token itself.
        copies: how many different maskings of each sample are stored; epoch e reads copy e mod copies;
            1000 at most.
        seed: of the masks alone, for other masks of the same samples; None for the seed of all else.
    """

    strategy: Literal["word", "token", "ngram", "span"] = "word"
    rate: float = 0.15
    max_ngram: int = 3
    max_span: int = 10
    span_stop: float = 0.2
    frequency_smoothing: float = 0.0
    mask_share: float = 0.8
    random_share: float = 0.1
    copies: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.rate < 1:
            problems.append(f"rate {self.rate} is not between 0 and 1, both excluded")
        if not 0 < self.span_stop < 1:
            problems.append(f"span_stop {self.span_stop} is not between 0 and 1, both excluded")
        if not 0 <= self.frequency_smoothing <= 2:
            problems.append(f"frequency_smoothing {self.frequency_smoothing} is not within 0 and 2")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            problems.append(f"mask_share {self.mask_share} and random_share {self.random_share} are not shares of one")
        for name in ("max_ngram", "max_span", "copies"):
            if getattr(self, name) < 1:
                problems.append(f"{name} {getattr(self, name)} is not positive")
        if self.copies > _MAX_COPIES:
            problems.append(f"copies {self.copies} are more than {_MAX_COPIES}, each as large as all samples' masks")
        if problems:
            raise ValueError("; ".join(problems))

    def choice(self, counts: npt.NDArray[np.int64] | None) -> Choice:
        """What the runs are drawn by. ``counts`` as in ``mask``."""
        shares: npt.NDArray[np.float64]
        if self.strategy == "ngram":
            shares = 1 / np.arange(1.0, self.max_ngram + 1)
        elif self.strategy == "span":
            shares = np.power(1 - self.span_stop, np.arange(float(self.max_span)))
        else:
            shares = np.ones(1)
        weights = None
        if self.frequency_smoothing:
            assert counts is not None
            weights = np.maximum(counts, 1) ** -self.frequency_smoothing
        return Choice(self.rate, self.strategy != "token", shares / shares.sum(), weights)


@dataclasses.dataclass(frozen=True)
class Masks:
    """One masked copy of samples.

    Attributes:
        positions: int64 [masked], place within its sample, ascending within a sample.
        inputs: int32 [masked], the id that stands there instead.
        counts: int64 [samples], masked tokens of each.
    """

    positions: I64
    inputs: npt.NDArray[np.int32]
    counts: I64

    def take(self, index: I64) -> Masks:
        """The masks of the samples at the indices, in that order."""
        counts = self.counts[index]
        masked = ranges((np.cumsum(self.counts) - self.counts)[index], counts)
        return Masks(self.positions[masked], self.inputs[masked], counts)

    def blocks(self, size: int) -> Iterator[Masks]:
        """The masks of the samples in their order, ``size`` at a time, as views."""
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        for begin in range(0, len(self.counts), size):
            masked = slice(ends[begin], ends[min(begin + size, len(self.counts))])
            yield Masks(self.positions[masked], self.inputs[masked], self.counts[begin : begin + size])


def mask(
    samples: Samples,
    config: MaskConfig,
    vocabulary: Vocabulary,
    seed: int,
    copy: int,
    counts: npt.NDArray[np.int64] | None = None,
) -> Masks:
    """Mask a copy of the samples; which tokens, ``data_tools.samples.choice`` says.

    Args:
        counts: int64 [vocabulary], how often each id occurs in the training text; needed where
            ``config.frequency_smoothing`` is.
    """
    key = key_of(seed if config.seed is None else config.seed, "masks")
    chosen = np.flatnonzero(chosen_tokens(samples, config.choice(counts), key, copy))
    ends = np.cumsum(samples.lengths)
    masked = np.diff(np.searchsorted(chosen, ends), prepend=0)
    owner = np.repeat(np.arange(len(samples)), masked)
    kind, which = _two_draws(samples, masked, owner, key, copy)
    return Masks(
        positions=chosen - (ends - samples.lengths)[owner],
        inputs=_replacements(samples.ids[chosen], kind, which, config, vocabulary),
        counts=masked,
    )


def _two_draws(samples: Samples, masked: I64, owner: I64, key: int, copy: int) -> tuple[U32, U32]:
    """Two draws for each masked token, from half as many counters: the n-th two for a sample's n-th masked token."""
    number = np.arange(len(owner)) - (np.cumsum(masked) - masked)[owner]
    even = np.flatnonzero(number % 2 == 0)
    documents, numbers = samples.documents[owner[even]], samples.numbers[owner[even]]
    drawn = draws(key, documents, numbers, np.uint32(copy), number[even] // 2, _REPLACEMENT)
    of = np.cumsum(number % 2 == 0) - 1
    second = number % 2 == 1
    return np.where(second, drawn[2][of], drawn[0][of]), np.where(second, drawn[3][of], drawn[1][of])


def _replacements(
    ids: npt.NDArray[np.int32], kind: U32, which: U32, config: MaskConfig, vocabulary: Vocabulary
) -> npt.NDArray[np.int32]:
    masked = kind < np.uint64(round(config.mask_share * 2**32))
    random = ~masked & (kind < np.uint64(round((config.mask_share + config.random_share) * 2**32)))
    drawn = vocabulary.replacements[below(which, len(vocabulary.replacements))]
    return np.where(masked, vocabulary.mask, np.where(random, drawn, ids)).astype(np.int32)

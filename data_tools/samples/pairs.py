"""Documents of ids become sentence-order samples, without losing or doubling a token.

After ALBERT (Lan et al. 2020, section 3.1): a sample is a stretch of one document, cut in two at a sentence
boundary, and half of the pairs stand swapped. Unlike the original script nothing is truncated: the stretches
of a document follow one another and cover it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples, ranges
from data_tools.shards.keyed_rng import below, draws, key_of
from data_tools.text.interface import Vocabulary

NO_PAIR = -1
SPECIALS_OF_A_PAIR = 3
_SHORTEST = 2


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """How documents become samples.

    Attributes:
        seq_length: tokens of a sample at most, special tokens included.
        short_share: share of samples aimed at a random shorter length, so that the model meets short inputs.
    """

    seq_length: int = 128
    short_share: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        if not 8 <= self.seq_length <= 65535:
            problems.append(f"seq_length {self.seq_length} is not within 8 and 65535")
        if not 0 <= self.short_share <= 1:
            problems.append(f"short_share {self.short_share} is not a share")
        if problems:
            raise ValueError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Stretches:
    """Where samples lie in the ids of many documents: token ``begin`` to ``end``, of the document at ``document``."""

    begin: I64
    end: I64
    document: I64
    number: I64
    draws: tuple[npt.NDArray[np.uint32], ...]


def pair(
    ids: npt.NDArray[np.int32],
    lengths: I64,
    sentences: npt.NDArray[np.bool_],
    words: npt.NDArray[np.bool_],
    documents: npt.NDArray[np.uint64],
    config: PairConfig,
    vocabulary: Vocabulary,
    seed: int,
) -> Samples:
    """The samples of many documents.

    Args:
        ids: [tokens], the documents end to end, no special tokens.
        lengths: [documents], tokens of each, all positive.
        sentences: [tokens], whether a sentence begins at the token.
        words: [tokens], whether a word begins at the token.
        documents: [documents], keys.
    """
    stretches = _stretches(lengths, sentences, words, documents, config, seed)
    cut = _cuts(stretches, sentences)
    return _laid_out(ids, words, stretches, cut, documents, vocabulary)


def _stretches(
    lengths: I64,
    sentences: npt.NDArray[np.bool_],
    words: npt.NDArray[np.bool_],
    documents: npt.NDArray[np.uint64],
    config: PairConfig,
    seed: int,
) -> Stretches:
    """Cut every document into stretches of whole sentences; one too long for a sample is cut after a word, and a
    word too long anywhere. The n-th stretches of all documents are cut at once.
    """
    room = config.seq_length - SPECIALS_OF_A_PAIR
    key = key_of(seed, "pairs")
    last_sentence, last_word = _last_true(sentences), _last_true(words)
    starts = np.append(np.flatnonzero(sentences), len(sentences))
    document = np.arange(len(lengths))
    end = np.cumsum(lengths)
    position = end - lengths
    rounds = []
    number = 0
    while len(document):
        draw = draws(key, documents[document], np.full(len(document), number, np.uint32))
        short = draw[0] < np.uint64(round(config.short_share * 2**32))
        target = position + np.where(short, _SHORTEST + below(draw[1], room - _SHORTEST + 1), room)
        limit, last = position + room, end[document]
        sentence_end = np.minimum(starts[np.searchsorted(starts, position, side="right")], last)
        whole_words = last_word[np.minimum(limit, last - 1)]
        within_sentence = np.where(whole_words > position, whole_words, limit)
        stop = np.where(target >= last, last, last_sentence[np.minimum(target, last - 1)])
        stop = np.where(stop > position, stop, np.where(sentence_end <= limit, sentence_end, within_sentence))
        rounds.append(Stretches(position, stop, document, np.full(len(document), number), draw))
        unfinished = stop < end[document]
        document, position = document[unfinished], stop[unfinished]
        number += 1
    return Stretches(
        begin=np.concatenate([one.begin for one in rounds]),
        end=np.concatenate([one.end for one in rounds]),
        document=np.concatenate([one.document for one in rounds]),
        number=np.concatenate([one.number for one in rounds]),
        draws=tuple(np.concatenate([one.draws[word] for one in rounds]) for word in range(4)),
    )


def _last_true(flags: npt.NDArray[np.bool_]) -> I64:
    """For each place the last True at or before it, or 0."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), 0))


def _cuts(stretches: Stretches, sentences: npt.NDArray[np.bool_]) -> I64:
    """Where segment B begins: a sentence start drawn evenly from those inside the stretch, or its end if none is."""
    starts = np.flatnonzero(sentences)
    after_first = np.searchsorted(starts, stretches.begin, side="right")
    choices = np.searchsorted(starts, stretches.end) - after_first
    chosen = after_first + below(stretches.draws[2], np.maximum(choices, 1))
    return np.where(choices > 0, starts[np.minimum(chosen, len(starts) - 1)], stretches.end)


def _laid_out(
    ids: npt.NDArray[np.int32],
    words: npt.NDArray[np.bool_],
    stretches: Stretches,
    cut: I64,
    documents: npt.NDArray[np.uint64],
    vocabulary: Vocabulary,
) -> Samples:
    paired = cut < stretches.end
    swapped = paired & (stretches.draws[3] < np.uint64(2**31))
    a_begin, a_end = np.where(swapped, cut, stretches.begin), np.where(swapped, stretches.end, cut)
    b_begin, b_end = np.where(swapped, stretches.begin, cut), np.where(swapped, cut, stretches.end)
    one = np.ones(len(cut), np.int64)
    # The two special ids stand after the documents' own, so that one gather lays out whole samples.
    cls, sep = len(ids) * one, (len(ids) + 1) * one
    begins = np.stack([cls, a_begin, sep, b_begin, sep], axis=1)
    lengths = np.stack([one, a_end - a_begin, one, b_end - b_begin, paired.astype(np.int64)], axis=1)
    tokens = ranges(begins.ravel(), lengths.ravel())
    segment_begins = np.cumsum(lengths.ravel()) - lengths.ravel()
    units = np.concatenate([words, [True, True]])[tokens]
    units[segment_begins[lengths.ravel() > 0]] = True
    return Samples(
        ids=np.concatenate([ids, [vocabulary.cls, vocabulary.sep]]).astype(np.int32)[tokens],
        words=units,
        lengths=lengths.sum(axis=1),
        first=lengths[:, 1],
        order=np.where(paired, swapped, NO_PAIR).astype(np.int8),
        documents=documents[stretches.document],
        numbers=stretches.number.astype(np.uint32),
    )

"""Documents of ids become samples, without losing or doubling a token.

After ALBERT (Lan et al. 2020, section 3.1): a sample is a stretch of one document, cut in two at a sentence
boundary, and half of the pairs stand swapped; or, after BERT (Devlin et al. 2019), half of them have the second
segment of another document. Unlike in the original scripts nothing is truncated or copied: the stretches of a
document follow one another and cover it, and second segments change places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples, ranges
from data_tools.samples.strangers import strangers
from data_tools.shards.keyed_rng import below, draws, key_of
from data_tools.text.interface import Vocabulary

NO_PAIR = -1
_SHORTEST = 2
_SLACK = 32  # of a sample's room, the part that is left free where second segments change places
_HALF = np.uint64(2**31)
_DRAWN_AT_ONCE = 4096

Stop = Callable[[I64, I64, I64], I64]  # where stretches end, from their begin, aim and the end of their document


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """How documents become samples.

    Attributes:
        seq_length: tokens of a sample at most, special tokens included.
        short_share: share of samples aimed at a random shorter length, so that the model meets short inputs.
        objective: what the second segment is for: half of the pairs swapped, for sentence-order prediction (sop);
            half with the second segment of a stranger, a sample of another document in the same part of the corpus,
            for next-sentence prediction (nsp), or fewer than half where one document fills most of a part; or no
            second segment (none).
        pack: fill samples to the last token, the short ones to their shorter length, instead of ending each with a
            sentence; only what ends a document is shorter.
    """

    seq_length: int = 128
    short_share: float = 0.1
    objective: Literal["sop", "nsp", "none"] = "sop"
    pack: bool = False

    def __post_init__(self) -> None:
        problems = []
        if not 8 <= self.seq_length <= 65535:
            problems.append(f"seq_length {self.seq_length} is not within 8 and 65535")
        if not 0 <= self.short_share <= 1:
            problems.append(f"short_share {self.short_share} is not a share")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def slack(self) -> int:
        """Tokens that a sample's second segment may be longer than the one it stands for."""
        return (self.seq_length - 3) // _SLACK if self.objective == "nsp" and not self.pack else 0

    @property
    def room(self) -> int:
        """Tokens of a stretch, at most."""
        return self.seq_length - (2 if self.objective == "none" else 3) - self.slack


@dataclasses.dataclass(frozen=True)
class Stretches:
    """Where samples lie in the ids of many documents: token ``begin`` to ``end``, of the document at ``document``; with
    two draws of each, uint32 [2, samples]: where it is cut, and whether its segments change places."""

    begin: I64
    end: I64
    document: I64
    number: I64
    draws: npt.NDArray[np.uint32]


def pair(
    ids: npt.NDArray[np.int32],
    lengths: I64,
    sentences: npt.NDArray[np.bool_],
    words: npt.NDArray[np.bool_],
    documents: npt.NDArray[np.uint64],
    sources: npt.NDArray[np.uint16],
    config: PairConfig,
    vocabulary: Vocabulary,
    seed: int,
) -> Samples:
    """The samples of many documents.

    Where the objective is nsp they depend on which documents come together, else on each document alone. Second
    segments then change places among samples whose first segments are about as long, so that they fit: a stretch
    leaves as much room free as first segments of one kind differ in length, none where samples are packed.

    Args:
        ids: [tokens], the documents end to end, no special tokens.
        lengths: [documents], tokens of each, all positive.
        sentences: [tokens], whether a sentence begins at the token.
        words: [tokens], whether a word begins at the token.
        documents: [documents], keys.
        sources: [documents], number of each one's source.
    """
    stretches = _stretches(lengths, sentences, words, documents, config, seed)
    if config.objective == "none":
        return _laid_out(ids, words, stretches, stretches.end, documents, sources, vocabulary)
    cut = _cuts(stretches, sentences, config)
    if config.objective == "sop":
        return _laid_out(ids, words, stretches, cut, documents, sources, vocabulary, swapped=stretches.draws[1] < _HALF)
    chosen = np.flatnonzero((cut < stretches.end) & (stretches.draws[1] < _HALF))
    alike = (cut - stretches.begin)[chosen] // (config.slack + 1)
    second = np.arange(len(cut))
    second[chosen] = chosen[strangers(documents[stretches.document[chosen]], alike)]
    return _laid_out(ids, words, stretches, cut, documents, sources, vocabulary, second=second)


def _stretches(
    lengths: I64,
    sentences: npt.NDArray[np.bool_],
    words: npt.NDArray[np.bool_],
    documents: npt.NDArray[np.uint64],
    config: PairConfig,
    seed: int,
) -> Stretches:
    """Cut every document into stretches. The n-th stretches of all documents are cut at once."""
    room = config.room
    key = key_of(seed, "pairs")
    stop_of = _packed(sentences, config) if config.pack else _whole_sentences(sentences, words, room)
    document = np.arange(len(lengths))
    ends = np.cumsum(lengths)
    position = ends - lengths
    rounds = []
    number = drawn = 0
    while len(document):
        if number == drawn:
            # Few documents are left where one is long: then many rounds are drawn at once.
            ahead = np.arange(drawn, drawn + max(1, _DRAWN_AT_ONCE // len(document)), dtype=np.uint32)
            drawn += len(ahead)
            short, length, *others = draws(key, documents[document], ahead[:, None])
            is_short = short < np.uint64(round(config.short_share * 2**32))
            wanted = np.where(is_short, _SHORTEST + below(length, room - _SHORTEST + 1), room)
            left = np.stack(others)
            of_document = np.arange(len(document))
        target = position + wanted[number - drawn, of_document]
        last = ends[document]
        stop = np.where(target >= last, last, stop_of(position, target, last))
        draw = left[:, number - drawn, of_document]
        rounds.append(Stretches(position, stop, document, np.full(len(document), number), draw))
        unfinished = stop < last
        document, position, of_document = document[unfinished], stop[unfinished], of_document[unfinished]
        number += 1
    return Stretches(
        begin=np.concatenate([one.begin for one in rounds]),
        end=np.concatenate([one.end for one in rounds]),
        document=np.concatenate([one.document for one in rounds]),
        number=np.concatenate([one.number for one in rounds]),
        draws=np.concatenate([one.draws for one in rounds], axis=1),
    )


def _whole_sentences(sentences: npt.NDArray[np.bool_], words: npt.NDArray[np.bool_], room: int) -> Stop:
    """Stretches of whole sentences; one too long for a sample is cut after a word, and a word too long anywhere."""
    of_sentences, of_words = _starts(sentences), _starts(words)

    def stop(position: I64, target: I64, last: I64) -> I64:
        stops = _last(of_sentences, np.minimum(target, last - 1))
        long = np.flatnonzero(stops <= position)
        if len(long):
            stops[long] = after_one(position[long], last[long])
        return stops

    def after_one(position: I64, last: I64) -> I64:
        """After the first sentence, which is longer than was aimed at, or within it."""
        limit = position + room
        sentence_end = np.minimum(_next(of_sentences, position), last)
        whole_words = _last(of_words, np.minimum(limit, last - 1))
        within_sentence = np.where(whole_words > position, whole_words, limit)
        return np.where(sentence_end <= limit, sentence_end, within_sentence)

    return stop


def _packed(sentences: npt.NDArray[np.bool_], config: PairConfig) -> Stop:
    """Stretches as long as they are to be; and a token longer where no sentence begins inside, for such a sample is
    no pair and has one special token less."""
    if config.objective == "none":
        return lambda position, target, last: target
    starts = _starts(sentences)
    return lambda position, target, last: np.where(_next(starts, position) >= target, target + 1, target)


def _starts(flags: npt.NDArray[np.bool_]) -> I64:
    """The places that are flagged, the first among them, and the end."""
    return np.append(np.flatnonzero(flags), len(flags))


def _last(starts: I64, place: I64) -> I64:
    """For each place the last start at or before it."""
    return starts[starts.searchsorted(place, side="right") - 1]


def _next(starts: I64, place: I64) -> I64:
    """For each place the first start after it."""
    return starts[starts.searchsorted(place, side="right")]


def _cuts(stretches: Stretches, sentences: npt.NDArray[np.bool_], config: PairConfig) -> I64:
    """Where segment B begins: a sentence start drawn evenly from those inside the stretch, or its end if none is.
    One at the very end of a stretch that is too long for a pair does not count.
    """
    starts = np.flatnonzero(sentences)
    after_first = np.searchsorted(starts, stretches.begin, side="right")
    inside = np.minimum(stretches.end, stretches.begin + config.room)
    choices = np.searchsorted(starts, inside) - after_first
    chosen = after_first + below(stretches.draws[0], np.maximum(choices, 1))
    return np.where(choices > 0, starts[np.minimum(chosen, len(starts) - 1)], stretches.end)


def _laid_out(
    ids: npt.NDArray[np.int32],
    words: npt.NDArray[np.bool_],
    stretches: Stretches,
    cut: I64,
    documents: npt.NDArray[np.uint64],
    sources: npt.NDArray[np.uint16],
    vocabulary: Vocabulary,
    swapped: npt.NDArray[np.bool_] | None = None,
    second: I64 | None = None,
) -> Samples:
    """The samples of stretches cut in two.

    Args:
        swapped: bool [samples], whether the second part stands first, if it is not empty.
        second: int64 [samples], the sample whose second part stands second.
    """
    paired = cut < stretches.end
    a_begin, a_end, b_begin, b_end = stretches.begin, cut, cut, stretches.end
    changed = np.zeros(len(cut), bool)
    if swapped is not None:
        changed = paired & swapped
        a_begin, b_begin = np.where(changed, b_begin, a_begin), np.where(changed, a_begin, b_begin)
        a_end, b_end = np.where(changed, b_end, a_end), np.where(changed, a_end, b_end)
    if second is not None:
        changed = second != np.arange(len(cut))
        b_begin, b_end = b_begin[second], b_end[second]
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
        order=np.where(paired, changed, NO_PAIR).astype(np.int8),
        documents=documents[stretches.document],
        numbers=stretches.number.astype(np.uint32),
        sources=sources[stretches.document],
    )
